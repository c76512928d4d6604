"""Search for secret values in the tree of cameras.yaml, so that logs can redact them.

The search reads the tree instead of the models, so it also finds values that the models reject. It includes unknown
keys whose names resemble those of secrets, because the value of a mistyped key (`pasword`) is also a secret.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from nvision_hub.config.url import Address, unescape
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import InvalidValueError
from nvision_hub.redaction import secret_parameters

if TYPE_CHECKING:
    from nvision_hub.config.yaml_nodes import YamlNode

_SECRET_KEY: Final = re.compile("pass?w|pwd|secret|token|key|credential", re.IGNORECASE)
_SHOWN_KEYS: Final = frozenset(
    {
        "id",
        "name",
        "username",
        "sentinel_username",
        "site",
        "prefix",
        "cameras",
        "classes",
        "elsewhere",
        "hosts",
        "camera_hosts",
        "role",
    }
)
_SHOWN_SECTIONS: Final = frozenset({"labels", "placement", "tls", "proxy"})  # `tls.key` is a file path, not a secret
_WEBHOOK_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix that Standard Webhooks prescribes, no secret
_TOKEN: Final = re.compile(r"(?=[^/]*[A-Z0-9])[^/?#]{8,}")  # a path segment that is more than a lower-case word


def secret_values(tree: YamlNode) -> set[str]:
    """Return the secrets in a tree in which variables are already replaced.

    A value that the file also uses openly, such as a camera's id or a host, does not count as a secret. Many log lines
    contain this value. Redacting it there would reveal that it is a password.
    """
    found = _Collector()
    found.visit(tree)
    return found.secrets - found.shown


class _Collector:
    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.shown: set[str] = set()

    def visit(self, node: YamlNode, key: str = "", *, is_webhook: bool = False) -> None:
        for name, child in node.entries.items():
            if name in _SHOWN_SECTIONS:
                self.shown.update(scalar.text for _, scalar in child.scalars() if scalar.text)
            else:
                # A value directly in `tokens`, without a role, is a token in the wrong place.
                self.visit(child, "token" if key == "tokens" else name, is_webhook=is_webhook or key == "webhooks")
        for item in node.items:
            self.visit(item, key, is_webhook=is_webhook)
        if node.is_mapping:
            self._visit_login(node, is_webhook=is_webhook or key == "webhooks")
        elif node.text and _SECRET_KEY.search(key):
            self.secrets |= {node.text, node.text.removeprefix(_WEBHOOK_SECRET_PREFIX)}
        elif node.text and key in _SHOWN_KEYS:
            self.shown.add(node.text)

    def _visit_login(self, section: YamlNode, *, is_webhook: bool) -> None:
        """Add the secrets in a section's address, and its user name and password in the form that HTTP clients send."""
        user, password, url = (_text(section, key) for key in ("username", "password", "url"))
        if url is not None:
            address = _parsed(url)
            self.secrets.update(secret_parameters(url), map(unquote, secret_parameters(url)))
            self.shown.add(address.host)
            user = user if address.username is None else address.username
            password = address.password.reveal() if address.password else password
            if is_webhook:
                self.secrets |= {address.path, *_TOKEN.findall(address.path)}
                self.secrets |= {address.username} if address.username and not address.password else set()
        if password is not None:
            self.secrets.add(password)
            login = f"{user or ''}:{password}".encode(errors="surrogateescape")
            self.secrets.add(base64.b64encode(login).decode().rstrip("="))


def _text(section: YamlNode, key: str) -> str | None:
    node = section.child(key)
    return None if node is None else node.text or None


def _parsed(url: str) -> Address:
    """Parse an address. In an invalid address, everything before the last @ counts as user name and password."""
    try:
        return Address.parse(url)
    except InvalidValueError:
        scheme, _, rest = url.rpartition("://")
        username, _, password = rest.rpartition("@")[0].partition(":")
        return Address(scheme, None, Secret(unescape(password or username)))

"""A real Home Assistant with its MQTT integration, inside the Debian 13 system that `make test-release` installs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.camera_programs import free_port
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT_VARIABLE: Final = "NVISION_HUB_HOME_ASSISTANT"  # the folder that tests/peers/home_assistant_root creates
_INSTALL_S: Final = 600  # the first start installs the packages of the integrations
_STAMP: Final = "2026-01-01T00:00:00+00:00"
_KEY: Final = "0" * 64
# The mounts are in a separate namespace, so they end with the program.
_ENTER: Final = """
mkdir -p "$1/srv/config" && mount --bind "$2" "$1/srv/config"
mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev"
exec chroot "$1" env -i PATH=/srv/ha/bin:/usr/bin:/bin HOME=/srv LANG=C.UTF-8 \\
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt /srv/ha/bin/hass -c /srv/config
"""


class HomeAssistant(Server):
    """Home Assistant, connected to an MQTT broker on loopback."""

    def __init__(self, root: Path, folder: Path, broker_port: int) -> None:
        self._port = free_port()
        self._log = folder / "output.log"
        (folder / "configuration.yaml").write_text(
            f"homeassistant:\nhttp: {{server_host: 127.0.0.1, server_port: {self._port}}}\napi:\n"
        )
        storage = folder / ".storage"
        storage.mkdir()
        for key, content in (
            ("core.config_entries", {"minor_version": 5, "data": {"entries": [_mqtt_entry(broker_port)]}}),
            ("auth", {"minor_version": 1, "data": _auth()}),
        ):
            (storage / key).write_text(json.dumps({"version": 1, "key": key, **content}))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", root, folder],
                stdout=log,
                stderr=log,
                text=True,
            )

    def states(self) -> dict[str, str]:
        """Return the state of each entity; empty while Home Assistant is starting."""
        return {entity["entity_id"]: entity["state"] for entity in self._get("states") or []}

    def version(self) -> str:
        found: dict[str, str] = self._get("config") or {}
        return found["version"]

    def wait_until(self, condition: Callable[[dict[str, str]], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait until the condition holds for the states."""
        deadline = time.monotonic() + timeout_s
        while not condition(states := self.states()):
            is_over = self.process.poll() is not None or time.monotonic() > deadline
            assert not is_over, f"{states}\n{self._log.read_text(errors='replace')[-5000:]}"
            time.sleep(0.5)

    def _get(self, path: str) -> Any:
        """Return the response of the REST API; None while Home Assistant does not respond."""
        url = f"http://127.0.0.1:{self._port}/api/{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {_token()}"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310 - likewise
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error}") from error
        except OSError:
            return None


def _mqtt_entry(port: int) -> dict[str, Any]:
    return {
        "created_at": _STAMP,
        "modified_at": _STAMP,
        "data": {"broker": "127.0.0.1", "port": port},
        "disabled_by": None,
        "discovery_keys": {},
        "domain": "mqtt",
        "entry_id": "01JGFJJZ00000000000000MQTT",
        "version": 1,
        "minor_version": 2,
        "options": {},
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "source": "user",
        "subentries": [],
        "title": "mqtt",
        "unique_id": None,
    }


def _auth() -> dict[str, Any]:
    """Return an owner account with a token that does not expire."""
    user = {"id": "owner", "group_ids": ["system-admin"], "is_owner": True, "is_active": True, "name": "test"}
    token = {
        "id": "token",
        "user_id": "owner",
        "client_id": None,
        "client_name": "test",
        "client_icon": None,
        "token_type": "long_lived_access_token",
        "created_at": _STAMP,
        "access_token_expiration": 315360000.0,
        "token": _KEY,
        "jwt_key": _KEY,
        "last_used_at": None,
        "last_used_ip": None,
        "expire_at": None,
        "credential_id": None,
        "version": None,
    }
    return {
        "users": [{**user, "system_generated": False, "local_only": False}],
        "groups": [{"id": "system-admin", "name": "Administrators"}],
        "credentials": [],
        "refresh_tokens": [token],
    }


def _token() -> str:
    """Return the access token of the owner: a JSON Web Token with HS256 (RFC 7519)."""
    now = int(time.time())
    parts = ({"alg": "HS256", "typ": "JWT"}, {"iss": "token", "iat": now - 60, "exp": now + 3600})
    text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_base64(hmac.digest(_KEY.encode(), text.encode(), hashlib.sha256))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def home_assistant(tmp_path: Path) -> Iterator[Callable[[int], HomeAssistant]]:
    """Start Home Assistant: `home_assistant(broker.port)`."""
    root = os.environ.get(ROOT_VARIABLE)
    if not root or not Path(root).exists():
        pytest.skip(f"{ROOT_VARIABLE} names no Home Assistant; `make test-release` as root installs one")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can change the root directory; run this test as root")
    started: list[HomeAssistant] = []

    def start(broker_port: int) -> HomeAssistant:
        folder = tmp_path / "home-assistant"
        folder.mkdir()
        started.append(HomeAssistant(Path(root), folder, broker_port))
        started[-1].wait_until(bool, _INSTALL_S)
        return started[-1]

    yield start
    for each in started:
        each.kill()

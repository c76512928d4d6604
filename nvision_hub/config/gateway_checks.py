"""Rules that involve several keys of the section `gateway`: who can reach the gateway, and what protects it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.config.server_addresses import ListenAddress
from nvision_hub.errors import Diagnostic, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.config.yaml_nodes import YamlNode

_TRUE: Final = frozenset({"true", "yes", "on", "1", "t", "y"})  # the words that pydantic reads as true
_SET_TOKENS: Final = "set `gateway.token` or `gateway.tokens`, or create one with `nvision-hub token create`"


def gateway_checks(tree: YamlNode, *, has_stored_tokens: Callable[[], bool]) -> Iterator[Diagnostic]:
    """Yield the problems of the section `gateway`.

    `has_stored_tokens` returns whether the state directory has tokens that `nvision-hub token` created.
    """
    gateway = tree.child("gateway")
    if gateway is None or not gateway.is_mapping:
        return
    tokens = [*_tokens(gateway)]
    proxy = gateway.child("proxy")
    has_proxy = proxy is not None and bool(proxy.entries)
    user_header = None if proxy is None else proxy.child("user_header")
    has_users = has_proxy and (user_header is None or _is_given(user_header))
    listen, hosts = gateway.child("listen"), gateway.child("hosts")
    is_public, is_named = listen is not None and _is_public(listen), hosts is not None and bool(hosts.items)
    needs_tokens = (
        (is_public or is_named)
        and not has_users
        and not any(_is_given(node) for _, node in tokens)
        and not has_stored_tokens()
    )
    if listen is not None and is_public:
        message = "other machines can reach this address"
        if needs_tokens:
            fix = f"{_SET_TOKENS}, or listen on 127.0.0.1"
            yield listen.diagnostic("token_required", message, ("gateway", "listen"), fix=fix)
        tls = gateway.child("tls")
        if not has_proxy and not (tls is not None and tls.entries) and not _is_true(gateway.child("insecure")):
            fix = (
                "set `gateway.tls`, declare the reverse proxy in `gateway.proxy`, or write `gateway.insecure: true` if "
                "no attacker can read this network"
            )
            message += ", and the connection is not encrypted"
            yield listen.diagnostic("tls_required", message, ("gateway", "listen"), fix=fix)
    if hosts is not None and is_named and needs_tokens:
        message = "other machines can reach the gateway under these names"
        yield hosts.diagnostic("token_required", message, ("gateway", "hosts"), fix=_SET_TOKENS)
    first: dict[str, str] = {}
    for name, node in tokens:
        if node.text and first.setdefault(node.text, name) != name:
            message = f"is the same as the token of `{first[node.text]}`"
            path = ("gateway", "tokens", name, "token")
            yield node.diagnostic("duplicate_token", message, path, fix="give each user a token of their own")
    yield from _health_listener(gateway)


def _health_listener(gateway: YamlNode) -> Iterator[Diagnostic]:
    node, path = gateway.child("health_listen"), ("gateway", "health_listen")
    listen, health = _address(gateway.child("listen")), _address(node)
    if node is None or listen is None or health is None or health.off:
        return
    if listen.off:
        message, fix = "there is no gateway that responds here", "remove it, or set `gateway.listen`"
        yield node.diagnostic("unused_key", message, path, fix=fix)
    elif health.port and health.port == listen.port:
        message, fix = "is the port of `gateway.listen`", f"choose another port, such as {health.port + 1}"
        yield node.diagnostic("port_conflict", message, path, fix=fix)


def _tokens(gateway: YamlNode) -> Iterator[tuple[str, YamlNode]]:
    single, tokens = gateway.child("token"), gateway.child("tokens")
    if single is not None:
        yield "gateway.token", single
    for name, entry in ({} if tokens is None else tokens.entries).items():
        if (node := entry.child("token")) is not None:
            yield name, node


def _address(node: YamlNode | None) -> ListenAddress | None:
    """Return the address of a listener; None if it is missing or invalid. The models report an invalid address."""
    try:
        return None if node is None or node.text is None else ListenAddress.parse(node.text)
    except InvalidValueError:
        return None


def _is_public(node: YamlNode) -> bool:
    """Return whether other machines can reach the address; False for an invalid one, which the models report."""
    listen = _address(node)
    return listen is not None and not listen.loopback


def _is_true(node: YamlNode | None) -> bool:
    return node is not None and (node.text or "").lower() in _TRUE


def _is_given(node: YamlNode) -> bool:
    """Return whether the setting has a value: a non-empty string, or a string with an unresolvable reference."""
    return node.is_invalid or bool(node.text)

"""What relates one key of cameras.yaml to another. Knows the rules between keys; each key's own is in `models.py`.

These work on the tree, not on the models, so that they report beside a model's own problems and not after them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.config.address import Listen, MqttAddress, ServiceAddress
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.suggestion import did_you_mean
from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.problem import Loc, Problem

_NETWORK_ONLY = ("username", "password")


def checks(effective: Mapping, written: Mapping) -> Iterator[Problem]:
    """Problems between keys: of the cameras as they would run, told where they are written."""
    yield from _unique_ids(written, "cameras")
    yield from _unique_ids(written, "webhooks")
    yield from _known_cameras(written)
    yield from _keys_of_services(effective, written)
    yield from _credentials_once(written)
    yield from _guarded_gateway(written)
    yield from _guarded_proxy(written)
    yield from _mqtt_credentials_once(written)


def _unique_ids(tree: Mapping, section: str) -> Iterator[Problem]:
    first: dict[str, Scalar] = {}
    for index, entry in _entries(tree, section):
        node = entry.child("id")
        if not isinstance(node, Scalar) or not node.text or node.spoilt:
            continue
        earlier = first.setdefault(node.text, node)
        if earlier is not node:
            yield node.problem(
                f"is also the id on line {earlier.place.line}; each needs its own", (section, index, "id")
            )


def _known_cameras(tree: Mapping) -> Iterator[Problem]:
    ids = [node.text for _, entry in _entries(tree, "cameras") if isinstance(node := entry.child("id"), Scalar)]
    elsewhere = tree.child("elsewhere")
    if isinstance(elsewhere, Sequence):
        ids += [node.text for node in elsewhere.items if isinstance(node, Scalar)]
    known = [camera_id for camera_id in ids if camera_id]
    for index, webhook in _entries(tree, "webhooks"):
        wanted = webhook.child("cameras")
        for place, node in enumerate(wanted.items if isinstance(wanted, Sequence) else []):
            if isinstance(node, Scalar) and node.text and not node.spoilt and node.text not in known:
                loc = ("webhooks", index, "cameras", place)
                yield node.problem(f"no camera has this id{did_you_mean(node.text, known)}", loc)


def _keys_of_services(effective: Mapping, written: Mapping) -> Iterator[Problem]:
    for index, camera in _entries(effective, "cameras"):
        nvision = camera.child("nvision")
        if nvision is None or _is_given(nvision.child("streaming_key")):
            continue
        url = nvision.child("url")
        if not isinstance(url, Scalar) or url.spoilt or _is_local(url.text):
            continue
        loc: Loc = ("cameras", index, "nvision")
        if written.at(loc) is None:
            loc = ("nvision",) if written.at(("nvision", "url")) is url else ("defaults", "nvision")
        node = (written.at((*loc, "streaming_key"))) or written.at(loc) or nvision
        sentence = (
            "is missing; copy the service's streaming key from the Nvision portal, "
            "or write `url: local` to use the service that comes with nvision-hub"
        )
        yield node.problem(sentence, (*loc, "streaming_key"))


def _credentials_once(tree: Mapping) -> Iterator[Problem]:
    for index, camera in _entries(tree, "cameras"):
        address = _address(camera.child("url"))
        if address is None:
            continue
        for key in _NETWORK_ONLY:
            node = camera.child(key)
            if node is None or not _is_given(node):
                continue
            if address.url is None:
                sentence = f"means nothing for a {address.kind} camera; remove it"
            elif getattr(address, key) is not None:
                sentence = f"the {key} is in `url` too; give it once"
            else:
                continue
            yield node.problem(sentence, ("cameras", index, key))


def _guarded_gateway(tree: Mapping) -> Iterator[Problem]:
    listen = tree.at(("gateway", "listen"))
    if (
        not isinstance(listen, Scalar)
        or listen.text is None
        or listen.spoilt
        or _is_given(tree.at(("gateway", "token")))
    ):
        return
    try:
        reachable = not Listen.parse(listen.text).loopback
    except ValueError:
        return  # the model tells what is wrong with it
    if reachable:
        sentence = "others can reach this address, so `token:` must be set beside it; or listen on 127.0.0.1"
        yield listen.problem(sentence, ("gateway", "listen"))


def _guarded_proxy(tree: Mapping) -> Iterator[Problem]:
    hosts = tree.at(("gateway", "hosts"))
    if isinstance(hosts, Sequence) and hosts.items and not _is_given(tree.at(("gateway", "token"))):
        sentence = "others can reach the gateway under these names, so `token:` must be set beside them"
        yield hosts.problem(sentence, ("gateway", "hosts"))


def _mqtt_credentials_once(tree: Mapping) -> Iterator[Problem]:
    address = _mqtt_address(tree.at(("mqtt", "url")))
    if address is None:
        return
    given = {key: node for key in _NETWORK_ONLY if (node := tree.at(("mqtt", key))) is not None and _is_given(node)}
    for key, node in given.items():
        if getattr(address.url, key) is not None:
            yield node.problem(f"the {key} is in `url` too; give it once", ("mqtt", key))
        elif key == "password" and address.url.username is None and "username" not in given:
            sentence = "MQTT knows no password without a user name; add `username:` beside it"
            yield node.problem(sentence, ("mqtt", key))


def _mqtt_address(node: Node | None) -> MqttAddress | None:
    if not isinstance(node, Scalar) or not node.text or node.spoilt:
        return None
    try:
        return MqttAddress.parse(node.text)
    except ValueError:
        return None  # the model tells what is wrong with it


def _entries(tree: Mapping, section: str) -> Iterator[tuple[int, Mapping]]:
    entries = tree.child(section)
    for index, entry in enumerate(entries.items if isinstance(entries, Sequence) else []):
        if isinstance(entry, Mapping):
            yield index, entry


def _is_given(node: Node | None) -> bool:
    """Whether a value stands there; a spoilt one does, and has its own problem."""
    return isinstance(node, Scalar) and (node.spoilt or bool(node.text))


def _is_local(url: str | None) -> bool:
    """Whether no key is needed; also for an address that the model refuses, which is one problem enough."""
    try:
        return url is None or ServiceAddress.parse(url).local
    except ValueError:
        return True


def _address(node: Node | None) -> CameraAddress | None:
    if not isinstance(node, Scalar) or node.text is None or node.spoilt:
        return None
    try:
        return CameraAddress.parse(node.text)
    except ValueError:
        return None

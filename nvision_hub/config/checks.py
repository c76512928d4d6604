"""Rules that involve several keys of cameras.yaml. `models.py` has the rules for single keys.

The checks read the YAML tree instead of the models, so they also run when the models reject the file. The user
therefore sees all diagnostics at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.gateway_checks import gateway_checks
from nvision_hub.config.redis_checks import redis_checks
from nvision_hub.config.server_addresses import MqttAddress, ServiceAddress
from nvision_hub.errors import Diagnostic, KeyPath, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.config.url import Address
    from nvision_hub.config.value_types import ConfigString
    from nvision_hub.config.yaml_nodes import YamlNode

_Value = TypeVar("_Value", bound="ConfigString")


def checks(effective: YamlNode, written: YamlNode, *, has_stored_tokens: Callable[[], bool]) -> Iterator[Diagnostic]:
    """Yield the problems that involve several keys.

    In `effective`, each camera includes the settings of `defaults` and `nvision`. `written` is the tree of the file and
    supplies the locations. `has_stored_tokens` returns whether the state directory contains tokens for the gateway.
    """
    yield from _any_camera(written)
    yield from _unique_ids(written, "cameras")
    yield from _unique_ids(written, "webhooks")
    yield from _known_cameras(written)
    yield from _known_zones(effective, written)
    yield from _streaming_keys(effective, written)
    yield from _labels(written)
    yield from gateway_checks(written, has_stored_tokens=has_stored_tokens)
    yield from redis_checks(written)
    for index, camera in _entries(written, "cameras"):
        address = _parsed(CameraAddress, camera.child("url"))
        yield from _models(camera, ("cameras", index))
        yield from _credentials(camera, ("cameras", index), address)
        yield from _tls(camera, ("cameras", index), address)
        yield from _motion_source(camera, effective.at(("cameras", index)), ("cameras", index), address)
    mqtt = written.child("mqtt")
    if mqtt is not None:
        broker = _parsed(MqttAddress, mqtt.child("url"))
        yield from _credentials(mqtt, ("mqtt",), broker)
        yield from _mqtt_password(mqtt, broker)


def _any_camera(written: YamlNode) -> Iterator[Diagnostic]:
    cameras, include = written.child("cameras"), written.child("include")
    if include is not None and (include.is_invalid or include.value):
        return  # the hub waits until the included files contain cameras
    if cameras is None or cameras.value is None or cameras.value == []:
        message = "is missing or empty, so there is nothing to run"
        fix = "add a camera, such as `- {id: lobby, url: demo://street}`"
        yield (cameras or written).diagnostic("missing_key", message, ("cameras",), fix=fix)


def _unique_ids(tree: YamlNode, section: str) -> Iterator[Diagnostic]:
    first: dict[str, YamlNode] = {}
    for index, entry in _entries(tree, section):
        node = entry.child("id")
        if node is None or not node.text:
            continue
        earlier = first.setdefault(node.text, node)
        if earlier is not node:
            place = f" of {earlier.file}" if earlier.file != node.file else ""
            message = f"duplicates the id on line {earlier.line}{place}"
            fix = f"give each of the {section} a unique id"
            yield node.diagnostic("duplicate_id", message, (section, index, "id"), fix=fix)


def _known_cameras(tree: YamlNode) -> Iterator[Diagnostic]:
    ids = [entry.child("id") for _, entry in _entries(tree, "cameras")]
    ids += _items(tree.child("elsewhere"))
    known = [node.text for node in ids if node is not None and node.text]
    for index, webhook in _entries(tree, "webhooks"):
        for position, node in enumerate(_items(webhook.child("cameras"))):
            if node.text and node.text not in known:
                message = f"no camera has this id{did_you_mean(node.text, known)}"
                yield node.diagnostic("unknown_camera", message, ("webhooks", index, "cameras", position))


def _known_zones(effective: YamlNode, written: YamlNode) -> Iterator[Diagnostic]:
    if _items(written.child("elsewhere")):
        return  # this file does not define the zones of cameras in `elsewhere`
    cameras = [camera.child("zones") for _, camera in _entries(effective, "cameras")]
    sections = (written.at(("defaults", "zones")), *cameras)
    known = sorted({name for section in sections if section is not None for name in section.entries})
    for index, webhook in _entries(written, "webhooks"):
        for position, node in enumerate(_items(webhook.child("zones"))):
            if node.text and node.text not in known:
                message = f"no camera has a zone with this id{did_you_mean(node.text, known)}"
                yield node.diagnostic("unknown_zone", message, ("webhooks", index, "zones", position))


def _streaming_keys(effective: YamlNode, written: YamlNode) -> Iterator[Diagnostic]:
    for index, camera in _entries(effective, "cameras"):
        nvision, url = camera.child("nvision"), camera.at(("nvision", "url"))
        service = _parsed(ServiceAddress, url)
        if nvision is None or service is None or service.local or _is_given(nvision.child("streaming_key")):
            continue
        path: KeyPath = ("cameras", index, "nvision")
        if written.at(path) is None:
            path = ("nvision",) if written.at(("nvision", "url")) is url else ("defaults", "nvision")
        node = written.at((*path, "streaming_key")) or written.at(path) or nvision
        fix = (
            "copy the service's streaming key from the Nvision portal, "
            "or write `url: local` to use the service that comes with nvision-hub"
        )
        yield node.diagnostic("missing_key", "is missing", (*path, "streaming_key"), fix=fix)


def _labels(written: YamlNode) -> Iterator[Diagnostic]:
    sections: tuple[KeyPath, ...] = (("nvision",), ("defaults", "nvision"))
    models = [written.at((*path, "model")) for path in sections]
    if any(node is not None and _is_given(node) and node.text != "moving" for node in models):
        return
    for path in sections:
        node = written.at((*path, "labels"))
        if node is not None and _is_given(node):
            message = "applies only to a model of your own"
            yield node.diagnostic("unused_key", message, (*path, "labels"), fix="write `model`, too, or remove it")


def _models(camera: YamlNode, path: KeyPath) -> Iterator[Diagnostic]:
    for key in ("model", "labels", "face_model"):
        node = camera.at(("nvision", key))
        if node is not None:
            message = "applies to the local service, which all cameras share"
            fix = "write it in the section `nvision` of the file"
            yield node.diagnostic("not_per_camera", message, (*path, "nvision", key), fix=fix)


def _credentials(section: YamlNode, path: KeyPath, address: Address | None) -> Iterator[Diagnostic]:
    for key in ("username", "password"):
        node = section.child(key)
        if node is None or address is None or not _is_given(node):
            continue
        if not address.host:
            message = f"does not apply to a {address.scheme} camera"
            yield node.diagnostic("unused_key", message, (*path, key), fix="remove it")
        elif getattr(address, key) is not None:
            yield node.diagnostic("given_twice", f"the {key} is also in `url`", (*path, key), fix="give it once")


def _tls(camera: YamlNode, path: KeyPath, address: CameraAddress | None) -> Iterator[Diagnostic]:
    node = camera.child("tls")
    # An ONVIF camera may encrypt its stream even if its ONVIF service is not encrypted.
    if node is None or address is None or address.is_encrypted or address.kind == "onvif" or not _is_given(node):
        return
    message = f"does not apply to a {address.scheme} camera, whose connection is not encrypted"
    encrypted = {"rtsp": "rtsps", "http": "https", "snapshot+http": "snapshot+https"}.get(address.scheme)
    fix = "remove it" if encrypted is None else f"write {encrypted}:// if the camera supports it, or remove `tls`"
    yield node.diagnostic("unused_key", message, (*path, "tls"), fix=fix)


def _motion_source(
    camera: YamlNode, effective: YamlNode | None, path: KeyPath, address: CameraAddress | None
) -> Iterator[Diagnostic]:
    source = None if effective is None else effective.at(("motion", "source"))
    if source is None or source.text != "onvif" or address is None:
        return
    if address.kind != "onvif":
        node = camera.at(("motion", "source")) or camera
        fix = "write the camera's onvif:// address as `url`, or set `motion.source: video`"
        yield node.diagnostic(
            "onvif_required", f"does not apply to a {address.scheme} camera", (*path, "motion", "source"), fix=fix
        )
    for key in ("sensitivity", "idle_fps", "ignore"):
        if (unused := camera.at(("motion", key))) is not None:
            message = "does not apply to motion that the camera reports (`source: onvif`)"
            yield unused.diagnostic("unused_key", message, (*path, "motion", key), fix="remove it")


def _mqtt_password(mqtt: YamlNode, address: Address | None) -> Iterator[Diagnostic]:
    node = mqtt.child("password")
    if node is None or address is None or not _is_given(node) or address.password is not None:
        return
    if address.username is None and not _is_given(mqtt.child("username")):
        message = "MQTT 3.1.1 does not allow a password without a user name"
        yield node.diagnostic("username_required", message, ("mqtt", "password"), fix="set `mqtt.username`")


def _parsed(kind: type[_Value], node: YamlNode | None) -> _Value | None:
    """Return the parsed value of a node; None if the node has no valid string. The models report invalid strings."""
    if node is None or node.text is None:
        return None
    try:
        return kind.parse(node.text)
    except ValueError:
        return None


def _entries(tree: YamlNode, section: str) -> Iterator[tuple[int, YamlNode]]:
    for index, entry in enumerate(_items(tree.child(section))):
        if entry.is_mapping:
            yield index, entry


def _items(node: YamlNode | None) -> list[YamlNode]:
    return [] if node is None else node.items


def _is_given(node: YamlNode | None) -> bool:
    """Return whether the setting has a value: a non-empty string, or a string with an unresolvable reference."""
    return node is not None and (node.is_invalid or bool(node.text))

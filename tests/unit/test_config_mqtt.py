"""The section `mqtt` of cameras.yaml: addresses, credentials and diagnostics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nvision_hub.config.load import load
from nvision_hub.config.server_addresses import MqttAddress
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

CAMERA = "cameras: [{id: a, url: demo://street}]\n"


def _write(folder: Path, text: str) -> Path:
    path = folder / "cameras.yaml"
    path.write_text(CAMERA + text)
    return path


@pytest.mark.parametrize(
    ("text", "tls", "host", "port", "shown"),
    [
        ("mqtt://10.0.0.3", False, "10.0.0.3", 1883, "mqtt://10.0.0.3"),
        ("mqtt://10.0.0.3:1884/", False, "10.0.0.3", 1884, "mqtt://10.0.0.3:1884/"),
        ("MQTTS://hub:canary@broker.example", True, "broker.example", 8883, "mqtts://***@broker.example"),
        ("mqtt://[::1]:1883", False, "::1", 1883, "mqtt://[::1]:1883"),
    ],
)
def test_broker_addresses_are_parsed_and_shown_safely(text: str, tls: bool, host: str, port: int, shown: str) -> None:  # noqa: FBT001 - a parameter
    address = MqttAddress.parse(text)
    assert (address.tls, address.host, address.dialed_port) == (tls, host, port)
    assert address.shown == repr(address) == shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://10.0.0.3", "must begin with mqtt:// or mqtts://"),
        ("mqtt://10.0.0.3/nvision", "in `prefix`"),
        ("10.0.0.3:1883", "must begin with"),
    ],
)
def test_invalid_addresses_are_rejected(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        MqttAddress.parse(text)
    assert sentence in str(caught.value)


def test_without_an_address_nothing_is_published(tmp_path: Path) -> None:
    for text in ("", "mqtt:\n", "mqtt: {url: '${MQTT_URL:-}', password: '${P:-}', discovery: null}\n"):
        mqtt = load(_write(tmp_path, text), environ={}).mqtt
        assert (mqtt.url, mqtt.prefix, mqtt.discovery) == (None, "nvision", None)


def test_a_complete_section_is_loaded(tmp_path: Path) -> None:
    mqtt = load(
        _write(
            tmp_path,
            "mqtt: {url: mqtts://b, username: hub, password: '${P}', prefix: home/cctv, discovery: homeassistant}\n",
        ),
        environ={"P": "p@ss:/?#"},
    ).mqtt
    assert mqtt.url is not None
    assert mqtt.url.tls
    assert (mqtt.username, mqtt.password, mqtt.prefix) == ("hub", Secret("p@ss:/?#"), "home/cctv")
    assert mqtt.discovery == "homeassistant"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{url: 'mqtt://u:p@b', username: hub}", "cameras.yaml:2:39: mqtt.username: the username is also in `url`"),
        ("{url: 'mqtt://u:p@b', password: q}", "cameras.yaml:2:39: mqtt.password: the password is also in `url`"),
        ("{url: mqtt://b, password: q}", "cameras.yaml:2:33: mqtt.password: MQTT 3.1.1 does not allow a password"),
        ("{url: mqtt://b, prefix: 'a/+/b'}", "cameras.yaml:2:31: mqtt.prefix: must be letters, digits, _ and -"),
        ("{url: mqtt://b, prefix: '/a'}", "cameras.yaml:2:31: mqtt.prefix: must be letters"),
        ("{url: mqtt://b, discovery: domoticz}", "cameras.yaml:2:34: mqtt.discovery: must be homeassistant"),
        ("{url: mqt://b}", "cameras.yaml:2:13: mqtt.url: must begin with mqtt:// or mqtts://; did you mean `mqtt://`?"),
        ("{url: mqtt://b, topic: a}", "cameras.yaml:2:23: mqtt.topic: unknown key"),
    ],
)
def test_problems_are_reported_with_their_location(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_write(tmp_path, f"mqtt: {text}\n"), environ={})
    (found,) = caught.value.diagnostics
    assert problem in str(found)


def test_a_user_name_in_the_address_may_have_its_password_as_a_key(tmp_path: Path) -> None:
    mqtt = load(_write(tmp_path, "mqtt: {url: mqtt://hub@b, password: q}\n"), environ={}).mqtt
    assert mqtt.url is not None
    assert mqtt.url.username == "hub"

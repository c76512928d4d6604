"""The section `mqtt` of cameras.yaml: where the broker is, who the hub is there, and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nvision_hub.config import MqttAddress, Secret, load
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
def test_brokers(text: str, tls: bool, host: str, port: int, shown: str) -> None:  # noqa: FBT001 - a parameter
    address = MqttAddress.parse(text)
    assert (address.tls, address.host, address.port) == (tls, host, port)
    assert address.shown == repr(address) == shown


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://10.0.0.3", "must begin with mqtt:// or mqtts://"),
        ("mqtt://10.0.0.3/nvision", "goes to `prefix`"),
        ("10.0.0.3:1883", "must begin with"),
    ],
)
def test_what_is_no_broker(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        MqttAddress.parse(text)
    assert sentence in str(caught.value)


def test_without_an_address_nothing_is_passed_on(tmp_path: Path) -> None:
    for text in ("", "mqtt:\n", "mqtt: {url: '${MQTT_URL:-}', password: '${P:-}', discovery: null}\n"):
        mqtt = load(_write(tmp_path, text), environ={}).mqtt
        assert (mqtt.url, mqtt.prefix, mqtt.discovery) == (None, "nvision", None)


def test_a_whole_section(tmp_path: Path) -> None:
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
        ("{url: 'mqtt://u:p@b', username: hub}", "cameras.yaml:2:39: mqtt.username: the username is in `url` too"),
        ("{url: 'mqtt://u:p@b', password: q}", "cameras.yaml:2:39: mqtt.password: the password is in `url` too"),
        ("{url: mqtt://b, password: q}", "cameras.yaml:2:33: mqtt.password: MQTT knows no password without a user"),
        ("{url: mqtt://b, prefix: 'a/+/b'}", "cameras.yaml:2:31: mqtt.prefix: must be letters, digits, _ and -"),
        ("{url: mqtt://b, prefix: '/a'}", "cameras.yaml:2:31: mqtt.prefix: must be letters"),
        ("{url: mqtt://b, discovery: domoticz}", "cameras.yaml:2:34: mqtt.discovery: must be homeassistant"),
        ("{url: mqt://b}", "cameras.yaml:2:13: mqtt.url: must begin with mqtt:// or mqtts://; did you mean `mqtt://`?"),
        ("{url: mqtt://b, topic: a}", "cameras.yaml:2:23: mqtt.topic: unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(_write(tmp_path, f"mqtt: {text}\n"), environ={})
    (told,) = caught.value.problems
    assert problem in told


def test_a_user_name_in_the_address_goes_with_a_password_beside_it(tmp_path: Path) -> None:
    mqtt = load(_write(tmp_path, "mqtt: {url: mqtt://hub@b, password: q}\n"), environ={}).mqtt
    assert mqtt.url is not None
    assert mqtt.url.url.username == "hub"

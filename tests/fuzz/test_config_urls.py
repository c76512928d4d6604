"""Addresses in cameras.yaml and in requests to the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hypothesis import strategies as st

from nvision_hub.broker.discovery import parse_discovery
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.redis_section import Redis
from nvision_hub.config.server_addresses import (
    ListenAddress,
    MqttAddress,
    ServiceAddress,
    WebhookAddress,
)
from nvision_hub.config.url import unescape
from nvision_hub.control_characters import without_control_characters
from nvision_hub.errors import InvalidValueError

if TYPE_CHECKING:
    from nvision_hub.config.url import Address
    from tests.fuzz.harness import Fuzz

SECRET: Final = "canary"
SAMPLES: Final = (
    b"rtsp://viewer:canary@10.0.0.5:554/stream1?channel=1&subtype=0#x",
    b"rtsps://[fe80::1%25eth0]:322/cam",
    b"snapshot+https://viewer:p%40ss@camera.example/shot.jpg",
    b"http://10.0.0.5/a@b:c/video.mjpg",
    b"usb:/dev/video0",
    b"file:clip.mp4",
    b"demo://street",
    b"wss://nvision.nipa.cloud/api",
    b"unix://user:canary@/run/redis.sock?db=1",
    b"rediss://:canary@redis:6379/0",
    b"redis+sentinel://u:canary@10.0.0.2:26379,[::1]/mymaster/0",
    b"rediss+cluster://:canary@10.0.0.2,redis-2:7000",
    b"mqtts://broker:8883",
    b"127.0.0.1:8080",
    b"[::1]:65535",
    b"none",
)
TOKENS: Final = (b"@", b"@10.0.0.9", b"://", b"[", b"]", b"%00", b"%0d%0a", b"%E9", b"..", b":65536", b"?", b"#", b" ")
KINDS: Final = (CameraAddress, ServiceAddress, RedisAddress, WebhookAddress, MqttAddress)
PARTS: Final = st.lists(
    st.sampled_from(
        [
            "user",
            SECRET,
            ":",
            "@",
            "/",
            "10.0.0.5",
            "[::1]",
            "example.com",
            ":554",
            ",",
            "/mymaster/1",
            "?",
            "#",
            "%40",
            "\\",
            "é",
        ]
    ),
    max_size=10,
).map("".join)
BUILT: Final = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        [*CameraAddress.schemes, "ws", "redis", "redis+sentinel", "rediss+cluster", "unix", "mqtt", "RTSP", ""]
    ),
    st.sampled_from(["://", ":", "//", ":///"]),
    PARTS,
).map(str.encode)


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        listen = ListenAddress.parse(text)
    except InvalidValueError:
        pass
    else:
        assert ListenAddress.parse(listen.shown) == listen
    for kind in KINDS:
        try:
            address: Address = kind.parse(text)
        except InvalidValueError:
            continue
        check_accepted(address)


def check_accepted(address: Address) -> None:
    without_control_characters(address.shown)
    if not address.host or address.scheme == address.word:
        return
    # Clients must connect to the host that the hub has read and checked, and send the credentials to no other host.
    if isinstance(address, RedisAddress) and address.topology != "server":
        check_nodes(address)
        return
    dialed = urlsplit(address.dial())
    assert (dialed.hostname or "").lower() == address.host.lower()
    assert dialed.port == address.port
    assert (dialed.username is None) == (address.username is None)
    if address.password is not None and address.password.reveal() == SECRET:
        rest = (address.scheme, address.username or "", address.host, address.path)
        assert SECRET not in address.shown or any(SECRET in part for part in rest)


def check_nodes(address: RedisAddress) -> None:
    """Check the address of Sentinels or of a Cluster, whose clients ask each of its nodes."""
    section = Redis(url=address, prefix="{nvision}")
    discovery = parse_discovery(section.dial())
    assert discovery is not None
    assert discovery.nodes == address.nodes
    for url in (discovery.url, *map(discovery.seed_url, discovery.nodes)):
        dialed = urlsplit(url)
        assert (dialed.hostname, dialed.port) in [(host.lower(), port) for host, port in address.nodes]
    user, _, password = discovery.login.removesuffix("@").partition(":")
    assert (unescape(user), unescape(password)) == (
        address.username or "",
        "" if address.password is None else address.password.reveal(),
    )


def test_addresses(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)

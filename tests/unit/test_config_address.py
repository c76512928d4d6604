"""Addresses: accepted forms, URLs for clients, and text without secrets."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nvision_hub.config.camera_address import DEMO_SCENES, CameraAddress
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.server_addresses import ListenAddress, ServiceAddress, WebhookAddress
from nvision_hub.config.value_types import Secret
from workers.demo.worker import SCENES

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "p@ss:/?#%[] é"

# Control characters are rejected, so that no line can be injected into a request. Lone surrogates are not text.
words = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=64)


@pytest.mark.parametrize(
    ("text", "kind", "dialled"),
    [
        ("rtsp://10.0.0.5/stream1", "rtsp", "rtsp://10.0.0.5/stream1"),
        ("RTSP://10.0.0.5/Stream1", "rtsp", "rtsp://10.0.0.5/Stream1"),
        ("rtsps://cam.example:322/a?b=c", "rtsp", "rtsps://cam.example:322/a?b=c"),
        ("rtsp://[fe80::1%eth0]:554/a", "rtsp", "rtsp://[fe80::1%eth0]:554/a"),
        ("http://camera_1/mjpg", "mjpeg", "http://camera_1/mjpg"),
        ("https://cam.example", "mjpeg", "https://cam.example"),
        ("snapshot+http://10.0.0.5/a b.jpg", "snapshot", "http://10.0.0.5/a%20b.jpg"),
        ("snapshot+https://u:p@10.0.0.5/a.jpg", "snapshot", "https://u:p@10.0.0.5/a.jpg"),
        ("onvif://u:p@10.0.0.5:8000", "onvif", "http://u:p@10.0.0.5:8000"),
        ("onvifs://onvif.example/onvif/device_service", "onvif", "https://onvif.example/onvif/device_service"),
        ("usb:0", "usb", "0"),
        ("usb:/dev/video0", "usb", "/dev/video0"),
        ("file:clip.mp4", "file", "clip.mp4"),
        ("demo://street", "demo", "street"),
    ],
)
def test_each_kind_of_address_is_parsed(text: str, kind: str, dialled: str) -> None:
    address = CameraAddress.parse(text)
    assert (address.kind, address.dial()) == (kind, dialled)
    assert pickle.loads(pickle.dumps(address)) == address  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("text", "username", "password", "host", "path"),
    [
        (f"rtsp://viewer:{HOSTILE}@10.0.0.5/stream1", "viewer", HOSTILE, "10.0.0.5", "/stream1"),
        (f"rtsp://viewer:{HOSTILE}@camera.lan:554/stream1", "viewer", HOSTILE, "camera.lan", "/stream1"),
        ("rtsp://u:p@ss/word@10.0.0.5/s", "u", "p@ss/word", "10.0.0.5", "/s"),
        ("rtsp://u:12/34@10.0.0.5/s", "u", "12/34", "10.0.0.5", "/s"),
        ("rtsp://u:p%40ss@10.0.0.5/s", "u", "p@ss", "10.0.0.5", "/s"),
        ("rtsp://u:100%@10.0.0.5/s", "u", "100%", "10.0.0.5", "/s"),
        ("rtsp://u:%zz%41@10.0.0.5/s", "u", "%zzA", "10.0.0.5", "/s"),
        ("rtsp://u:p@10.0.0.5/live@main", "u", "p", "10.0.0.5", "/live@main"),
        ("http://cam.lan/snap?to=a@b.example", None, None, "cam.lan", "/snap?to=a@b.example"),
        ("rtsp://admin@10.0.0.5/s", "admin", None, "10.0.0.5", "/s"),
        ("rtsp://u:p@@10.0.0.5", "u", "p@", "10.0.0.5", ""),
        ("rtsp://u:p@[::1]:8554/s", "u", "p", "::1", "/s"),
    ],
)
def test_credentials_end_at_the_host(text: str, username: str, password: str, host: str, path: str) -> None:
    address = CameraAddress.parse(text)
    revealed = address.password.reveal() if address.password else None
    assert (address.username, revealed, address.host, address.path) == (username, password, host, path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rtmp://10.0.0.5/live", "RTMP"),
        ("hls://10.0.0.5/live.m3u8", "HLS and DASH"),
        ("wss://10.0.0.5/video", "WebRTC and video over WebSocket"),
        ("SRT://10.0.0.5:9000", "this protocol"),
    ],
)
def test_an_unsupported_protocol_is_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"the hub cannot read {named}; use the camera's RTSP address"):
        CameraAddress.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://u:p@ss/word@camera/s",  # ambiguous: host `ss`, or a password with a slash
        "rtsp://u:p@camera/snap?to=a@b.example",  # the password must not be sent to b.example
        "rtsp://camera:554/live@main",
        "rtsp://u:p@10.0.0.5/a@10.0.0.6/b",
    ],
)
def test_an_address_with_two_readings_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="is ambiguous"):
        CameraAddress.parse(text)


@given(username=words.filter(bool), password=words)
@example(username="viewer", password=HOSTILE)
@example(username="a:b", password="@10.0.0.6/")
def test_the_dialed_url_contains_any_password_given_as_a_key(username: str, password: str) -> None:
    address = CameraAddress.parse("rtsp://10.0.0.5:554/stream1").with_credentials(username, Secret(password))
    dialled = address.dial()
    assert dialled.isascii()
    split = urlsplit(dialled)
    assert (unquote(split.username or ""), unquote(split.password or "")) == (username, password)
    assert (split.hostname, split.port, split.path) == ("10.0.0.5", 554, "/stream1")
    again = CameraAddress.parse(dialled)
    assert again.dial() == dialled
    assert (again.username, again.password or Secret("")) == (username, Secret(password))


@given(password=words.filter(bool))
def test_no_shown_text_contains_the_password(password: str) -> None:
    canary = f"canary{password}canary"
    address = CameraAddress.parse("rtsp://10.0.0.5/s").with_credentials("viewer", Secret(canary))
    assert str(address) == repr(address) == f"{address}" == address.shown == "rtsp://***@10.0.0.5/s"


def test_a_password_that_is_not_utf8_is_dialed_unchanged() -> None:
    assert CameraAddress.parse("rtsp://u:caf%E9@10.0.0.5/").dial() == "rtsp://u:caf%E9@10.0.0.5/"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://10.0.0.5/snap.jpg?user=admin&pwd=canary", "http://10.0.0.5/snap.jpg?***"),
        (
            "rtsp://10.0.0.5/user=admin&password=canary&channel=1.sdp",
            "rtsp://10.0.0.5/user=***&password=***&channel=***",
        ),
        ("snapshot+http://u:canary@10.0.0.5/a.jpg#canary", "snapshot+http://***@10.0.0.5/a.jpg"),
        ("usb:0", "usb:0"),
        ("file:clip.mp4", "file:clip.mp4"),
        ("demo://street", "demo://street"),
    ],
)
def test_shown_addresses_contain_no_value_that_may_be_secret(text: str, shown: str) -> None:
    assert CameraAddress.parse(text).shown == shown


def test_credentials_in_the_url_win_over_those_of_defaults() -> None:
    address = CameraAddress.parse("rtsp://own:word@10.0.0.5/").with_credentials("other", Secret("else"))
    assert address.dial() == "rtsp://own:word@10.0.0.5/"
    assert (
        CameraAddress.parse("rtsp://own@10.0.0.5/").with_credentials(None, Secret("word")).dial()
        == "rtsp://own:word@10.0.0.5/"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rtps://10.0.0.5/", "did you mean `rtsp://`"),
        ("rstp://10.0.0.5/", "did you mean `rtsp://`"),
        ("htp://10.0.0.5/", "did you mean `http"),
        ("snapshot://10.0.0.5/", "did you mean `snapshot+http"),
        ("ftp://10.0.0.5/", "must begin with rtsp://"),
        ("rtsp:x://10.0.0.5/", "is not an address"),
        ("http:file://10.0.0.5/clip.mp4", "is not an address"),
        ("concat:a.mp4|b.mp4", "must begin with"),
        ("subfile,,start,0,end,9,,:a.mp4", "must begin with"),
        ("pipe:0", "must begin with"),
        ("10.0.0.5/stream1", "must begin with"),
        ("", "must begin with"),
        ("rtsp:10.0.0.5", "write `://`"),
        ("rtsp://", "no readable host"),
        ("rtsp://300.0.0.1/", "no readable host"),
        ("rtsp://10.0.0.5:99999/", "a port that is out of range"),
        ("rtsp://10.0.0.5:0/", "a port that is out of range"),
        ("rtsp://[::1/", "no readable host"),
        ("rtsp://u:p@/stream", "no readable host"),
        ("rtsp://10.0.0.5/a\r\nX: y", "control character"),
        ("rtsp://10.0.0.5/" + "a" * 5000, "longer than"),
        ("usb:front", "usb:0"),
        ("usb:/etc/passwd", "usb:0"),
        ("usb:/dev/../etc/passwd", "usb:0"),
        ("file:", "file:clip.mp4"),
        ("demo://", "demo://street"),
        ("demo://../street", "demo://street"),
        ("demo://stret", "did you mean `street`"),
        ("file:a\nb", "control character"),
    ],
)
def test_invalid_camera_addresses_are_rejected_with_a_fix(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        CameraAddress.parse(text)
    assert sentence in str(caught.value)


def test_a_file_must_be_in_the_folder_of_the_configuration(tmp_path: Path) -> None:
    inside = CameraAddress.parse("file:clips/../a.mp4").beside(tmp_path)
    assert inside.dial() == str(tmp_path / "a.mp4")
    assert inside.beside(tmp_path) == inside
    for outside in ("file:/etc/passwd", "file:../a.mp4", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="move or link the file into"):
            CameraAddress.parse(outside).beside(tmp_path)


def test_a_service_is_local_or_a_websocket_base() -> None:
    assert ServiceAddress.parse("local").local
    service = ServiceAddress.parse("wss://nvision.nipa.cloud/api/")
    assert service.stream("face-detection") == "wss://nvision.nipa.cloud/api/v1/face-detection"
    for text, sentence in (
        ("https://nvision.nipa.cloud/api", "did you mean `wss://`"),
        ("http://nvision.nipa.cloud/api", "did you mean `ws://`"),
        ("locl", "did you mean `local`"),
        ("wss://nvision.nipa.cloud/api/v1/object-detection", "base address"),
        ("wss://key@nvision.nipa.cloud/api", "streaming_key"),
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            ServiceAddress.parse(text)
        assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "dialled", "shown"),
    [
        ("redis://10.0.0.2:6379/1", "redis://10.0.0.2:6379/1", "redis://10.0.0.2:6379/1"),
        ("redis://:p@ss/w@10.0.0.2", "redis://:p%40ss%2Fw@10.0.0.2", "redis://***@10.0.0.2"),
        (
            "rediss://u:canary@r.example/0?x=canary",
            "rediss://u:canary@r.example/0?x=canary",
            "rediss://***@r.example/0?***",
        ),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("unix://u:canary@/run/redis.sock", "unix://u:canary@/run/redis.sock", "unix://***@/run/redis.sock"),
        (
            "redis+sentinel://u:can/a@ry@10.0.0.2:26379,s2.example,[::1]:7/mymaster/3",
            "redis+sentinel://u:can%2Fa%40ry@10.0.0.2:26379,s2.example:26379,[::1]:7/mymaster/3",
            "redis+sentinel://***@10.0.0.2:26379,s2.example:26379,[::1]:7/mymaster/3",
        ),
        (
            "REDISS+SENTINEL://10.0.0.2/my-master",
            "rediss+sentinel://10.0.0.2:26379/my-master/0",
            "rediss+sentinel://10.0.0.2:26379/my-master/0",
        ),
        (
            "rediss+cluster://:canary@10.0.0.2,10.0.0.3:7001/",
            "rediss+cluster://:canary@10.0.0.2:6379,10.0.0.3:7001",
            "rediss+cluster://***@10.0.0.2:6379,10.0.0.3:7001",
        ),
    ],
)
def test_redis_addresses_are_parsed_and_shown_without_secrets(text: str, dialled: str, shown: str) -> None:
    address = RedisAddress.parse(text)
    assert not address.embedded
    assert (address.dial(), address.shown, repr(address)) == (dialled, shown, shown)


def test_redis_is_embedded_or_an_address() -> None:
    assert RedisAddress.parse("embedded").embedded
    for text in ("redis:10.0.0.2", "memcached://10.0.0.2", "unix://redis.sock", "embeded"):
        with pytest.raises(ValueError, match=r"must|is no"):
            RedisAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("redis+sentinel://10.0.0.2:26379", "must name the master"),
        ("redis+sentinel://10.0.0.2:26379/", "must name the master"),
        ("redis+sentinel://10.0.0.2/mymaster/one", "must name the master"),
        ("redis+sentinel://10.0.0.2/mymaster?password=canary", "must name the master"),
        ("redis+sentinel://10.0.0.2,/mymaster", "has no readable host"),
        ("redis+sentinel://10.0.0.2,10.0.0.300/mymaster", "has no readable host"),
        ("redis+sentinel://10.0.0.2,u:canary@10.0.0.3/mymaster", "only once, before the first host"),
        ("redis+cluster://10.0.0.2/1", "a Cluster has only database 0"),
        ("redis+cluster://10.0.0.2:70000", "has a port that is out of range"),
        ("redis+clustr://10.0.0.2", "did you mean `redis+cluster://`"),
    ],
)
def test_an_incomplete_address_of_sentinels_or_of_a_cluster_is_rejected(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        RedisAddress.parse(text)
    assert problem in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_webhook_shows_its_host_only() -> None:
    hook = WebhookAddress.parse("https://hooks.example/services/T0/canary?x=canary")
    assert (hook.shown, hook.host) == ("https://hooks.example/***", "hooks.example")
    assert hook.dial() == "https://hooks.example/services/T0/canary?x=canary"


def test_listen_addresses_are_parsed_or_rejected() -> None:
    assert ListenAddress.parse("127.0.0.1:8080") == ListenAddress("127.0.0.1", 8080)
    assert ListenAddress.parse("[::1]:0").loopback
    assert ListenAddress.parse("localhost:1").loopback
    assert not ListenAddress.parse("0.0.0.0:8080").loopback
    assert not ListenAddress.parse("[::]:8080").loopback
    assert not ListenAddress.parse("hub.example:8080").loopback
    assert ListenAddress.parse("[::1]:80").shown == "[::1]:80"
    for text in ("8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "::1:80", "300.1.1.1:80", "[::g]:80"):
        with pytest.raises(ValueError, match="host"):
            ListenAddress.parse(text)


def test_the_configuration_and_the_demo_worker_know_the_same_scenes() -> None:
    assert set(DEMO_SCENES) == set(SCENES)

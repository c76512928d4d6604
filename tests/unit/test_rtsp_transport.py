"""Which transports the hub requests, and the errors for a refused transport."""

from __future__ import annotations

from typing import Any

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources.rtsp_transport import chosen_transport, is_cause, no_media_over_udp, refused, requested

PLAIN = b"v=0\r\nm=video 0 RTP/AVP 96\r\nm=audio 0 RTP/SAVP 0\r\n"
SRTP = b"v=0\r\nm=video 0 RTP/SAVPF 96\r\nm=audio 0 RTP/AVP 0\r\n"


def camera(scheme: str = "rtsp", **settings: Any) -> Camera:
    return Camera.model_validate({"id": "cam", "url": f"{scheme}://10.0.0.5/cam", **settings})


def test_auto_requests_the_last_transport_first() -> None:
    assert requested(camera(), None) == ["tcp", "udp"]
    assert requested(camera(), "tcp") == ["tcp", "udp"]
    assert requested(camera(), "udp") == ["udp", "tcp"]
    assert requested(camera(transport="udp"), None) == ["udp"]
    assert requested(camera(transport="tcp"), "udp") == ["tcp"]


@pytest.mark.parametrize("setting", ["auto", "tcp", "udp"])
def test_encrypted_cameras_never_use_udp(setting: str) -> None:
    assert requested(camera("rtsps", transport=setting), "udp") == ["tcp"]


@pytest.mark.parametrize(
    ("header", "transport"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=0-1", "tcp"),
        ("RTP/AVP;unicast;interleaved=0-1", "tcp"),
        ("RTP/AVP;unicast;client_port=1-2;server_port=3-4", "udp"),
        ("RTP/AVP/UDP;unicast;client_port=1-2", "udp"),
    ],
)
def test_the_response_to_setup_names_the_transport(header: str, transport: str) -> None:
    assert chosen_transport([header]) == transport


@pytest.mark.parametrize(
    ("settings", "description", "words"),
    [
        ({}, PLAIN, "probably sends only multicast"),
        ({"transport": "tcp"}, PLAIN, "set `transport: udp` of this camera"),
        ({"transport": "udp"}, PLAIN, "set `transport: tcp` of this camera"),
        ({}, SRTP, "turn SRTP off"),
        ({"scheme": "rtsps"}, PLAIN, "set the camera to RTP over TCP"),
        ({"scheme": "rtsps", "transport": "udp"}, PLAIN, "set the camera to RTP over TCP"),
    ],
)
def test_the_error_names_the_setting(settings: dict[str, str], description: bytes, words: str) -> None:
    assert words in str(refused(camera(**settings), description, 461))


def test_the_error_for_missing_packets_names_the_firewall() -> None:
    assert str(no_media_over_udp(camera(), 10.0)).endswith("let UDP packets of the camera pass all firewalls")
    assert "or set `transport: auto`" in str(no_media_over_udp(camera(transport="udp"), 10.0))


@pytest.mark.parametrize(
    ("method", "status", "setting", "expected"),
    [
        ("SETUP", 461, "auto", True),
        ("SETUP", 461, "tcp", True),
        ("SETUP", 400, "tcp", True),
        ("SETUP", 400, "auto", False),
        ("PLAY", 400, "tcp", False),
        ("SETUP", 404, "tcp", False),
    ],
)
def test_a_bad_request_is_due_to_the_transport_only_if_one_transport_was_requested(
    method: str, status: int, setting: str, *, expected: bool
) -> None:
    assert is_cause(camera(transport=setting), method, status) is expected

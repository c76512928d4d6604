"""Devices that answer a search, before the first query, and suggestions for their streams."""

from __future__ import annotations

import pytest

from nvision_hub.cli.onvif_discovery import announced
from nvision_hub.cli.onvif_streams import OnvifStream, suggestions
from nvision_hub.cluster import cost_model
from nvision_hub.config.url import MAX_URL_CHARACTERS
from nvision_hub.media.sources.onvif.ws_discovery import ProbeMatch, on_host


def answer(*xaddrs: str, name: str = "") -> ProbeMatch:
    return ProbeMatch(addresses=xaddrs, name=name)


def test_the_ipv4_address_is_preferred_and_devices_are_sorted() -> None:
    devices = announced(
        [
            answer("http://[fe80::2]/x", "http://10.0.0.20/x", name="Gate 1"),
            answer("http://10.0.0.3/x"),
            answer("ftp://h/"),
        ]
    )
    assert [(device.host, device.device, device.name) for device in devices] == [
        ("10.0.0.3", "http://10.0.0.3/x", ""),
        ("10.0.0.20", "http://10.0.0.20/x", "Gate 1"),
    ]


def test_only_addresses_of_the_sender_are_queried() -> None:
    own = "http://10.0.0.3:8080/x"
    match = answer("http://10.0.0.66/x", own, "http://[", "http://10.0.0.3@10.0.0.66/", "10.0.0.3", name="Gate")
    assert on_host(match, "10.0.0.3") == answer(own, name="Gate")


def test_an_address_that_becomes_too_long_when_it_is_escaped_does_not_end_the_search() -> None:
    long = "http://10.0.0.9/" + "\u00e9" * (MAX_URL_CHARACTERS // 3)
    devices = announced([answer(long), answer("http://10.0.0.3/")])
    assert [device.host for device in devices] == ["10.0.0.3", "10.0.0.9"]


@pytest.mark.parametrize(
    ("sent_fps", "keyframe_interval_s", "words"),
    [
        (1.0, 1.0, None),
        (1.0, 2.0, "Set the keyframe interval of Main to 1 s"),
        (0.2, 4.0, None),
        (5.0, 2.0, "Set the rate of Main to 5 fps"),
        (20.0, 2.0, None),
        (1.0, None, None),
    ],
)
def test_suggestions_save_decoding(sent_fps: float, keyframe_interval_s: float | None, words: str | None) -> None:
    stream = OnvifStream(
        url="rtsp://h/",
        profile="Main",
        video_source="1",
        fps=25,
        keyframe_interval_s=keyframe_interval_s,
        sent_fps=sent_fps,
    )
    found = list(suggestions([stream], sent_fps=sent_fps))
    assert [words is not None and words in sentence for sentence in found] == [True] * (words is not None)


def test_a_stream_costs_less_if_its_keyframes_suffice() -> None:
    def cost(keyframe_interval_s: float | None, codec: str = "h264") -> float:
        return cost_model.stream_ms_per_s(
            codec, cost_model.FULL_HD, fps=25, keyframe_interval_s=keyframe_interval_s, sent_fps=1
        )

    assert cost(None) == cost(2.0) > 5 * cost(1.0)
    assert cost(1.0, "hevc") > cost(1.0) > cost(1.0, "mjpeg")

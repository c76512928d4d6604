"""Choice of an ONVIF camera's media profile, and the paths of its services."""

from __future__ import annotations

from typing import Any

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources.onvif.client import path_of
from nvision_hub.media.sources.onvif.profiles import MediaProfile, choose_profile
from tests.support.camera_worker import worker_settings
from workers.camera.settings import reconfigure


def profile(name: str, width: int | None, fps: float | None, source: str = "1") -> MediaProfile:
    height = None if width is None else width * 9 // 16
    return MediaProfile(token=name, name=name, width=width, height=height, fps=fps, video_source=source)


PROFILES = (
    profile("main", 1920, 25),
    profile("sub", 640, 15),
    profile("third", 320, 5),
    profile("other channel", 704, 25, "2"),
)


@pytest.mark.parametrize(
    ("max_width", "fps", "expected"),
    [
        (640, 5.0, "sub"),
        (639, 15.0, "sub"),
        (641, 5.0, "main"),
        (640, 16.0, "main"),
        (320, 5.0, "third"),
        (320, 6.0, "sub"),
        (1920, 25.0, "main"),
        (3840, 1.0, "main"),  # none is wide enough
        (320, 30.0, "main"),  # none is fast enough
        (None, 1.0, "main"),
    ],
)
def test_the_smallest_sufficient_profile_is_chosen(max_width: int | None, fps: float, expected: str) -> None:
    for profiles in (PROFILES, (PROFILES[0], *PROFILES[:0:-1])):
        chosen = choose_profile(profiles, max_width=max_width, fps=fps)
        assert chosen is not None
        assert chosen.name == expected


def test_unknown_properties_do_not_exclude_a_profile() -> None:
    assert choose_profile([], max_width=640, fps=5) is None
    unknown = profile("unknown", None, None)
    assert choose_profile([unknown], max_width=640, fps=5) == unknown
    assert choose_profile([PROFILES[0], profile("no rate", 640, None)], max_width=640, fps=5) != PROFILES[0]
    assert unknown.shown == "unknown"


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("http://10.0.0.5/onvif/media", "/onvif/media"),
        ("https://evil.example:99/onvif/events?id=1&x=%20", "/onvif/events?id=1&x=%20"),
        ("http://10.0.0.5/a b#c", "/a%20b"),
        ("http://10.0.0.5/a\r\nHost: x", None),
        ("http://[::1/onvif", None),
        ("", None),
    ],
)
def test_only_the_path_of_a_services_address_is_used(address: str, path: str | None) -> None:
    assert path_of(address) == path


@pytest.mark.parametrize("change", [{"fps": 2}, {"max_width": 640}, {"jpeg_quality": 60}])
def test_a_change_that_another_profile_may_fit_restarts_the_worker(change: dict[str, Any]) -> None:
    old, new = (
        worker_settings(
            Camera.model_validate({"id": "lobby", "url": "onvif://10.0.0.5", **values}), "ws://h", "redis://h"
        )
        for values in ({}, change)
    )
    assert (reconfigure(old, new) is None) == ("jpeg_quality" not in change)

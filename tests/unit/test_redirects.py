"""Redirects on the camera itself: the path of the next request."""

from __future__ import annotations

import pytest

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.media.sources.redirects import redirect_path
from nvision_hub.media.sources.source import SourceError

ADDRESS = CameraAddress.parse("rtsp://10.0.0.5/cam")
URL = "rtsp://10.0.0.5/cam"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/other?x=1&y=%2F", "/other?x=1&y=%2F"),
        ("rtsp://10.0.0.5:554/a;b=c", "/a;b=c"),
        ("other", "/other"),
        ("/with space RTSP/1.0", "/with%20space%20RTSP/1.0"),
        ("/\u00e9\\", "/%C3%A9%5C"),
    ],
)
def test_a_redirect_gives_a_path_without_spaces(location: str, path: str) -> None:
    assert redirect_path(ADDRESS, URL, location) == path


@pytest.mark.parametrize(
    "location", ["", "rtsp://10.0.0.9/cam", "rtsp://10.0.0.5:8554/", "rtsp://[", "/a\u2028b", "http:/a"]
)
def test_other_redirects_are_rejected(location: str) -> None:
    with pytest.raises(SourceError, match="redirects"):
        redirect_path(ADDRESS, URL, location)


@pytest.mark.parametrize(
    ("scheme", "location", "words"),
    [
        ("rtsp", "rtsp://u:secret@10.0.0.9/cam?key=secret", "as this camera's `url`: rtsp://***@10.0.0.9/cam?***"),
        ("rtsp", "rtsps://10.0.0.5/cam", "write rtsps:// in place of rtsp://"),
        ("http", "https://10.0.0.5/cam", "write https:// in place of http://"),
        (
            "snapshot+http",
            "https://10.0.0.5:8443/cam",
            "write snapshot+https:// and port 8443 in place of snapshot+http",
        ),
    ],
)
def test_an_error_names_the_new_address(scheme: str, location: str, words: str) -> None:
    address = CameraAddress.parse(f"{scheme}://10.0.0.5/cam")
    with pytest.raises(SourceError) as caught:
        redirect_path(address, address.dial(), location)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)

"""Kinds of HTTP content: the bytes decide, and then the Content-Type."""

from __future__ import annotations

import pytest

from nvision_hub.media.sources.http_content import content_kind, media_type


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (None, ""),
        ("Multipart/X-Mixed-Replace; boundary=--frame", "multipart/x-mixed-replace"),
        (" image/jpeg ", "image/jpeg"),
        ("image", ""),
        ("\x1b[31m/x", ""),
        ("a/" + "b" * 5000, "a/" + "b" * 41),
    ],
)
def test_media_types_contain_only_safe_characters(header: str | None, kind: str) -> None:
    assert media_type(header) == kind


@pytest.mark.parametrize(
    ("kind", "beginning", "found"),
    [
        ("multipart/x-mixed-replace", b"", "stream"),
        ("video/x-motion-jpeg", b"--myboundary\r\n", "stream"),
        ("text/plain", b"\r\n--myboundary\r\n", "stream"),
        ("text/html", b"\xff\xd8\xff\xe0", "jpeg"),
        ("", b"\xff\xd8\xff\xe0", "jpeg"),
        ("multipart/x-mixed-replace", b"\xff\xd8\xff\xe0", "jpeg"),
        ("application/octet-stream", b"#EXTM3U\n", "playlist"),
        ("application/x-mpegurl", b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        ("application/dash+xml", b"<?xml version='1.0'?><MPD>", "playlist"),
        ("", b" <html>", "page"),
        ("application/json", b'["no stream"]', "page"),
        ("image/jpeg", b"", "nothing"),
        ("video/mp2t", b"\x47\x40\0\x10", "other"),
        ("", b"\0", "other"),
    ],
)
def test_each_kind_is_recognized(kind: str, beginning: bytes, found: str) -> None:
    assert content_kind(kind, beginning) == found

"""Timing and behavior of the test cameras, on which other tests and the benchmarks rely."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import pytest

from tests.support import clips, counter
from tests.support.patience import is_on_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.rtsp import GstCamera

GSTREAMER = pytest.mark.peer("RTSP camera", "GStreamer RTSP server", "debian:gir1.2-gst-rtsp-server-1.0")

SMALL = {
    "h264": clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2),
    "h265": clips.ClipSpec(codec="h265", width=640, height=360, kbit_s=600, gop_s=1.0, seconds=2),
    "mjpeg": clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=2),
}
PASSWORD = "p@ss:/?#%[] é"


@GSTREAMER
@pytest.mark.long
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_frames_arrive_evenly_and_their_age_is_known(
    gst_camera: Callable[..., GstCamera], codec: str, transport: str
) -> None:
    camera = gst_camera(SMALL[codec])
    seen: list[tuple[int, float]] = []
    times = []
    with av.open(camera.url(), options={"rtsp_transport": transport}, timeout=(10, 10)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == {"h265": "hevc"}.get(codec, codec)
        for frame in container.decode(stream):
            number = counter.of_frame(frame)
            assert number is not None
            seen.append((number, time.monotonic()))
            times.append(frame.pts)
            if len(seen) == 70:  # more frames than one loop of the clip
                break
    steps = [(later - earlier) % 50 for (earlier, _), (later, _) in pairwise(seen)]
    # On a busy machine, the kernel discards UDP packets that FFmpeg does not read in time.
    assert set(steps) == {1} if transport == "tcp" else sum(steps) < 1.5 * len(steps)
    # FFmpeg may buffer more than one loop of the clip at first, so the last frame identifies the loop.
    sent = camera.push_times()
    last = counter.Unwrapper(sent).find(*seen[-1]).serial
    assert all(
        later - earlier == step * 90000 // 25
        for step, (earlier, later) in zip(steps, pairwise(times), strict=True)
        if earlier is not None and later is not None
    )
    serials = [last - sum(steps[index:]) for index in range(len(seen))]
    ages = sorted(at - sent[serial].at for serial, (_, at) in list(zip(serials, seen, strict=True))[-20:])
    # FFmpeg's H.264 and H.265 parsers return a frame only when the next frame begins.
    assert ages[10] > 0
    assert is_on_time(ages[10], 0.08)


def test_frames_are_sent_on_schedule_of_the_monotonic_clock(gst_camera: Callable[..., GstCamera]) -> None:
    camera = gst_camera(SMALL["h264"])
    with av.open(camera.url(), timeout=(10, 10)) as container:
        for number, _ in enumerate(container.demux(video=0)):
            if number == 50:
                break
    sent = camera.push_times()
    assert [push.serial for push in sent] == list(range(len(sent)))
    late = [push.at - sent[0].at - push.serial / 25 for push in sent]
    assert is_on_time(max(late) - min(late), 0.2)  # on a busy machine, pushes are late, but delays do not add up
    assert [push.number for push in sent] == [push.serial % 50 for push in sent]


@GSTREAMER
@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_only_the_right_password_connects(gst_camera: Callable[..., GstCamera], auth: str) -> None:
    camera = gst_camera(SMALL["mjpeg"], user="viewer", password=PASSWORD, auth=auth)
    with av.open(camera.url(), timeout=(10, 10)) as container:
        assert next(container.decode(video=0)).width == 640
    for user, password in (("viewer", "wrong"), ("unknown", PASSWORD)):
        with pytest.raises(av.HTTPUnauthorizedError):
            av.open(camera.url(user=user, password=password), timeout=(10, 10))


@GSTREAMER
def test_the_clip_can_change_size_within_the_session(gst_camera: Callable[..., GstCamera]) -> None:
    camera = gst_camera(SMALL["h264"])
    other = clips.ClipSpec(codec="h264", width=704, height=576, kbit_s=800, gop_s=1.0, seconds=2)
    sizes: list[tuple[int, int]] = []
    with av.open(camera.url(), timeout=(10, 10)) as container:
        for frame in container.decode(video=0):
            if len(sizes) == 10:
                camera.switch_clip(other)
            sizes.append((frame.width, frame.height))
            if len(sizes) > 10 and sizes[-1] == (704, 576):
                assert counter.of_frame(frame) == 0
                break
            assert len(sizes) < 250


def test_a_killed_camera_restarts_on_its_port(gst_camera: Callable[..., GstCamera]) -> None:
    camera = gst_camera(SMALL["mjpeg"])
    address = camera.url()
    camera.kill()
    with pytest.raises(av.FFmpegError):
        av.open(address, timeout=(10, 10))
    camera.start()
    assert camera.url() == address
    with av.open(address, timeout=(10, 10)) as container:
        assert next(container.decode(video=0)).width == 640
    assert camera.stop() == 0


def test_a_suspended_camera_sends_nothing_until_resumed(gst_camera: Callable[..., GstCamera]) -> None:
    camera = gst_camera(SMALL["mjpeg"])
    camera.suspend()
    with pytest.raises(av.FFmpegError):
        av.open(camera.url(), timeout=(1, 1))
    camera.resume()
    with av.open(camera.url(), timeout=(10, 10)) as container:
        assert next(container.decode(video=0)).width == 640


@pytest.mark.parametrize("auth", ["basic", "digest"])
def test_http_camera_streams_and_takes_snapshots(http_camera: Callable[..., HttpCamera], auth: str) -> None:
    camera = http_camera(user="viewer", password="s3cret", auth=auth)
    with av.open(camera.url(), format="mpjpeg", timeout=(10, 10)) as container:
        numbers = [counter.of_frame(frame) for frame, _ in zip(container.decode(video=0), range(30), strict=False)]
    assert {None if b is None or a is None else (b - a) % 100 for a, b in pairwise(numbers)} == {1}

    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, camera.url("/", credentials=False), "viewer", "s3cret")
    handler = {
        "basic": urllib.request.HTTPBasicAuthHandler,
        "digest": urllib.request.HTTPDigestAuthHandler,
    }[auth](passwords)
    with urllib.request.build_opener(handler).open(
        camera.url("/snapshot.jpg", credentials=False), timeout=10
    ) as answer:
        jpeg = answer.read()
    # The stream may have sent its last frame at the same time.
    assert counter.of_jpeg(jpeg) in {push.number for push in camera.pushes[-2:]}
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(camera.url("/snapshot.jpg", credentials=False), timeout=10)  # noqa: S310 - http, our own
    refused.value.close()

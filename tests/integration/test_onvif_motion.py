"""`motion.source: onvif`: the camera's motion events decide what is sent; without them, every due frame is sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.metrics import catalogue
from tests.support import clips
from tests.support.onvif_device import Profile, envelope
from tests.support.patience import PATIENCE_S, is_on_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hub import Hub
    from tests.support.onvif_device import OnvifDevice
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

CLIP: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
SETTINGS: Final = {"when": "motion", "motion": {"source": "onvif", "cooldown": 1}, "fps": 5}
START_S: Final = 0.5  # from the event to the first frame


def wait_until(watching: Watching, *, moving: bool) -> None:
    """Wait until the gate is open or closed. Only frames and states wake `Watching`, so this function polls."""
    deadline = time.monotonic() + PATIENCE_S
    while watching.capture.moving is not moving:
        assert time.monotonic() < deadline, watching.capture.error
        watching.watch_for(0.05)


def start(
    gst_camera: Callable[..., GstCamera], onvif_device: Callable[..., OnvifDevice], **options: float
) -> OnvifDevice:
    rtsp = gst_camera({"/cam": CLIP})
    profile = Profile(uri=rtsp.url("/cam"), token="t", name="P", width=640, height=360)
    return onvif_device(profiles=(profile,), **options)


def test_an_event_starts_and_ends_sending(
    gst_camera: Callable[..., GstCamera], onvif_device: Callable[..., OnvifDevice], watch: Callable[..., Watching]
) -> None:
    device = start(gst_camera, onvif_device, subscription_s=3.0)
    watching = watch(device.url, **SETTINGS)
    for _ in range(2):
        wait_until(watching, moving=False)
        sent, decoded = len(watching.frames), watching.meter.value(catalogue.FRAMES_DECODED_TOTAL)
        renewed = device.count("Renew")
        while device.count("Renew") < renewed + 2:
            watching.watch_for(0.1)
        assert (len(watching.frames), watching.meter.value(catalogue.FRAMES_DECODED_TOTAL)) == (sent, decoded)
        at = device.set_moving(is_moving=True)
        watching.wait_until(lambda sent=sent: len(watching.frames) > sent)  # type: ignore[misc]
        first = watching.frames[sent]
        assert is_on_time(first.at - at, START_S)
        assert first.frame.captured_mono < at, "the pre-roll is sent first"
        watching.wait_for(10)
        device.set_moving(is_moving=False)
    assert watching.capture.motion_error is None
    assert watching.meter.total(catalogue.MOTION_SUBSCRIPTIONS_LOST_TOTAL) == 0
    assert watching.meter.value(catalogue.MOTION_EVENTS_TOTAL) >= 4
    assert len(device.subscriptions) == 1
    watching.stop()
    with device.changed:
        assert device.changed.wait_for(lambda: not device.subscriptions, PATIENCE_S), "the subscription is ended"


def test_without_events_every_due_frame_is_sent(
    gst_camera: Callable[..., GstCamera], onvif_device: Callable[..., OnvifDevice], watch: Callable[..., Watching]
) -> None:
    device = start(gst_camera, onvif_device)
    watching = watch(device.url, **SETTINGS)
    wait_until(watching, moving=False)
    device.accepts_subscriptions = False
    device.drop_subscriptions()  # as a camera that restarts its event service
    wait_until(watching, moving=True)
    watching.wait_for(10)
    assert "refuses the ONVIF request CreatePullPointSubscription" in (watching.capture.motion_error or "")
    assert "sending every due frame" in (watching.capture.motion_error or "")
    assert watching.meter.value(catalogue.MOTION_SUBSCRIPTIONS_LOST_TOTAL, reason="unsupported") >= 2
    device.accepts_subscriptions = True
    wait_until(watching, moving=False)
    assert watching.capture.motion_error is None
    device.answers["PullMessages"] = envelope("<a>")
    wait_until(watching, moving=True)
    del device.answers["PullMessages"]
    wait_until(watching, moving=False)


@pytest.mark.slow
@pytest.mark.long
def test_a_hub_follows_a_cameras_events(
    gst_camera: Callable[..., GstCamera],
    onvif_device: Callable[..., OnvifDevice],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    device, service = start(gst_camera, onvif_device), recorder()
    url = f"onvif://localhost:{device.port}"  # the worker's sandbox allows name resolution
    hub = start_hub([{"id": "yard", "url": url, **SETTINGS}], service)
    hub.wait_until(lambda: hub.camera("yard").info.get("moving") is False)
    assert hub.camera("yard").info["profile"] == "P (h264, 640x360, 25 fps)"
    assert hub.camera("yard").state == "streaming"
    assert hub.camera("yard").metrics["camera_idle"] == 1
    sent = len(service.received("yard"))
    device.set_moving(is_moving=True)
    service.wait_for(sent + 5, "yard", PATIENCE_S)
    device.close()
    hub.wait_until(lambda: "no motion events" in (hub.camera("yard").error or ""))

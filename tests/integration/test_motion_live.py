"""`when: motion` in real time: a real hub streams an RTSP camera to a recording service."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.support import clips, counter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.slow
CROSSING = (12.0, 16.0)
FPS = 5.0
CLIP = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=500, seconds=20, crossings=(CROSSING,))
MOTION = {"cooldown": 2, "idle_fps": 0.5, "ignore": [[[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]]}


@pytest.mark.long
def test_motion_sends_the_pre_roll_in_order_and_on_time(
    start_hub: Callable[..., Hub], gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder]
) -> None:
    camera, service = gst_camera({"/cam": CLIP}), recorder()
    hub = start_hub(
        [{"id": "yard", "url": camera.url("/cam"), "fps": FPS, "when": "motion", "motion": MOTION}], service
    )
    hub.wait_until(lambda: hub.camera("yard").info.get("moving") is False)
    assert hub.camera("yard").metrics["motion_active"] == 0
    hub.wait_until(lambda: hub.camera("yard").info.get("moving") is True)
    assert hub.camera("yard").metrics["motion_active"] == 1
    hub.wait_until(lambda: hub.camera("yard").info.get("moving") is False)
    now = hub.camera("yard")
    assert now.state == "streaming"
    assert now.metrics.get("frames_dropped_total{reason=broken}", 0) == 0
    sent = service.received("yard")
    wall = time.time() - time.monotonic()
    taken = [message.created - wall for message in sent]
    assert taken == sorted(taken), "frames must be in order"
    unwrapper = counter.Unwrapper(camera.push_times("/cam"))
    pushes = []
    for message in sent[2:]:
        number = counter.of_jpeg(service.frame(message))
        assert number is not None
        pushes.append(unwrapper.find(number, message.at))
    # Pre-roll frames are sent late but carry their original capture time.
    # The camera captures at even intervals. On a busy machine, the test's camera sends some frames late.
    began = min(push.at - push.serial / 25 for push in pushes)
    assert all(
        abs(message.created - wall - began - push.serial / 25) < 0.3
        for message, push in zip(sent[2:], pushes, strict=True)
    )
    begin = next(push.serial for push in pushes if push.serial % 500 >= CROSSING[0] * 25 and push.serial > 100)
    crossing = [push.serial for push in pushes if 0 <= push.serial - begin < (CROSSING[1] - CROSSING[0]) * 25]
    late = now.metrics.get("frames_dropped_total{reason=late}", 0)  # on a busy machine
    assert len(crossing) + late >= 0.9 * FPS * (CROSSING[1] - CROSSING[0])
    assert max(later - earlier for earlier, later in pairwise(crossing)) <= 10 + late * 25 / FPS
    # Measured ages exclude the pre-roll, which is late by design.
    ages = hub.status("yard")["metrics"]["histograms"]["frame_age_seconds"]
    assert sum(ages["counts"]) < now.total("frames_sent_total")
    assert sum(ages["counts"][-3:]) == 0

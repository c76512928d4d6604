"""`when: motion` on a scripted scene: nobody who crosses it is missed, what is sent of them, and what stillness costs.

The clip goes through the real source, planner, sentry and decoder, as fast as these are; its times are those of a
camera. It is encoded at a constant bit rate, so the size of its packets tells nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.config import Camera
from nvision_hub.status import Meter
from tests.support import clips, counter
from tests.support.clip_files import Clip, file_of, reordered
from workers.camera.encoder import Encoder
from workers.camera.sentry import Sentry
from workers.camera.viewing import Viewing

if TYPE_CHECKING:
    from pathlib import Path

CROSSINGS: Final = ((10.0, 15.0), (27.0, 33.0))
LINGERS_S: Final = 3.0  # what the eye still sees of somebody who has just left
COUNTER: Final = [[0, 0], [0.51, 0], [0.51, 0.04], [0, 0.04]]  # changes in every picture, and is no movement
CALM_AFTER_S: Final = 3.0
FPS: Final = 5.0
IDLE_FPS: Final = 0.25
H264: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, seconds=40, crossings=CROSSINGS)
SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=500, seconds=40, noise=6, crossings=CROSSINGS)


@dataclass
class Sent:
    """What a camera of the clip has sent: capture times in the clip's own seconds."""

    at: list[float] = field(default_factory=list)
    behind: list[bool] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    moving: list[tuple[float, bool]] = field(default_factory=list)  # each change
    meter: Meter = field(default_factory=Meter)

    def within(self, begin: float, end: float) -> list[float]:
        return [at for at in self.at if begin <= at < end]


def watch(source: Clip, **settings: Any) -> Sent:
    """Play the clip to a camera of these settings."""
    motion = {"calm_after": CALM_AFTER_S, "idle_fps": IDLE_FPS, "ignore": [COUNTER], **settings.pop("motion", {})}
    camera = Camera.model_validate(
        {"id": "street", "url": "file:clip.mkv", "fps": FPS, "when": "motion", "motion": motion, **settings}
    )
    sent = Sent()
    encoder = Encoder(quality=80, max_width=None)

    def show(picture: Any, at: float, behind: bool) -> None:  # noqa: FBT001 - as `Viewing` has it
        sent.at.append(at - source.began)
        sent.behind.append(behind)
        sent.numbers.append(counter.of_jpeg(encoder.encode(picture).data))

    with contextlib.closing(source):
        viewing = Viewing(
            source=source,
            fps=camera.fps,
            meter=sent.meter,
            show=show,
            wanted=lambda: True,
            sentry=Sentry(camera),
        )
        for packet in source.packets():
            viewing.take(packet, camera.fps)
            if not sent.moving or sent.moving[-1][1] != viewing.moving:
                assert viewing.moving is not None
                sent.moving.append((packet.arrived - source.began, viewing.moving))
    return sent


def check_what_was_sent(sent: Sent, *, gop_s: float, rate: float = FPS) -> None:
    """Every crossing at full rate from its first moment on, in order, each picture once, and little of the rest."""
    assert sent.at == sorted(set(sent.at))
    shown = [number for number in sent.numbers if number is not None]
    assert len(shown) == len(sent.at)
    # The number burnt into each picture is that of the moment which its capture time names.
    assert all(abs(number / 25 - at) < 0.15 for number, at in zip(shown, sent.at, strict=True))
    for begin, end in CROSSINGS:
        assert len(sent.within(begin, begin + 1)) >= rate - 1, f"the first second of {begin}"
        seen = [begin, *sent.within(begin, end), end]
        assert max(later - earlier for earlier, later in pairwise(seen)) <= 2 / rate + 0.3
        assert len(sent.within(begin, end)) >= 0.9 * rate * (end - begin)
    (_, still), (again, _) = CROSSINGS
    still += LINGERS_S + CALM_AFTER_S + gop_s
    again -= 1 + gop_s
    assert len(sent.within(still, again)) <= max(0.0, IDLE_FPS * (again - still)) + 1


@pytest.mark.parametrize(
    "spec",
    [
        H264,
        replace(SMALL, gop_s=1.0),
        replace(SMALL, gop_s=4.0),
        replace(SMALL, codec="h265", noise=2.5),
        replace(SMALL, codec="mjpeg", noise=2.5),
    ],
    ids=["h264", "noisy", "GOP of four seconds", "h265", "mjpeg"],
)
def test_no_crossing_is_missed(spec: clips.ClipSpec, tmp_path: Path) -> None:
    sent = watch(file_of(spec, tmp_path))
    check_what_was_sent(sent, gop_s=0.04 if spec.codec == "mjpeg" else spec.gop_s)
    assert any(sent.behind)
    assert [moving for _, moving in sent.moving] == [True, False, True, False, True, False]


def test_keyframes_that_are_rare_are_not_waited_for(tmp_path: Path) -> None:
    """Every packet is then decoded: what is saved is what is not sent."""
    sent = watch(file_of(replace(SMALL, gop_s=20.0), tmp_path))
    check_what_was_sent(sent, gop_s=0.0)


@pytest.mark.long
def test_pictures_that_build_on_later_ones(tmp_path: Path) -> None:
    """A decoder keeps such a camera's keyframe until others follow, which is too late for an eye."""
    sent = watch(reordered(replace(SMALL, noise=2.5), tmp_path))
    check_what_was_sent(sent, gop_s=SMALL.gop_s)
    assert any(sent.behind)

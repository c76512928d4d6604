"""Explanation of a camera's current rate: each limit that applies now, as a sentence. Performs no I/O.

The facts come from the API: a camera with its settings and metrics, and its history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Limit = Literal[
    "configuration", "pause", "schedule", "state", "motion", "camera", "budget", "account_rate", "lease", "service",
    "machine", "unknown",
]  # fmt: skip

# A camera that sends this share of its lowest known limit needs no other explanation: measured rates vary by a frame.
_FULL_SHARE: Final = 0.8
_MIN_CHECKED_FPS: Final = 0.5  # below this rate, ten seconds contain too few frames for a comparison
# The uplink pauses while results lag by two seconds and by at least four frames (`workers.camera.uplink`).
_LAG_S: Final = 2.0
_LAG_FRAMES: Final = 4
# An image reaches the service before its result exists, so a round trip may be slightly shorter than the lag.
_LAG_SHARE: Final = 0.8
_ACCOUNT_RATE: Final = "images_per_second"
_DAMAGED: Final = {
    "torn": "are damaged on the way from the camera",
    "broken": "cannot be decoded or encoded",
    "refreshing": "are incomplete, because the camera is still renewing the image",
}
_NO_FRAMES: Final = frozenset(CameraState) - {CameraState.STREAMING, CameraState.PAUSED}


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """One limit. `max_fps` is the highest rate that the limit allows, in frames per second; None if unknown."""

    limit: Limit
    max_fps: float | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RateExplanation:
    """The measured rate of a camera, and the limits in the order in which they apply to a frame."""

    camera: str
    state: str
    fps: float | None  # the configured rate; None if unknown
    rate_out: float  # frames per second that the camera has sent in the last ten seconds
    limits: tuple[RateLimit, ...]


def explain_rate(camera: Mapping[str, Any], history: Mapping[str, Any]) -> RateExplanation:
    """Explain the rate of a camera from `GET /api/v1/cameras/{id}` and its `history`."""
    limits = list(_limits(camera, history))
    known = [limit.max_fps for limit in limits if limit.max_fps is not None]
    is_explained = any(limit.limit not in {"configuration", "schedule", "motion"} for limit in limits)
    lowest = min(known, default=0.0)
    if lowest >= _MIN_CHECKED_FPS and camera["rate_out"] < _FULL_SHARE * lowest and not is_explained:
        sentence = (
            "no limit explains the lower rate; the rate is an average of ten seconds, so it follows a change slowly: "
            "wait ten seconds and repeat the command"
        )
        limits.append(RateLimit(limit="unknown", max_fps=None, sentence=sentence))
    return RateExplanation(
        camera=camera["id"],
        state=camera["state"],
        fps=camera["fps"],
        rate_out=camera["rate_out"],
        limits=tuple(limits),
    )


def _limits(camera: Mapping[str, Any], history: Mapping[str, Any]) -> Iterator[RateLimit]:
    yield from _configuration(camera)
    if camera["paused"]:
        sentence = f"an operator has paused the camera; resume it: nvision-hub resume {camera['id']}"
        yield RateLimit(limit="pause", max_fps=0.0, sentence=sentence)
        return
    target = _target(camera)
    if camera["scheduled"] is not None:
        yield RateLimit(limit="schedule", max_fps=target, sentence=f"the schedule sets {camera['scheduled']}")
    if camera["state"] == CameraState.PAUSED:
        return
    if camera["state"] in _NO_FRAMES:
        cause = camera["error"] or "the hub has not reported a cause yet"
        sentence = f"the camera is in the state {camera['state']}: {cause}"
        yield RateLimit(limit="state", max_fps=0.0, sentence=sentence)
        return
    yield from _motion(camera, target)
    yield from _delivery(history, target)
    yield from _budget(camera, history)
    yield from _after_budget(camera, history, target)


def _configuration(camera: Mapping[str, Any]) -> Iterator[RateLimit]:
    fps, changed = camera["fps"], camera["run_time"]
    if fps is None:
        return
    sentence = f"fps is {fps:g}"
    if "fps" in changed["set"] and not changed["added"]:
        sentence += f", set at run time; cameras.yaml has {changed['file']['fps']:g}"
    elif changed["added"]:
        sentence += ", of a camera that was added at run time"
    yield RateLimit(limit="configuration", max_fps=fps, sentence=sentence)


def _target(camera: Mapping[str, Any]) -> float | None:
    """Return the rate of the active schedule, or else the configured rate; None if unknown."""
    target: float | None = camera["metrics"].get("camera_target_fps", camera["fps"])
    return target


def _motion(camera: Mapping[str, Any], target: float | None) -> Iterator[RateLimit]:
    settings, metrics = camera["settings"], camera["metrics"]
    if settings.get("when") != "motion" or metrics.get("motion_active", 1) or target is None:
        return
    if metrics.get("camera_idle"):
        sentence = "the camera reports no motion, so the hub sends no frames (when: motion, motion.source: onvif)"
        yield RateLimit(limit="motion", max_fps=0.0, sentence=sentence)
    elif (idle_fps := settings["motion"]["idle_fps"]) < target:
        sentence = f"nothing moves, so the hub sends {idle_fps:g} frames per second (when: motion, motion.idle_fps)"
        yield RateLimit(limit="motion", max_fps=idle_fps, sentence=sentence)


def _delivery(history: Mapping[str, Any], target: float | None) -> Iterator[RateLimit]:
    delivered = _newest(history["rate_in"])  # the camera's `rate_in` is 0 while the rate is unknown
    if delivered is not None and target is not None and delivered < _FULL_SHARE * target and target >= _MIN_CHECKED_FPS:
        sentence = f"the camera delivers only {delivered:.1f} frames per second; raise its frame rate, or lower fps"
        yield RateLimit(limit="camera", max_fps=delivered, sentence=sentence)
    for reason, what in _DAMAGED.items():
        if dropped := _dropped(history, reason):
            sentence = f"{dropped:.1f} frames per second {what}"
            yield RateLimit(limit="camera", max_fps=None, sentence=sentence)


def _budget(camera: Mapping[str, Any], history: Mapping[str, Any]) -> Iterator[RateLimit]:
    if (limited_by := camera["limited_by"]) is None:
        return
    withheld = _dropped(history, "budget")
    sentence = f"limited by {limited_by}"
    if withheld:
        sentence += f", which withholds {withheld:.1f} frames per second"
    is_account_rate = limited_by.endswith(_ACCOUNT_RATE)
    yield RateLimit(limit="account_rate" if is_account_rate else "budget", max_fps=None, sentence=sentence)


def _after_budget(camera: Mapping[str, Any], history: Mapping[str, Any], target: float | None) -> Iterator[RateLimit]:
    """Yield the limits on frames that motion, schedule and budget allow."""
    if dropped := _dropped(history, "lease"):
        sentence = f"another hub may stream this camera, so {dropped:.1f} frames per second are not sent"
        yield RateLimit(limit="lease", max_fps=None, sentence=sentence)
    if dropped := _dropped(history, "uplink"):
        sentence = f"the connection to the service has ended, which cost {dropped:.1f} frames per second"
        yield RateLimit(limit="service", max_fps=None, sentence=sentence)
    if dropped := _dropped(history, "overwritten"):
        yield _overwritten(dropped, _newest(history["round_trip_p50_s"]), target)
    if dropped := _dropped(history, "late"):
        cpu, error = camera["worker"]["cpu"], camera["error"]
        sentence = f"{dropped:.1f} frames per second arrive or are decoded too late"
        sentence += "" if cpu is None else f"; the worker uses {cpu:.1f} CPU cores"
        sentence += "" if error is None else f"; the camera's error is: {error}"
        yield RateLimit(limit="machine", max_fps=None, sentence=sentence)


def _overwritten(dropped: float, round_trip_s: float | None, target: float | None) -> RateLimit:
    """Explain frames that newer frames replaced before the worker could send them."""
    lag_s = max(_LAG_S, _LAG_FRAMES / target) if target else _LAG_S
    if round_trip_s is not None and round_trip_s >= _LAG_SHARE * lag_s:
        sentence = (
            f"a result comes {round_trip_s:.1f} s after its frame; the hub waits for results and skips {dropped:.1f} "
            "frames per second, because the service or the network to the service is too slow"
        )
        return RateLimit(limit="service", max_fps=None, sentence=sentence)
    sentence = (
        f"newer frames replace {dropped:.1f} frames per second before they are sent; this machine or its network is "
        "too busy"
    )
    return RateLimit(limit="machine", max_fps=None, sentence=sentence)


def _dropped(history: Mapping[str, Any], reason: str) -> float:
    """Return the frames per second dropped for a reason in the last ten seconds; 0 if too few to mention."""
    dropped = _newest(history["dropped_by_reason_per_s"].get(reason, ())) or 0.0
    return dropped if round(dropped, 1) > 0 else 0.0


def _newest(points: Sequence[float | None]) -> float | None:
    return points[-1] if points else None

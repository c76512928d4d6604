"""Motion of one object between results: a Kalman filter for the object's foot point and size.

The speed follows an Ornstein-Uhlenbeck process: without detections, the expected speed decays to 0 and its variance
stays bounded. A prediction over a long gap therefore neither moves away without limit nor becomes too certain. Lengths
are fractions of the frame's height. The variances in the filter are in squares of the object's own size, so near and
far objects use the same parameters. One set of parameters thus covers rates from 0.2 to 30 results per second.

References: Kalman, "A New Approach to Linear Filtering" (1960); Singer, "Estimating Optimal Tracking Filter Performance
for Manned Maneuvering Targets" (1970) for the decaying correlation; Bewley et al., "Simple Online and Realtime
Tracking" (2016) for tracking boxes with a Kalman filter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.tracking.observation import ObjectBox

SPEED_SIGMA: Final = 0.9  # standard deviation of speeds, in sizes per second; a walking person moves at about 1.2
FAST_FACTOR: Final = 2.0  # objects that are wider than tall, such as cars, are faster relative to their size
# Subtracted from the costs of wide objects, because few other objects are near, relative to their size.
RELIEF: Final = 1.0
SPEED_MEMORY_S: Final = 5.0  # time after which an object's speed hardly depends on its earlier speed
POSITION_SIGMA: Final = 0.11  # standard deviation of a detected foot point, in sizes
SIZE_SIGMA: Final = 0.055  # standard deviation of the logarithm of a detected height
SIZE_DRIFT: Final = 0.15  # increase of this standard deviation per square root of a second
SIZE_GAIN: Final = 0.3  # weight of a new size in the estimate
MAX_SIZE_COST: Final = 4.5  # a half-hidden object has the wrong height, but may have the right place
CUT_HEIGHT: Final = 0.8  # below this fraction of the expected height, the lower part may be hidden
SPEED_VARIANCE: Final = SPEED_SIGMA * SPEED_SIGMA
POSITION_VARIANCE: Final = POSITION_SIGMA * POSITION_SIGMA
BEST_VARIANCE: Final = 2 * POSITION_VARIANCE  # minimum variance of the distance between an estimate and a detection


class Step:
    """Coefficients of a prediction over `dt` seconds. All tracks of a result share these coefficients."""

    __slots__ = ("decay", "gain", "q_cross", "q_place", "q_speed", "size_variance")

    def __init__(self, dt: float) -> None:
        decay = math.exp(-dt / SPEED_MEMORY_S)
        self.decay = decay
        self.gain = SPEED_MEMORY_S * (1 - decay)
        self.q_speed = SPEED_VARIANCE * (1 - decay * decay)
        self.q_cross = SPEED_VARIANCE * SPEED_MEMORY_S * (1 - decay) ** 2
        square = 2 * dt / SPEED_MEMORY_S - 3 + 4 * decay - decay * decay
        self.q_place = max(0.0, SPEED_VARIANCE * SPEED_MEMORY_S**2 * square)
        self.size_variance = SIZE_DRIFT * SIZE_DRIFT * dt


class MotionEstimate:
    """Estimate of foot point, speed and size."""

    __slots__ = ("cross", "haste", "height", "place", "relief", "size_variance", "speed", "vx", "vy", "width", "x", "y")

    def __init__(self, box: ObjectBox) -> None:
        self.x, self.y = (box.left + box.right) / 2, box.bottom
        self.vx = self.vy = 0.0
        self.width, self.height = box.right - box.left, box.bottom - box.top
        self.relief = RELIEF if self.width > self.height else 0.0
        self.haste = FAST_FACTOR * FAST_FACTOR if self.width > self.height else 1.0
        self.place, self.cross, self.speed = POSITION_VARIANCE, 0.0, SPEED_VARIANCE * self.haste
        self.size_variance = SIZE_SIGMA * SIZE_SIGMA

    @property
    def size(self) -> float:
        return (self.width + self.height) / 2

    def predict(self, step: Step) -> None:
        gain, decay = step.gain, step.decay
        self.x += gain * self.vx
        self.y += gain * self.vy
        self.vx *= decay
        self.vy *= decay
        self.place += 2 * gain * self.cross + gain * gain * self.speed + self.haste * step.q_place
        self.cross = decay * (self.cross + gain * self.speed) + self.haste * step.q_cross
        self.speed = decay * decay * self.speed + self.haste * step.q_speed
        self.size_variance += step.size_variance

    def reach(self, max_cost: float) -> float:
        """Return the distance beyond which every detection costs more than `max_cost`; 0 if every detection does."""
        variance = self.place + POSITION_VARIANCE
        spare = max_cost - math.log(variance / BEST_VARIANCE) + self.relief
        return self.size * math.sqrt(2 * variance * spare) if spare > 0 else 0.0

    def cost(self, box: ObjectBox) -> float:
        """Return the negative log-likelihood of a detection. The minimum for a track that was just seen is 0."""
        left, top, right, bottom = box
        size = (self.width + self.height) / 2
        variance = self.place + POSITION_VARIANCE
        dx = ((left + right) / 2 - self.x) / size
        dy = (self._foot(top, bottom) - self.y) / size
        ratio = math.log((bottom - top) / self.height)
        size_cost = ratio * ratio / (2 * (self.size_variance + SIZE_SIGMA * SIZE_SIGMA))
        size_cost = min(size_cost, MAX_SIZE_COST)
        return (dx * dx + dy * dy) / (2 * variance) + math.log(variance / BEST_VARIANCE) + size_cost - self.relief

    def update(self, box: ObjectBox) -> None:
        variance = self.place + POSITION_VARIANCE
        k_place, k_speed = self.place / variance, self.cross / variance
        dx = (box.left + box.right) / 2 - self.x
        dy = self._foot(box.top, box.bottom) - self.y
        self.x += k_place * dx
        self.y += k_place * dy
        self.vx += k_speed * dx
        self.vy += k_speed * dy
        self.speed -= k_speed * self.cross
        self.cross *= 1 - k_place
        self.place *= 1 - k_place
        self.height += SIZE_GAIN * (box.bottom - box.top - self.height)
        self.width += SIZE_GAIN * (box.right - box.left - self.width)
        self.size_variance = SIZE_SIGMA * SIZE_SIGMA

    def _foot(self, top: float, bottom: float) -> float:
        """Return the row of the foot point. If that point is probably hidden, add the known height to the top."""
        if bottom - top < CUT_HEIGHT * self.height:
            from_top = top + self.height
            if abs(from_top - self.y) < abs(bottom - self.y):
                return from_top
        return bottom

"""The three demo scenes: their backgrounds, and the people and cars that move through each scene in a loop.

The image of a scene depends only on the frame number. The first frame continues the motion of the last frame, so a clip
loops seamlessly. Import this module only after `nvision_hub.media.cv2_loader.load()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from workers.demo.backdrop import HEIGHT, WIDTH, Canvas
from workers.demo.figures import Car, Person, Pose, draw_car, draw_person

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workers.demo.figures import Image

FPS: Final = 25
LOOP_S: Final = 20
FRAMES: Final = FPS * LOOP_S
_LEFT: Final = -340  # far enough outside the image to hide the longest car
_RIGHT: Final = WIDTH + 340

Waypoint = tuple[float, float, float]  # seconds into the loop; x and y of the point on the ground below the figure


@dataclass(frozen=True)
class Actor:
    """A figure and its path. A path that extends beyond the end of the loop continues at the start."""

    figure: Person | Car
    path: tuple[Waypoint, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Background, actors and scale. The scale is `near` pixels per meter at the bottom, and 0 at row `horizon`."""

    backdrop: Callable[[], Image]
    horizon: int
    near: float
    actors: tuple[Actor, ...]

    def draw(self, image: Image, number: int) -> None:
        """Draw all actors of frame `number` onto the backdrop in `image`, far figures first."""
        visible = [
            (self._pose(actor, now), actor.figure)
            for actor in self.actors
            for now in (number / FPS % LOOP_S, number / FPS % LOOP_S + LOOP_S)
            if actor.path[0][0] <= now < actor.path[-1][0]
        ]
        for pose, figure in sorted(visible, key=lambda pair: pair[0].y):
            if isinstance(figure, Person):
                draw_person(image, figure, pose)
            else:
                draw_car(image, figure, pose)

    def _pose(self, actor: Actor, now: float) -> Pose:
        times, xs, ys = np.array(actor.path).T
        meters = np.hypot(np.diff(xs), np.diff(ys)) / self._scale((ys[1:] + ys[:-1]) / 2)
        gone = np.concatenate(([0.0], np.cumsum(meters)))
        x, y, gone_m = (float(np.interp(now, times, values)) for values in (xs, ys, gone))
        turns = np.sign(np.diff(xs))[: np.searchsorted(times, now, "right")]
        facing = int(turns[turns != 0][-1])  # a figure that stops keeps its direction
        return Pose(x=x, y=y, pixels_per_m=float(self._scale(y)), gone_m=gone_m, facing=facing)

    def _scale(self, y: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """Return the pixels per meter on row `y`."""
        return self.near * (y - self.horizon) / (HEIGHT - self.horizon)


def _rightwards(start_s: float, duration_s: float, y: float) -> tuple[Waypoint, ...]:
    return ((start_s, _LEFT, y), (start_s + duration_s, _RIGHT, y))


def _leftwards(start_s: float, duration_s: float, y: float) -> tuple[Waypoint, ...]:
    return ((start_s, _RIGHT, y), (start_s + duration_s, _LEFT, y))


def _street() -> Image:
    canvas = Canvas(seed=11)
    canvas.sky((214, 170, 128), (232, 222, 208), 320)
    walls = ((150, 176, 206), (176, 192, 200), (128, 152, 186), (190, 200, 204))
    canvas.houses(345, (165, 245), (190, 290), walls, roof=(70, 78, 128))
    canvas.ground(345, 402, (158, 164, 168), joints=14)
    for x in (150, 640, 1090):
        canvas.tree(x, 362, 190, (64, 122, 92))
    canvas.ground(402, 600, (92, 90, 88), grain=5)
    canvas.curb(402, 8)
    canvas.dashes(494, 6, 90, 80)
    canvas.ground(600, HEIGHT, (150, 156, 160), joints=26)
    canvas.curb(590, 12)
    for x in (390, 930):
        canvas.lamp(x, 396, 300, 70)
    return canvas.image


def _crossing() -> Image:
    canvas = Canvas(seed=23)
    canvas.sky((150, 118, 120), (176, 190, 232), 250)
    walls = ((120, 130, 168), (142, 150, 164), (108, 120, 142))
    canvas.houses(270, (120, 190), (150, 230), walls, roof=(62, 60, 78))
    canvas.ground(270, 330, (136, 138, 146), joints=12)
    for x in (70, 330, 1010, 1210):
        canvas.tree(x, 300, 160, (58, 98, 104))
    canvas.ground(330, 580, (84, 80, 82), grain=5)
    canvas.curb(330, 8)
    canvas.dashes(446, 5, 80, 70)
    for bar in range(7):
        far, near = 520 + 36 * bar, 466 + 54 * bar
        canvas.stripe((far, 340), (far + 19, 340), (near + 29, 568), (near, 568))
    canvas.ground(580, HEIGHT, (140, 142, 150), joints=28)
    canvas.curb(570, 12)
    canvas.lamp(440, 330, 250, -60)
    canvas.lamp(880, 330, 250, 60)
    return canvas.image


def _parking() -> Image:
    canvas = Canvas(seed=37)
    canvas.sky((206, 186, 158), (226, 224, 218), 210)
    walls = ((178, 182, 178), (150, 160, 156))
    canvas.houses(215, (90, 130), (330, 420), walls, roof=(104, 104, 100))
    canvas.ground(215, 262, (74, 134, 96), grain=7)
    for x in range(30, WIDTH, 150):
        canvas.tree(x, 250, 105, (56, 112, 74))
    canvas.ground(262, HEIGHT, (108, 108, 106), grain=5)
    canvas.curb(262, 8)
    for x in range(-60, WIDTH + 300, 240):
        canvas.stripe((x, 276), (x + 4, 276), (x - 26, 370), (x - 32, 370))
    for x in range(-120, WIDTH + 500, 400):
        canvas.stripe((x, 566), (x + 6, 566), (x - 48, HEIGHT), (x - 58, HEIGHT))
    for y, thick in ((368, 4), (562, 6)):
        canvas.stripe((0, y), (WIDTH, y), (WIDTH, y + thick), (0, y + thick))
    for x, paint in ((45, (60, 60, 150)), (525, (188, 190, 192)), (1005, (92, 74, 52))):
        pose = Pose(x=x, y=345, pixels_per_m=51.8, gone_m=0, facing=1)  # the scene's scale at this row
        draw_car(canvas.image, Car(paint), pose)
    return canvas.image


_RED: Final = Person((74, 60, 168), (70, 52, 44))
_BLUE: Final = Person((150, 104, 44), (58, 60, 66), hair=(24, 26, 30))
_GREEN: Final = Person((70, 120, 70), (96, 88, 80), skin=(104, 138, 196), hair=(22, 22, 26))
_YELLOW: Final = Person((60, 180, 214), (92, 62, 40), hair=(70, 110, 150))
_WHITE: Final = Person((192, 190, 188), (46, 44, 48), skin=(84, 116, 170), hair=(20, 20, 24))

SCENES: Final[dict[str, Scene]] = {
    "street": Scene(
        backdrop=_street,
        horizon=170,
        near=142,
        actors=(
            Actor(Car((54, 46, 176)), _rightwards(1.0, 5.6, 562)),
            Actor(Car((196, 196, 198), length_m=4.6, height_m=1.7), _rightwards(11.5, 6.4, 566)),
            Actor(Car((150, 92, 40)), _leftwards(4.0, 6.8, 462)),
            Actor(Car((60, 62, 64), height_m=1.42), _leftwards(16.0, 6.2, 464)),
            Actor(_RED, ((0.0, -60, 664), (13.5, 1340, 664))),
            Actor(_BLUE, ((6.0, 1340, 690), (19.0, -60, 690))),
            Actor(_GREEN, ((9.0, -40, 388), (27.5, 1320, 388))),
            Actor(_YELLOW, ((12.0, 1320, 380), (30.5, -40, 380))),
        ),
    ),
    "crossing": Scene(
        backdrop=_crossing,
        horizon=110,
        near=128,
        actors=(
            Actor(Car((168, 120, 52)), ((0.0, _LEFT, 545), (3.4, 230, 545), (11.6, 230, 545), (15.2, _RIGHT, 545))),
            Actor(Car((70, 160, 196)), ((1.2, _RIGHT, 425), (4.6, 1060, 425), (12.0, 1060, 425), (16.0, _LEFT, 425))),
            Actor(Car((52, 52, 58), length_m=4.5), _rightwards(15.0, 5.0, 548)),
            Actor(_YELLOW, ((1.0, 60, 312), (4.5, 560, 318), (10.8, 500, 640), (19.0, -80, 672))),
            Actor(_WHITE, ((2.0, 1340, 316), (5.0, 700, 318), (11.2, 760, 650), (18.0, 1360, 690))),
            Actor(_RED, ((0.2, 1340, 660), (4.6, 680, 640), (11.4, 640, 320), (20.5, 1320, 308))),
            Actor(_BLUE, ((13.0, -60, 610), (26.0, 1340, 618))),
        ),
    ),
    "parking": Scene(
        backdrop=_parking,
        horizon=60,
        near=120,
        actors=(
            Actor(Car((44, 40, 160)), ((0.5, _LEFT, 470), (4.5, 640, 470), (6.5, 760, 350), (13.0, 760, 350),
                                       (15.0, 940, 460), (18.5, _RIGHT, 470))),
            Actor(Car((206, 206, 204), length_m=4.5, height_m=1.65), _leftwards(16.0, 7.0, 530)),
            Actor(_GREEN, ((7.0, 720, 372), (16.0, 300, 500), (23.5, -60, 600))),
            Actor(_WHITE, ((2.0, -60, 640), (11.5, 560, 690), (19.5, 1340, 640))),
            Actor(_RED, ((8.0, 1340, 420), (25.0, -60, 415))),
        ),
    ),
}  # fmt: skip

"""The demo's three scenes: who walks and drives where, and the picture at any moment of the loop.

A scene is pure: its picture depends on the frame's number alone, and the state after the last frame is that of the
first, so a clip of it loops without a seam. Knows nothing of files or encoding. Import only after
`nvision_hub.opencv.load()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from workers.demo.backdrop import HEIGHT, WIDTH, Canvas, Ground, Palette
from workers.demo.figures import Car, Person, Pose, draw_car, draw_person

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

FPS: Final = 25
LOOP_S: Final = 20
FRAMES: Final = FPS * LOOP_S
_OUT: Final = 340  # pixels past the picture's edge where the longest car is out of sight

Waypoint = tuple[float, float, float]  # seconds into the loop, x, y of the ground under the figure


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A figure and its way; a way may run past the loop's end, and then goes on at its start."""

    figure: Person | Car
    way: tuple[Waypoint, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A view: what stands still, who moves, and how big a metre is (`near` pixels at the bottom, 0 at `horizon`)."""

    backdrop: Callable[[], Picture]
    horizon: int
    near: float
    actors: tuple[Actor, ...]

    def draw(self, picture: Picture, number: int) -> None:
        """Draw everybody at frame `number` into `picture`, which holds the backdrop: far figures first."""
        cast = [
            (pose, actor.figure)
            for actor in self.actors
            for now in (number / FPS % LOOP_S, number / FPS % LOOP_S + LOOP_S)
            if actor.way[0][0] <= now < actor.way[-1][0]
            for pose in (self._pose(actor, now),)
        ]
        for pose, figure in sorted(cast, key=lambda member: member[0].y):
            if isinstance(figure, Person):
                draw_person(picture, figure, pose)
            else:
                draw_car(picture, figure, pose)

    def scale(self, y: float) -> float:
        """Pixels per metre for what stands on row `y`."""
        return self.near * (y - self.horizon) / (HEIGHT - self.horizon)

    def _pose(self, actor: Actor, now: float) -> Pose:
        gone, facing = 0.0, 1
        for number, (start, end) in enumerate(pairwise(actor.way)):
            dx, dy = end[1] - start[1], end[2] - start[2]
            metres = (dx * dx + dy * dy) ** 0.5 / self.scale((start[2] + end[2]) / 2)
            facing = facing if dx == 0 else (1 if dx > 0 else -1)
            if now < end[0]:
                share = (now - start[0]) / (end[0] - start[0])
                if _stands(actor.way, number + 1):
                    share = 1 - (1 - share) ** 2  # brakes
                elif _stands(actor.way, number - 1):
                    share = share**2  # pulls away
                x, y = start[1] + share * dx, start[2] + share * dy
                return Pose(x=x, y=y, pixels_per_m=self.scale(y), gone_m=gone + share * metres, facing=facing)
            gone += metres
        raise ValueError("the actor is not on its way now")


def _stands(way: tuple[Waypoint, ...], leg: int) -> bool:
    return 0 <= leg < len(way) - 1 and way[leg][1:] == way[leg + 1][1:]


def _across(start_s: float, takes_s: float, y: float, *, leftwards: bool = False) -> tuple[Waypoint, ...]:
    ends = (WIDTH + _OUT, -_OUT) if leftwards else (-_OUT, WIDTH + _OUT)
    return ((start_s, ends[0], y), (start_s + takes_s, ends[1], y))


def _street() -> Picture:
    canvas = Canvas(seed=11)
    palette = Palette(
        sky=((214, 170, 128), (232, 222, 208)),
        walls=((150, 176, 206), (176, 192, 200), (128, 152, 186), (190, 200, 204)),
        roof=(70, 78, 128),
        leaves=(64, 122, 92),
    )
    canvas.sky(palette.sky, 320)
    canvas.houses(palette, foot=345, heights=(165, 245), widths=(190, 290))
    canvas.ground(Ground(top=345, bottom=402, colour=(158, 164, 168), grain=4))
    canvas.rows(345, 402, 14, (140, 146, 150))
    for x in (150, 640, 1090):
        canvas.tree(x, 362, 190, palette.leaves)
    canvas.ground(Ground(top=402, bottom=600, colour=(92, 90, 88), grain=5))
    canvas.kerb(402, 8)
    canvas.dashes(494, 6, 90, 80)
    canvas.ground(Ground(top=600, bottom=HEIGHT, colour=(150, 156, 160), grain=4))
    canvas.rows(600, HEIGHT, 26, (132, 138, 142))
    canvas.kerb(590, 12)
    for x in (390, 930):
        canvas.lamp(x, 396, 300, 70)
    return canvas.picture


def _crossing() -> Picture:
    canvas = Canvas(seed=23)
    palette = Palette(
        sky=((150, 118, 120), (176, 190, 232)),
        walls=((120, 130, 168), (142, 150, 164), (108, 120, 142)),
        roof=(62, 60, 78),
        leaves=(58, 98, 104),
    )
    canvas.sky(palette.sky, 250)
    canvas.houses(palette, foot=270, heights=(120, 190), widths=(150, 230))
    canvas.ground(Ground(top=270, bottom=330, colour=(136, 138, 146), grain=4))
    canvas.rows(270, 330, 12, (120, 122, 130))
    for x in (70, 330, 1010, 1210):
        canvas.tree(x, 300, 160, palette.leaves)
    canvas.ground(Ground(top=330, bottom=580, colour=(84, 80, 82), grain=5))
    canvas.kerb(330, 8)
    canvas.dashes(446, 5, 80, 70)
    for bar in range(7):
        far, near = 520 + 36 * bar, 466 + 54 * bar
        canvas.stripe(((far, 340), (far + 19, 340), (near + 29, 568), (near, 568)))
    canvas.ground(Ground(top=580, bottom=HEIGHT, colour=(140, 142, 150), grain=4))
    canvas.rows(580, HEIGHT, 28, (124, 126, 134))
    canvas.kerb(570, 12)
    canvas.lamp(440, 330, 250, -60)
    canvas.lamp(880, 330, 250, 60)
    return canvas.picture


def _parking() -> Picture:
    canvas = Canvas(seed=37)
    palette = Palette(
        sky=((206, 186, 158), (226, 224, 218)),
        walls=((178, 182, 178), (150, 160, 156)),
        roof=(104, 104, 100),
        leaves=(56, 112, 74),
    )
    canvas.sky(palette.sky, 210)
    canvas.houses(palette, foot=215, heights=(90, 130), widths=(330, 420))
    canvas.ground(Ground(top=215, bottom=262, colour=(74, 134, 96), grain=7))
    for x in range(30, WIDTH, 150):
        canvas.tree(x, 250, 105, palette.leaves)
    canvas.ground(Ground(top=262, bottom=HEIGHT, colour=(108, 108, 106), grain=5))
    canvas.kerb(262, 8)
    for x in range(-60, WIDTH + 300, 240):
        canvas.stripe(((x, 276), (x + 4, 276), (x - 26, 370), (x - 32, 370)))
    canvas.stripe(((0, 368), (WIDTH, 368), (WIDTH, 372), (0, 372)))
    for x in range(-120, WIDTH + 500, 400):
        canvas.stripe(((x, 566), (x + 6, 566), (x - 48, HEIGHT), (x - 58, HEIGHT)))
    canvas.stripe(((0, 562), (WIDTH, 562), (WIDTH, 568), (0, 568)))
    for x, paint in ((45, (60, 60, 150)), (525, (188, 190, 192)), (1005, (92, 74, 52))):
        scale = SCENES["parking"].scale(345)
        draw_car(canvas.picture, Car(paint=paint), Pose(x=x, y=345, pixels_per_m=scale, gone_m=0, facing=1))
    return canvas.picture


_WALKERS: Final = (
    Person(coat=(74, 60, 168), trousers=(70, 52, 44)),
    Person(coat=(150, 104, 44), trousers=(58, 60, 66), hair=(24, 26, 30)),
    Person(coat=(70, 120, 70), trousers=(96, 88, 80), skin=(104, 138, 196), hair=(22, 22, 26)),
    Person(coat=(60, 180, 214), trousers=(92, 62, 40), hair=(70, 110, 150)),
    Person(coat=(192, 190, 188), trousers=(46, 44, 48), skin=(84, 116, 170), hair=(20, 20, 24)),
)

SCENES: Final[dict[str, Scene]] = {
    "street": Scene(
        backdrop=_street,
        horizon=170,
        near=142,
        actors=(
            Actor(figure=Car(paint=(54, 46, 176)), way=_across(1.0, 5.6, 562)),
            Actor(figure=Car(paint=(196, 196, 198), length_m=4.6, height_m=1.7), way=_across(11.5, 6.4, 566)),
            Actor(figure=Car(paint=(150, 92, 40)), way=_across(4.0, 6.8, 462, leftwards=True)),
            Actor(figure=Car(paint=(60, 62, 64), height_m=1.42), way=_across(16.0, 6.2, 464, leftwards=True)),
            Actor(figure=_WALKERS[0], way=((0.0, -60, 664), (13.5, WIDTH + 60, 664))),
            Actor(figure=_WALKERS[1], way=((6.0, WIDTH + 60, 690), (19.0, -60, 690))),
            Actor(figure=_WALKERS[2], way=((9.0, -40, 388), (27.5, WIDTH + 40, 388))),
            Actor(figure=_WALKERS[3], way=((12.0, WIDTH + 40, 380), (30.5, -40, 380))),
        ),
    ),
    "crossing": Scene(
        backdrop=_crossing,
        horizon=110,
        near=128,
        actors=(
            Actor(
                figure=Car(paint=(168, 120, 52)),
                way=((0.0, -_OUT, 545), (3.4, 230, 545), (11.6, 230, 545), (15.2, WIDTH + _OUT, 545)),
            ),
            Actor(
                figure=Car(paint=(70, 160, 196)),
                way=((1.2, WIDTH + _OUT, 425), (4.6, 1060, 425), (12.0, 1060, 425), (16.0, -_OUT, 425)),
            ),
            Actor(figure=Car(paint=(52, 52, 58), length_m=4.5), way=_across(15.0, 5.0, 548)),
            Actor(figure=_WALKERS[3], way=((1.0, 60, 312), (4.5, 560, 318), (10.8, 500, 640), (19.0, -80, 672))),
            Actor(
                figure=_WALKERS[4],
                way=((2.0, WIDTH + 60, 316), (5.0, 700, 318), (11.2, 760, 650), (18.0, WIDTH + 80, 690)),
            ),
            Actor(
                figure=_WALKERS[0],
                way=((0.2, WIDTH + 60, 660), (4.6, 680, 640), (11.4, 640, 320), (20.5, WIDTH + 40, 308)),
            ),
            Actor(figure=_WALKERS[1], way=((13.0, -60, 610), (26.0, WIDTH + 60, 618))),
        ),
    ),
    "parking": Scene(
        backdrop=_parking,
        horizon=60,
        near=120,
        actors=(
            Actor(
                figure=Car(paint=(44, 40, 160)),
                way=(
                    (0.5, -_OUT, 470),
                    (4.5, 640, 470),
                    (6.5, 760, 350),
                    (13.0, 760, 350),
                    (15.0, 940, 460),
                    (18.5, WIDTH + _OUT, 470),
                ),
            ),
            Actor(
                figure=Car(paint=(206, 206, 204), length_m=4.5, height_m=1.65),
                way=_across(16.0, 7.0, 530, leftwards=True),
            ),
            Actor(figure=_WALKERS[2], way=((7.0, 720, 372), (16.0, 300, 500), (23.5, -60, 600))),
            Actor(figure=_WALKERS[4], way=((2.0, -60, 640), (11.5, 560, 690), (19.5, WIDTH + 60, 640))),
            Actor(figure=_WALKERS[0], way=((8.0, WIDTH + 60, 420), (25.0, -60, 415))),
        ),
    ),
}

"""Camera groups contain every camera, are bounded and have one placement. Changing a camera moves no other camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.cluster.cost_model import camera_millicores
from nvision_hub.cluster.placement import (
    MAX_MILLICORES,
    CameraGroup,
    assignment,
    format_assignment,
    group_cameras,
    parse_assignment,
)
from nvision_hub.config.models import Camera
from nvision_hub.config.value_types import Labels
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 800
PLACEMENTS: list[dict[str, str]] = [
    {},
    {"site": "east"},
    {"zone": "east"},
    {"site": "east", "zone": "a"},
    {"site": "east-zone-a"},
    {"site": "East"},
    {"site": "Ø" * 200},
    {"p": "x"},
    {"": ""},
]


def camera(camera_id: str, **settings: Any) -> Camera:
    return Camera.model_validate({"id": camera_id, "url": "rtsp://127.0.0.1/1", **settings})


cameras = st.builds(
    camera,
    st.integers(0, 200).map("cam-{}".format),
    fps=st.sampled_from([0.1, 0.5, 1.0, 5.0, 25.0, 60.0]),
    when=st.sampled_from(["always", "motion"]),
    placement=st.sampled_from(PLACEMENTS),
    url=st.sampled_from(["rtsp://127.0.0.1/1", "http://127.0.0.1/v.mjpg", "snapshot+http://127.0.0.1/1.jpg"]),
)
fleets = st.lists(cameras, min_size=1, max_size=60, unique_by=lambda it: it.id)


def grouped(fleet: Sequence[Camera], previous: Sequence[CameraGroup] = ()) -> tuple[CameraGroup, ...]:
    return group_cameras(fleet, previous=assignment(previous), max_millicores=LIMIT)


def fits(one: CameraGroup, of: Sequence[Camera]) -> bool:
    return one.millicores <= LIMIT or len([it for it in of if it.id in one.cameras]) == 1


@given(fleets)
def test_each_camera_is_in_one_group_of_its_placement_within_the_limit(fleet: list[Camera]) -> None:
    groups = grouped(fleet)
    assert sorted(each for found in groups for each in found.cameras) == sorted(it.id for it in fleet)
    by_id = {it.id: it for it in fleet}
    for found in groups:
        assert {by_id[each].placement for each in found.cameras} == {found.placement}
        assert found.millicores == sum(camera_millicores(by_id[each]) for each in found.cameras)
        assert fits(found, fleet)
    assert len({found.name for found in groups}) == len(groups)
    assert all(len(found.name) <= 60 for found in groups)


@given(fleets, st.randoms(use_true_random=False))
def test_the_order_of_cameras_does_not_matter(fleet: list[Camera], rng: Any) -> None:
    shuffled = list(fleet)
    rng.shuffle(shuffled)
    assert grouped(shuffled) == grouped(fleet)


@given(fleets, fleets)
def test_adding_and_removing_cameras_moves_no_other_and_respects_the_limit(
    fleet: list[Camera], others: list[Camera]
) -> None:
    added = [it for it in others if it.id not in {known.id for known in fleet}]
    groups = grouped(fleet)
    for step in ([*added, *fleet], [*fleet[::2], *added], fleet):
        before, groups = assignment(groups), grouped(step, groups)
        after = assignment(groups)
        assert {each: before[each] for each in before if each in after} == {
            each: after[each] for each in before if each in after
        }
        assert all(fits(found, step) for found in groups)


@given(fleets)
def test_settings_move_no_camera_and_a_placement_moves_only_its_own(fleet: list[Camera]) -> None:
    groups = grouped(fleet)
    before = assignment(groups)
    costlier = [it.model_copy(update={"fps": 60.0}) for it in fleet]
    assert assignment(grouped(costlier, groups)) == before
    moved = fleet[0].model_copy(update={"placement": Labels({"site": "elsewhere"})})
    after = assignment(grouped([moved, *fleet[1:]], groups))
    assert after.pop(moved.id) == "site-elsewhere-1"
    assert after == {each: name for each, name in before.items() if each != moved.id}


@given(fleets)
def test_an_assignment_survives_formatting_and_parsing(fleet: list[Camera]) -> None:
    groups = grouped(fleet)
    assert parse_assignment(format_assignment(groups)) == assignment(groups)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"east": ["a"]}', '{"any-0": ["a"]}', '{"any-1": "a"}', '{"any-1": [1]}', '{"../x-1": []}']
)
def test_text_that_is_not_an_assignment_is_rejected(text: str) -> None:
    with pytest.raises(HubError, match=r"^not an assignment of cameras.*; delete it to assign all cameras again$"):
        parse_assignment(text)


def test_groups_of_different_placements_never_share_a_name() -> None:
    groups = grouped([camera(f"cam-{number}", placement=of) for number, of in enumerate(PLACEMENTS)])
    assert len({found.name for found in groups}) == len(PLACEMENTS)
    assert {found.name for found in groups} > {"any-1", "site-east-1", "zone-east-1", "site-east-zone-a-1"}


@pytest.mark.parametrize(
    ("placement", "name"),
    [
        ({}, "any-1"),
        ({"zone": "a", "site": "east"}, "site-east-zone-a-1"),
        ({"a1": "x"}, "a1-x-1"),
        ({"a" * 20: "b" * 19}, f"{'a' * 20}-{'b' * 19}-1"),
        ({"a" * 20: "b" * 20}, f"p-{'a' * 20}-bbbbbbbb-a5d8e9dc-1"),
        ({"site": "East Wing"}, "p-site-east-wing-9790dd55-1"),
        ({"site": "(Øst)"}, "p-site-st-a53fa708-1"),
        ({"x": "ends!"}, "p-x-ends-b1d078d9-1"),
        ({"site": "X" * 23 + "  " + "y" * 20}, f"p-site-{'x' * 23}-39b54e4b-1"),
        ({"Ø": "Ø"}, "p-e1b05abc-1"),
        ({"p": "x"}, "p-p-x-30d1fc32-1"),
        ({"1a": "x"}, "p-1a-x-45f14002-1"),
        ({"site": "a" * 21}, f"p-site-{'a' * 21}-2f4a16c3-1"),
    ],
)
def test_the_names_of_groups_stay_the_same(placement: dict[str, str], name: str) -> None:
    """Stored assignments contain these names, so different names would move cameras after an update of the hub."""
    (found,) = group_cameras([camera("lobby", placement=placement)])
    assert found.name == name


def test_costly_cameras_are_placed_first() -> None:
    """Cheap cameras then fill the remaining capacity: 622 + 108, and 371 + 371 millicores."""
    fleet = [camera("a", fps=1), camera("b", fps=25), camera("c", fps=25), camera("d", fps=60)]
    groups = group_cameras(fleet, max_millicores=750)
    assert [found.cameras for found in groups] == [("a", "d"), ("b", "c")]


def test_new_cameras_fill_gaps_of_removed_ones_first() -> None:
    fleet = [camera(f"cam-{number:02}", fps=5) for number in range(8)]  # 227 millicores each, so three per group
    groups = grouped(fleet)
    assert [found.cameras for found in groups] == [
        ("cam-00", "cam-01", "cam-02"),
        ("cam-03", "cam-04", "cam-05"),
        ("cam-06", "cam-07"),
    ]
    groups = grouped([it for it in fleet if it.id not in {"cam-00", "cam-03", "cam-04"}], groups)
    groups = grouped([*fleet[1:3], *fleet[5:], camera("new", fps=5), camera("newer", fps=5)], groups)
    assert assignment(groups)["new"] == "any-1"
    assert assignment(groups)["newer"] == "any-3"
    assert [found.name for found in grouped(fleet[:3])] == ["any-1"]


def test_a_camera_above_the_limit_gets_its_own_group() -> None:
    groups = group_cameras([camera("a", fps=60), camera("b", fps=60)], max_millicores=100)
    assert [found.cameras for found in groups] == [("a",), ("b",)]


def test_groups_sort_by_number() -> None:
    groups = group_cameras([camera(f"cam-{number}", fps=60) for number in range(11)], max_millicores=700)
    assert [found.name for found in groups] == [f"any-{number}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("settings", "lower", "upper"),
    [
        # Millicores: `lower` is the measurement in docs/performance.md. `upper` is at most twice as much.
        ({"fps": 5}, 207, 230),
        ({"fps": 5, "max_width": 640}, 182, 230),
        ({"fps": 1}, 106, 120),
        ({"fps": 0.5}, 30, 60),
        ({"fps": 5, "url": "http://127.0.0.1/v.mjpg"}, 25, 49),
    ],
)
def test_the_estimated_cost_is_close_to_the_measured_one(settings: dict[str, Any], lower: int, upper: int) -> None:
    assert lower <= camera_millicores(camera("cam", **settings)) <= upper


@given(cameras, st.sampled_from([0.2, 1.0, 30.0]))
def test_more_frames_never_cost_less(one: Camera, fps: float) -> None:
    more = one.model_copy(update={"fps": max(one.fps, fps)})
    assert camera_millicores(one) <= camera_millicores(more)
    assert camera_millicores(one) <= camera_millicores(one.model_copy(update={"when": "motion"}))
    assert camera_millicores(one) <= MAX_MILLICORES

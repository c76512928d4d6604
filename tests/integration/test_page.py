"""The ops page in a real browser, on a real hub with the three demo cameras."""

from __future__ import annotations

import base64
import os
import re
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.browser import CAMERAS, PHONE, TOKEN, View
from workers.local_service import packaged_models
from workers.local_service.detectors import MOVING_OBJECTS, NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from tests.support.hub import Hub

pytestmark = pytest.mark.long


# The drawn pixels and the id of their frame, read in one step.
_READ_CANVAS = (
    "canvas => ({frame: canvas.dataset.frame, boxes: canvas.dataset.boxes, png: canvas.toDataURL().split(',')[1]})"
)
# BOX_COLORS of web/src/previews/draw_frame.ts, in OpenCV's channel order.
_BOX_COLORS = np.array(
    [(63, 210, 255), (240, 201, 76), (171, 143, 255), (153, 237, 128), (77, 169, 255), (255, 180, 205)]
)


def tile(view: View, camera: str) -> Locator:
    return view.page.locator(f"li[data-camera={camera}]")


def read_canvas(view: View, camera: str) -> dict[str, Any]:
    content: dict[str, Any] = tile(view, camera).locator("canvas").evaluate(_READ_CANVAS)
    return content


def result_of(hub: Hub, camera: str, frame: str) -> dict[str, Any] | None:
    """Return the published result of a frame; None if there is none."""
    return next((event for event in hub.events(camera) if event["frame_id"] == frame), None)


def count_drawn_boxes(png: str, boxes: list[dict[str, int]], frame_size: tuple[int, int]) -> int:
    """Return the number of boxes with a box color on their left or right edge."""
    image = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    height, width = image.shape[:2]

    def is_drawn(x: float, top: float, bottom: float) -> bool:
        column = np.clip(round(x * width / frame_size[0]), 1, width - 2)
        edge = image[
            round(top * height / frame_size[1]) : round(bottom * height / frame_size[1]) + 1, column - 1 : column + 2
        ]
        distances = np.abs(edge[:, :, None, :].astype(int) - _BOX_COLORS).sum(axis=3).min(axis=2)
        return bool((distances.min(axis=1) < 30).mean() > 0.3) if distances.size else False

    return sum(
        is_drawn(box["left"], box["top"], box["bottom"]) or is_drawn(box["right"], box["top"], box["bottom"])
        for box in boxes
    )


def test_wall_shows_live_previews_with_the_boxes_of_their_own_results(
    open_page: Callable[..., View], demo_hub: Hub
) -> None:
    view = open_page()
    for camera in CAMERAS:
        canvas = tile(view, camera).locator("canvas")
        expect(canvas).to_have_attribute("data-boxes", re.compile("[1-9]"))
        first = read_canvas(view, camera)
        expect(canvas).not_to_have_attribute("data-frame", first["frame"])
        expect(canvas).to_have_attribute("data-boxes", re.compile("[1-9]"))
        second = read_canvas(view, camera)
        assert first["png"] != second["png"]
        for shown in (first, second):
            event = result_of(demo_hub, camera, shown["frame"])
            assert event is not None, "the drawn frame has a result"
            detections = event["detected_objects"]
            assert int(shown["boxes"]) == len(detections)
            size = (event["hub"]["width"], event["hub"]["height"])
            assert (
                count_drawn_boxes(shown["png"], [one["bounding_box"] for one in detections], size)
                >= len(detections) / 2
            )
    expect(view.page.get_by_role("button", name=re.compile("Streaming 3"))).to_be_visible()


def test_pause_button_stops_the_camera_and_confirms(open_page: Callable[..., View], demo_hub: Hub) -> None:
    view = open_page()
    expect(tile(view, "street")).to_have_attribute("data-state", "streaming")
    view.page.get_by_role("button", name="Pause Demo street").click()
    expect(tile(view, "street").locator(".badge")).to_have_text("Paused")
    expect(view.page.get_by_text("Paused Demo street.")).to_be_visible()
    paused_at = datetime.now(UTC)
    # Wait for eight results of another camera. If the pause failed, the street camera would send frames in that time.
    demo_hub.wait_for_results("crossing", int(demo_hub.camera("crossing").total("results_published_total")) + 8)
    sent = [datetime.fromisoformat(event["hub"]["sent_at"]) for event in demo_hub.events("street")]
    assert max(sent) < paused_at
    view.page.get_by_role("button", name="Resume Demo street").click()
    expect(tile(view, "street").locator(".badge")).to_have_text("Streaming")


def test_killed_worker_shows_its_restart(open_page: Callable[..., View], demo_hub: Hub) -> None:
    view = open_page(
        "#/cameras/crossing", allow_problems=True
    )  # the browser logs requests that fail during the restart
    restarts = view.page.get_by_role("row", name=re.compile("Worker restarts"))
    expect(restarts).to_contain_text("0")
    killed = demo_hub.member_pid("camera:crossing")
    expect(view.page.get_by_text(f"PID {killed}")).to_be_visible()
    os.kill(killed, signal.SIGKILL)
    expect(restarts).to_contain_text("1")
    expect(view.page.get_by_text(f"PID {killed}")).not_to_be_visible()
    expect(view.page.locator("article")).to_have_attribute("data-state", "streaming")
    view.page.get_by_role("link", name="Hub").click()
    row = view.page.get_by_role("row", name=re.compile("camera:crossing"))
    expect(row).to_contain_text(str(demo_hub.member_pid("camera:crossing")))


def test_hub_page_names_the_models_that_answer(open_page: Callable[..., View]) -> None:
    view = open_page("#/hub")
    for label, model, fallback in (
        ("Object model", packaged_models.OBJECTS, MOVING_OBJECTS),
        ("Face model", packaged_models.FACES, NOTHING),
    ):
        stat = view.page.locator(".stat", has=view.page.get_by_text(label, exact=True))
        expect(stat.locator("dd")).to_have_text(model.name if model.is_installed else fallback)


def test_token_prompt_stores_the_token_for_its_tab(open_page: Callable[..., View]) -> None:
    view = open_page(token=None)
    dialog = view.page.get_by_role("dialog", name="Token")
    expect(dialog).to_contain_text("requires a token")
    dialog.get_by_label("Token").fill("not this one")
    dialog.get_by_role("button", name="Connect").click()
    expect(dialog).to_contain_text("rejected this token")
    assert tile(view, "street").count() == 0
    dialog.get_by_label("Token").fill(TOKEN)
    dialog.get_by_role("button", name="Connect").click()
    expect(tile(view, "street")).to_be_visible()
    view.page.reload()
    expect(tile(view, "street")).to_be_visible()
    expect(dialog).not_to_be_visible()


def test_only_visible_cameras_get_previews(open_page: Callable[..., View]) -> None:
    view = open_page(size={"width": 390, "height": 420})
    expect(tile(view, "street")).to_be_attached()
    view.wait_until(lambda: "street" in view.previewed(), "the first tile is visible")
    assert "parking" not in view.previewed()
    tile(view, "parking").scroll_into_view_if_needed()
    view.wait_until(
        lambda: "parking" in view.previewed() and "street" not in view.previewed(), "only the last tile is visible"
    )
    view.page.get_by_role("link", name="Webhooks").click()
    view.wait_until(lambda: view.previewed() == set(), "no tile is visible")


def test_lost_gateway_shows_a_banner_until_reconnected(open_page: Callable[..., View], demo_hub: Hub) -> None:
    view = open_page(allow_problems=True)  # the browser logs the lost connection
    expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    os.kill(demo_hub.member_pid("gateway"), signal.SIGKILL)
    expect(view.page.get_by_role("alert")).to_contain_text("Disconnected from the hub. This data is from")
    expect(view.page.get_by_role("alert")).not_to_be_visible()
    canvas = tile(view, "street").locator("canvas")
    expect(canvas).not_to_have_attribute("data-frame", read_canvas(view, "street")["frame"])


def test_frame_rate_is_estimated_applied_and_reset(open_page: Callable[..., View], demo_hub: Hub) -> None:
    view = open_page("#/cameras/street")
    cost = view.page.locator(".cost")
    expect(cost).to_contain_text("432,000 images per day")
    rate = view.page.get_by_role("slider", name="Frames per second")
    rate.press("ArrowLeft")
    rate.press("ArrowLeft")
    expect(cost).to_contain_text("259,200 images per day")
    view.page.get_by_role("button", name="Apply").click()
    expect(view.page.get_by_text("Changed the settings of Demo street.")).to_be_visible()
    demo_hub.wait_until(lambda: demo_hub.status("street")["info"]["fps"] == 3)
    view.page.get_by_text("Active settings").click()
    expect(view.page.locator(".settings div").filter(has_text=re.compile("^fps"))).to_contain_text("3 changed")
    view.page.get_by_role("button", name="Reset to 5/s (cameras.yaml)").click()
    view.page.get_by_role("button", name="Apply").click()
    demo_hub.wait_until(lambda: demo_hub.status("street")["info"]["fps"] == 5)


def test_charts_and_events_update_live(open_page: Callable[..., View]) -> None:
    view = open_page("#/cameras/street")
    expect(view.page.locator(".chart canvas")).to_have_count(4)
    view.page.keyboard.press("2")
    expect(view.page.get_by_role("heading", name="Events")).to_be_visible()
    rows = view.page.locator(".log-entry").filter(has_text="Demo crossing")
    expect(rows.first).to_be_visible()
    view.page.get_by_role("button", name="Pause").click()
    shown = view.page.locator(".log-entry").count()
    expect(view.page.get_by_role("button", name=re.compile(r"Resume \([1-9]"))).to_be_visible()
    assert view.page.locator(".log-entry").count() == shown


def test_chart_shows_drops_by_reason(open_page: Callable[..., View], demo_hub: Hub) -> None:
    view = open_page("#/cameras/street")
    legend = view.page.locator(".chart").filter(has_text="Dropped frames per second").locator(".u-legend")
    expect(legend).to_be_visible()

    def overwritten() -> float:
        return demo_hub.camera("street").metrics.get("frames_dropped_total{reason=overwritten}", 0)

    before, service = overwritten(), demo_hub.member_pid("service")
    os.kill(service, signal.SIGSTOP)
    try:
        demo_hub.wait_until(lambda: overwritten() > before)
    finally:
        os.kill(service, signal.SIGCONT)
    expect(legend).to_contain_text("overwritten")
    view.page.reload()  # the reloaded page gets the values from the hub's history
    expect(legend).to_contain_text("overwritten")
    published = demo_hub.camera("street").total("results_published_total")
    demo_hub.wait_for_results("street", int(published) + 5)


def test_keyboard_reaches_every_view(open_page: Callable[..., View]) -> None:
    view = open_page()
    expect(tile(view, "street")).to_be_visible()
    keys = view.page.keyboard
    keys.press("/")
    expect(view.page.get_by_label("Filter cameras")).to_be_focused()
    keys.type("crossing")
    expect(view.page.locator("li.tile")).to_have_count(1)
    keys.press("Tab")  # sort order
    keys.press("Tab")  # tile size
    keys.press("Tab")  # add camera
    keys.press("Tab")
    expect(tile(view, "crossing").locator("a").first).to_be_focused()
    keys.press("Enter")
    expect(view.page.get_by_role("heading", name="Demo crossing")).to_be_visible()
    keys.press("Escape")
    expect(tile(view, "crossing")).to_be_visible()
    keys.press("?")
    expect(view.page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    keys.press("Escape")
    expect(view.page.get_by_role("dialog", name="Keyboard shortcuts")).not_to_be_visible()
    keys.press("4")
    expect(view.page.get_by_role("row", name=re.compile("gateway"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["#/", "#/cameras/street", "#/events", "#/webhooks", "#/hub"])
def test_every_view_is_accessible(open_page: Callable[..., View], address: str, scheme: str) -> None:
    view = open_page(address, color_scheme=scheme)
    expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    if address == "#/cameras/street":
        expect(view.page.locator(".chart canvas")).to_have_count(4)
        expect(view.page.locator(".cost")).to_contain_text("images per day")
    report = Axe().run(view.page)
    assert report.violations_count == 0, report.generate_report()


def test_phone_never_scrolls_sideways(open_page: Callable[..., View]) -> None:
    for address in ("#/", "#/cameras/street", "#/events", "#/webhooks", "#/hub"):
        view = open_page(address, size=PHONE, has_touch=True)
        expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert view.page.evaluate(overflow) == 0, address

"""The ops page in a real browser, on a real hub with the three demo cameras."""

from __future__ import annotations

import base64
import os
import re
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.browser import CAMERAS, PATIENCE_S, PHONE, TOKEN, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

STOPPED_WITHIN = timedelta(seconds=2)

# What is drawn, with the picture that it belongs to, both of one moment.
_DRAWN = "canvas => ({frame: canvas.dataset.frame, boxes: canvas.dataset.boxes, png: canvas.toDataURL().split(',')[1]})"
# The colours of boxes, as watching/draw.ts has them, in OpenCV's order.
_COLOURS = np.array([(63, 210, 255), (240, 201, 76), (171, 143, 255), (153, 237, 128), (77, 169, 255), (255, 180, 205)])


def tile(view: View, camera: str) -> Locator:
    return view.page.locator(f"li[data-camera={camera}]")


def drawn(view: View, camera: str) -> dict[str, Any]:
    shown: dict[str, Any] = tile(view, camera).locator("canvas").evaluate(_DRAWN)
    return shown


def result_of(hub: Hub, camera: str, frame: str) -> dict[str, Any] | None:
    """The result of one picture, as consumers got it."""
    return next((event for event in hub.events(camera) if event["frame_id"] == frame), None)


def coloured_edges(png: str, boxes: list[dict[str, int]], sent: tuple[int, int]) -> int:
    """How many of the boxes have their colour on their left or right edge."""
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    height, width = picture.shape[:2]

    def coloured(x: float, top: float, bottom: float) -> bool:
        column = np.clip(round(x * width / sent[0]), 1, width - 2)
        edge = picture[round(top * height / sent[1]) : round(bottom * height / sent[1]) + 1, column - 1 : column + 2]
        distances = np.abs(edge[:, :, None, :].astype(int) - _COLOURS).sum(axis=3).min(axis=2)
        return bool((distances.min(axis=1) < 30).mean() > 0.3) if distances.size else False

    return sum(
        coloured(box["left"], box["top"], box["bottom"]) or coloured(box["right"], box["top"], box["bottom"])
        for box in boxes
    )


def test_the_wall_shows_moving_pictures_with_the_boxes_of_their_own_results(
    look: Callable[..., View], demo_hub: Hub
) -> None:
    view = look()
    for camera in CAMERAS:
        canvas = tile(view, camera).locator("canvas")
        expect(canvas).to_have_attribute("data-boxes", re.compile("[1-9]"))
        first = drawn(view, camera)
        expect(canvas).not_to_have_attribute("data-frame", first["frame"])
        expect(canvas).to_have_attribute("data-boxes", re.compile("[1-9]"))
        second = drawn(view, camera)
        assert first["png"] != second["png"]
        for shown in (first, second):
            event = result_of(demo_hub, camera, shown["frame"])
            assert event is not None, "what is drawn belongs to a picture that the service saw"
            found = event["detected_objects"]
            assert int(shown["boxes"]) == len(found)
            size = (event["hub"]["width"], event["hub"]["height"])
            assert coloured_edges(shown["png"], [one["bounding_box"] for one in found], size) >= len(found) / 2
    expect(view.page.get_by_role("button", name=re.compile("Streaming 3"))).to_be_visible()


def test_pausing_on_the_page_stops_the_camera_and_says_so(look: Callable[..., View], demo_hub: Hub) -> None:
    view = look()
    expect(tile(view, "street")).to_have_attribute("data-state", "streaming")
    pressed = time.time()
    view.page.get_by_role("button", name="Pause Demo street").click()
    expect(tile(view, "street").locator(".badge")).to_have_text("Paused")
    expect(view.page.get_by_text("Demo street is paused.")).to_be_visible()
    # Others go on; by the time that they have sent for seconds, a picture of this one would have been seen.
    demo_hub.wait_for_results("crossing", int(demo_hub.camera("crossing").total("results_published_total")) + 8)
    sent = [datetime.fromisoformat(event["hub"]["sent_at"]) for event in demo_hub.events("street")]
    assert max(sent) - datetime.fromtimestamp(pressed, UTC) < STOPPED_WITHIN
    view.page.get_by_role("button", name="Resume Demo street").click()
    expect(tile(view, "street").locator(".badge")).to_have_text("Streaming")


def test_a_worker_that_is_killed_shows_its_restart(look: Callable[..., View], demo_hub: Hub) -> None:
    view = look("#/cameras/crossing", spoiled=True)  # what it asks meanwhile is refused, which the browser tells
    counted = view.page.get_by_role("row", name=re.compile("Worker restarts"))
    expect(counted).to_contain_text("0")
    killed = demo_hub.member_pid("camera:crossing")
    expect(view.page.get_by_text(f"pid {killed}")).to_be_visible()
    os.kill(killed, signal.SIGKILL)
    expect(counted).to_contain_text("1")
    expect(view.page.get_by_text(f"pid {killed}")).not_to_be_visible()
    expect(view.page.locator("article")).to_have_attribute("data-state", "streaming")
    view.page.get_by_role("link", name="Hub").click()
    row = view.page.get_by_role("row", name=re.compile("camera:crossing"))
    expect(row).to_contain_text(str(demo_hub.member_pid("camera:crossing")))


def test_the_page_asks_for_the_token_and_keeps_it_for_its_tab(look: Callable[..., View]) -> None:
    view = look(token=None)
    asked = view.page.get_by_role("dialog", name="Token")
    expect(asked).to_contain_text("asks for a token")
    asked.get_by_label("Token").fill("not this one")
    asked.get_by_role("button", name="Open").click()
    expect(asked).to_contain_text("does not accept")
    assert tile(view, "street").count() == 0
    asked.get_by_label("Token").fill(TOKEN)
    asked.get_by_role("button", name="Open").click()
    expect(tile(view, "street")).to_be_visible()
    view.page.reload()
    expect(tile(view, "street")).to_be_visible()
    expect(asked).not_to_be_visible()


def test_only_cameras_on_the_screen_are_watched(look: Callable[..., View]) -> None:
    view = look(size={"width": 390, "height": 420})
    expect(tile(view, "street")).to_be_attached()
    view.until(lambda: "street" in view.watched(), "the first tile is on the screen")
    assert "parking" not in view.watched()
    tile(view, "parking").scroll_into_view_if_needed()
    view.until(lambda: "parking" in view.watched() and "street" not in view.watched(), "the last one is, instead")
    view.page.get_by_role("link", name="Webhooks").click()
    view.until(lambda: view.watched() == set(), "no picture is")


def test_a_gateway_that_dies_is_told_of_plainly_and_found_again(look: Callable[..., View], demo_hub: Hub) -> None:
    view = look(spoiled=True)  # the browser itself complains of a lost connection
    expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    os.kill(demo_hub.member_pid("gateway"), signal.SIGKILL)
    expect(view.page.get_by_role("alert")).to_contain_text("What you see is old")
    expect(view.page.get_by_role("alert")).not_to_be_visible()
    canvas = tile(view, "street").locator("canvas")
    expect(canvas).not_to_have_attribute("data-frame", drawn(view, "street")["frame"])


def test_rate_is_tried_out_applied_and_taken_back(look: Callable[..., View], demo_hub: Hub) -> None:
    view = look("#/cameras/street")
    cost = view.page.locator(".cost")
    expect(cost).to_contain_text("432,000 images a day")
    rate = view.page.get_by_role("slider", name="Pictures a second")
    rate.press("ArrowLeft")
    rate.press("ArrowLeft")
    expect(cost).to_contain_text("259,200 images a day")
    view.page.get_by_role("button", name="Apply").click()
    expect(view.page.get_by_text("Demo street has its new settings.")).to_be_visible()
    demo_hub.wait_until(lambda: demo_hub.status("street")["row"]["fps"] == 3)
    view.page.get_by_text("Settings in force").click()
    expect(view.page.locator(".settings div").filter(has_text=re.compile("^fps"))).to_contain_text("3 changed")
    view.page.get_by_role("button", name=re.compile("Back to the file")).click()
    view.page.get_by_role("button", name="Apply").click()
    demo_hub.wait_until(lambda: demo_hub.status("street")["row"]["fps"] == 5)


def test_charts_and_events_go_on_by_themselves(look: Callable[..., View]) -> None:
    view = look("#/cameras/street")
    expect(view.page.locator(".chart canvas")).to_have_count(4)
    view.page.keyboard.press("2")
    expect(view.page.get_by_role("heading", name="Events")).to_be_visible()
    rows = view.page.locator(".entry").filter(has_text="Demo crossing")
    expect(rows.first).to_be_visible()
    view.page.get_by_role("button", name="Hold").click()
    held = view.page.locator(".entry").count()
    expect(view.page.get_by_role("button", name=re.compile(r"Go on \([1-9]"))).to_be_visible()
    assert view.page.locator(".entry").count() == held


def test_drops_are_charted_by_reason(look: Callable[..., View], demo_hub: Hub) -> None:
    view = look("#/cameras/street")
    legend = view.page.locator(".chart").filter(has_text="Dropped a second").locator(".u-legend")
    expect(legend).to_be_visible()
    service = demo_hub.member_pid("service")
    os.kill(service, signal.SIGKILL)
    demo_hub.wait_until(
        lambda: demo_hub.camera("street").metrics.get("frames_dropped_total{reason=overwritten}", 0) > 0
    )
    expect(legend).to_contain_text("overwritten")
    view.page.reload()  # what the page has seen itself, it asks for then
    expect(legend).to_contain_text("overwritten")
    demo_hub.wait_until(lambda: demo_hub.pid("service") not in {None, service})
    seen = demo_hub.camera("street").total("results_published_total")
    demo_hub.wait_for_results("street", int(seen) + 5, PATIENCE_S)


def test_everything_is_reached_by_keyboard(look: Callable[..., View]) -> None:
    view = look()
    expect(tile(view, "street")).to_be_visible()
    keys = view.page.keyboard
    keys.press("/")
    expect(view.page.get_by_label("Filter cameras")).to_be_focused()
    keys.type("crossing")
    expect(view.page.locator("li.tile")).to_have_count(1)
    keys.press("Tab")  # the order
    keys.press("Tab")  # the size
    keys.press("Tab")  # another camera
    keys.press("Tab")
    expect(tile(view, "crossing").locator("a").first).to_be_focused()
    keys.press("Enter")
    expect(view.page.get_by_role("heading", name="Demo crossing")).to_be_visible()
    keys.press("Escape")
    expect(tile(view, "crossing")).to_be_visible()
    keys.press("?")
    expect(view.page.get_by_role("dialog", name="Keys")).to_be_visible()
    keys.press("Escape")
    expect(view.page.get_by_role("dialog", name="Keys")).not_to_be_visible()
    keys.press("4")
    expect(view.page.get_by_role("row", name=re.compile("gateway"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["#/", "#/cameras/street", "#/events", "#/webhooks", "#/hub"])
def test_it_can_be_read_by_everyone(look: Callable[..., View], address: str, scheme: str) -> None:
    view = look(address, color_scheme=scheme)
    expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    if address == "#/cameras/street":
        expect(view.page.locator(".chart canvas")).to_have_count(4)
        expect(view.page.locator(".cost")).to_contain_text("images a day")
    found = Axe().run(view.page)
    assert found.violations_count == 0, found.generate_report()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(look: Callable[..., View]) -> None:
    for address in ("#/", "#/cameras/street", "#/events", "#/webhooks", "#/hub"):
        view = look(address, size=PHONE, has_touch=True)
        expect(view.page.get_by_role("status").filter(has_text="Live")).to_be_visible()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert view.page.evaluate(wide) == 0, address

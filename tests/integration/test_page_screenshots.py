"""The pictures of the ops page in docs/, taken anew where NVISION_HUB_SCREENSHOTS is set."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import httpx2
import numpy as np
import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE_S, PHONE, page_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ViewportSize

    from tests.support.hub import Hub

DOCS: Final = Path(__file__).parents[2] / "docs"
PICTURES_BEFORE: Final = 10  # the first ones are as small as whoever looked before wanted them
LARGEST_BYTES: Final = 300_000
DESKTOP: Final[ViewportSize] = {"width": 1120, "height": 800}
FLEET: Final = (
    ("lobby", "Lobby, north door", "demo://street", 5),
    ("crossing", "Crossing", "demo://crossing", 2),
    ("car-park", "Car park, level 1", "demo://parking", 0.5),
    ("gate", "Gate 4", "demo://street", 5),
    ("dock", "Loading dock", "rtsp://127.0.0.1:9/stream1", 2),
    ("yard", "Yard", "demo://parking", 1),
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "NVISION_HUB_SCREENSHOTS" not in os.environ, reason="set NVISION_HUB_SCREENSHOTS to take those in docs/ anew"
    ),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    cameras: list[dict[str, Any]] = [
        {"id": camera, "name": name, "url": url, "fps": fps, "labels": {"floor": "1"}}
        for camera, name, url, fps in FLEET
    ]
    with page_hub(tmp_path_factory.mktemp("fleet"), cameras, site="head-office") as hub:
        for camera, _, url, _ in FLEET:
            hub.wait_for_state(camera, "streaming" if url.startswith("demo") else "unreachable", PATIENCE_S)
        httpx2.post(f"{hub.addresses['gateway']}/api/v1/cameras/yard/pause").raise_for_status()
        hub.wait_for_state("yard", "paused", PATIENCE_S)
        hub.wait_for_results("lobby", 100, PATIENCE_S)  # so that charts have something to show
        yield hub


@pytest.mark.parametrize(
    ("file", "address", "more"),
    [
        ("page-wall.png", "#/", {"color_scheme": "light", "viewport": DESKTOP}),
        ("page-dark.png", "#/cameras/lobby", {"color_scheme": "dark", "viewport": DESKTOP}),
        ("page-phone.png", "#/", {"color_scheme": "light", "viewport": PHONE, "has_touch": True}),
    ],
)
def test_screenshot(browser: Browser, fleet: Hub, file: str, address: str, more: dict[str, Any]) -> None:
    page = browser.new_context(**more).new_page()
    page.goto(f"{fleet.addresses['gateway']}/{address}")
    for camera in ("lobby",) if "cameras" in address else ("car-park", "gate", "crossing", "lobby"):
        shown = page.locator(f"[data-camera={camera}]")
        shown.scroll_into_view_if_needed()
        expect(shown.locator(".picture canvas")).to_have_attribute("data-boxes", re.compile("[1-9]"))
    page.evaluate("scrollTo(0, 0)")
    lobby = page.locator("[data-camera=lobby] .picture canvas")
    for _ in range(PICTURES_BEFORE):
        expect(lobby).not_to_have_attribute("data-frame", lobby.get_attribute("data-frame") or "")
    expect(lobby).to_have_attribute("data-boxes", re.compile("[2-9]"))
    (DOCS / file).write_bytes(smaller(page.screenshot()))
    page.context.close()
    assert (DOCS / file).stat().st_size < LARGEST_BYTES


def smaller(png: bytes) -> bytes:
    """With 52 shades of each colour, which nobody sees: pictures of cameras compress badly."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    shades = np.clip(np.rint(picture / 5) * 5, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", shades, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])

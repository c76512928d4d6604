"""Update the screenshots of the ops page in docs/ if NVISION_HUB_SCREENSHOTS is set."""

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

from tests.support.browser import PHONE, page_hub
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ViewportSize

    from tests.support.hub import Hub

DOCS: Final = Path(__file__).parents[2] / "docs"
FRAMES_BEFORE: Final = 10  # the first previews may have the width of an earlier request
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
        "NVISION_HUB_SCREENSHOTS" not in os.environ,
        reason="set NVISION_HUB_SCREENSHOTS to update the screenshots in docs/",
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
        hub.wait_for_results("lobby", 100, PATIENCE_S)  # fill the charts with data
        yield hub


@pytest.mark.parametrize(
    ("file", "address", "more"),
    [
        ("page-wall.png", "#/", {"color_scheme": "light", "viewport": DESKTOP}),
        ("page-dark.png", "#/cameras/lobby", {"color_scheme": "dark", "viewport": DESKTOP}),
        ("page-phone.png", "#/", {"color_scheme": "light", "viewport": PHONE, "has_touch": True}),
    ],
)
def test_each_screenshot_is_updated(
    browser: Browser, fleet: Hub, file: str, address: str, more: dict[str, Any]
) -> None:
    page = browser.new_context(**more).new_page()
    page.goto(f"{fleet.addresses['gateway']}/{address}")
    for camera in ("lobby",) if "cameras" in address else ("car-park", "gate", "crossing", "lobby"):
        shown = page.locator(f"[data-camera={camera}]")
        shown.scroll_into_view_if_needed()
        expect(shown.locator(".preview canvas")).to_have_attribute("data-boxes", re.compile("[1-9]"))
    page.evaluate("scrollTo(0, 0)")
    lobby = page.locator("[data-camera=lobby] .preview canvas")
    for _ in range(FRAMES_BEFORE):
        expect(lobby).not_to_have_attribute("data-frame", lobby.get_attribute("data-frame") or "")
    expect(lobby).to_have_attribute("data-boxes", re.compile("[2-9]"))
    (DOCS / file).write_bytes(quantize(page.screenshot()))
    page.context.close()
    assert (DOCS / file).stat().st_size < LARGEST_BYTES


def quantize(png: bytes) -> bytes:
    """Reduce each channel to 52 levels, without a visible difference, because camera frames make large PNG files."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    levels = np.clip(np.rint(image / 5) * 5, 0, 255).astype(np.uint8)
    return bytes(cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])

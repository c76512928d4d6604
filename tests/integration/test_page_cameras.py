"""Adding and removing cameras on the page, in a real browser on a real hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.browser import open_pages, page_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.support.browser import View
    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

STREET = {"id": "street", "name": "Demo street", "url": "demo://street", "fps": 1}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with page_hub(tmp_path_factory.mktemp("page"), [STREET]) as running:
        running.wait_for_state("street", "streaming")
        yield running


@pytest.fixture
def open_page(browser: Browser, hub: Hub) -> Iterator[Callable[..., View]]:
    with open_pages(browser, hub) as opener:
        yield opener


def test_camera_is_added_and_removed(open_page: Callable[..., View], hub: Hub) -> None:
    view = open_page()
    worker = hub.pid("camera:street")
    view.page.get_by_role("button", name="Add camera").click()
    form = view.page.get_by_role("dialog", name="Add camera")
    form.get_by_label("ID").fill("crossing")
    form.get_by_label("URL").fill("demo://crossing")
    form.get_by_label("Frames per second").fill("2")
    assert Axe().run(view.page).violations_count == 0
    form.get_by_role("button", name="Add camera").click()
    expect(view.page.get_by_text("Added crossing.")).to_be_visible()
    expect(view.page.locator("article[data-camera=crossing]")).to_have_attribute("data-state", "streaming")
    hub.wait_for_results("crossing", 1)
    assert hub.status("crossing")["info"]["fps"] == 2
    view.page.get_by_role("button", name="Remove").click()
    dialog = view.page.get_by_role("dialog", name="Remove crossing")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).not_to_be_visible()
    assert hub.pid("camera:crossing") is not None
    view.page.get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Remove camera").click()
    expect(view.page.get_by_text("Removed crossing.")).to_be_visible()
    expect(view.page.locator("li[data-camera=street]")).to_be_visible()
    expect(view.page.locator("li[data-camera=crossing]")).to_have_count(0)
    assert hub.pid("camera:street") == worker, "other cameras keep their worker"
    # The camera's page refreshes its data, so one last request may arrive after the removal. Browsers report each 404.
    view.problems[:] = [problem for problem in view.problems if "404 (Not Found)" not in problem]


def test_errors_are_shown_beside_their_fields(open_page: Callable[..., View]) -> None:
    view = open_page(allow_problems=True)  # the browser logs error responses
    view.page.get_by_role("button", name="Add camera").click()
    form = view.page.get_by_role("dialog", name="Add camera")

    def expect_error(field: str, value: str, message: str) -> None:
        """Submit an invalid value in one field, expect its error, and restore the valid value."""
        valid = form.get_by_label(field).input_value()
        form.get_by_label(field).fill(value)
        form.get_by_role("button", name="Add camera").click()
        expect(form.locator("label").filter(has_text=field).get_by_role("alert")).to_contain_text(re.compile(message))
        expect(form.get_by_label(field)).to_have_attribute("aria-invalid", "true")
        form.get_by_label(field).fill(valid)

    form.get_by_label("ID").fill("gate")
    form.get_by_label("URL").fill("rtsp://127.0.0.1:9/stream1")
    expect_error("ID", "Gate 4", "pattern")
    expect_error("URL", "rstp://10.0.0.5/", "rtsp")
    expect_error("Frames per second", "61", "60")
    expect_error("Frames per second", "many", "number")
    form.get_by_label("ID").fill("street")
    form.get_by_role("button", name="Add camera").click()
    expect(form.get_by_role("alert")).to_contain_text("camera street already exists")
    form.get_by_role("button", name="Cancel").click()
    expect(form).not_to_be_visible()
    expect(view.page.locator("li.tile")).to_have_count(1)

"""A camera added and removed on the page, in a real browser on a real hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.support.browser import looking, page_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.support.browser import View
    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

STREET = {"id": "street", "name": "Demo street", "url": "demo://street", "fps": 1}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with page_hub(tmp_path_factory.mktemp("page"), [STREET]) as it:
        it.wait_for_state("street", "streaming")
        yield it


@pytest.fixture
def look(browser: Browser, hub: Hub) -> Iterator[Callable[..., View]]:
    with looking(browser, hub) as open_:
        yield open_


def test_a_camera_is_added_and_removed(look: Callable[..., View], hub: Hub) -> None:
    view = look()
    worker = hub.pid("camera:street")
    view.page.get_by_role("button", name="Add a camera").click()
    form = view.page.get_by_role("dialog", name="Add a camera")
    form.get_by_label("Id").fill("crossing")
    form.get_by_label("Address").fill("demo://crossing")
    form.get_by_label("Pictures a second").fill("2")
    assert Axe().run(view.page).violations_count == 0
    form.get_by_role("button", name="Add", exact=True).click()
    expect(view.page.get_by_text("crossing is added.")).to_be_visible()
    expect(view.page.locator("article[data-camera=crossing]")).to_have_attribute("data-state", "streaming")
    hub.wait_for_results("crossing", 1)
    assert hub.status("crossing")["row"]["fps"] == 2
    view.page.get_by_role("button", name="Remove").click()
    asked = view.page.get_by_role("dialog", name="Remove crossing")
    asked.get_by_role("button", name="Keep it").click()
    expect(asked).not_to_be_visible()
    assert hub.pid("camera:crossing") is not None
    view.page.get_by_role("button", name="Remove").click()
    asked.get_by_role("button", name="Remove it").click()
    expect(view.page.get_by_text("crossing is removed.")).to_be_visible()
    expect(view.page.locator("li[data-camera=street]")).to_be_visible()
    expect(view.page.locator("li[data-camera=crossing]")).to_have_count(0)
    assert hub.pid("camera:street") == worker, "the others do not notice"


def test_what_is_wrong_is_told_beside_its_field(look: Callable[..., View]) -> None:
    view = look(spoiled=True)  # the browser itself tells of answers that refuse
    view.page.get_by_role("button", name="Add a camera").click()
    form = view.page.get_by_role("dialog", name="Add a camera")

    def refused(field: str, value: str, told: str) -> None:
        """Put a wrong value into a field that was right, and right it again."""
        right = form.get_by_label(field).input_value()
        form.get_by_label(field).fill(value)
        form.get_by_role("button", name="Add", exact=True).click()
        expect(form.locator("label").filter(has_text=field).get_by_role("alert")).to_contain_text(re.compile(told))
        expect(form.get_by_label(field)).to_have_attribute("aria-invalid", "true")
        form.get_by_label(field).fill(right)

    form.get_by_label("Id").fill("gate")
    form.get_by_label("Address").fill("rtsp://127.0.0.1:9/stream1")
    refused("Id", "Gate 4", "pattern")
    refused("Address", "rstp://10.0.0.5/", "rtsp")
    refused("Pictures a second", "61", "60")
    refused("Pictures a second", "many", "number")
    form.get_by_label("Id").fill("street")
    form.get_by_role("button", name="Add", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("There is a camera street already")
    form.get_by_role("button", name="Cancel").click()
    expect(form).not_to_be_visible()
    expect(view.page.locator("li.tile")).to_have_count(1)

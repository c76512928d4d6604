"""Webhooks on the page, in a real browser on a real hub whose endpoints fail, reject and recover."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from standardwebhooks import Webhook as Verifier

from nvision_hub.nvision.result_events import new_id
from tests.support.browser import PHONE, open_pages, page_hub
from tests.support.patience import PATIENCE_S
from tests.support.receiver import SECRET, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator

    from tests.support.browser import View
    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

STREET = {"id": "street", "name": "Demo street", "url": "demo://street", "fps": 5}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """Start a receiver: /alarms answers 500 and /shop 410 until a test changes this. /till accepts every delivery."""
    receiver = Receiver(
        folder=tmp_path_factory.mktemp("receiver"),
        behaviors={"/alarms": {"status": 500}, "/shop": {"status": 410}, "/till": {}},
    )
    receiver.start()
    yield receiver
    receiver.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Hub]:
    webhooks = [
        {"id": name, "url": receiver.url(f"/{name}"), "secret": SECRET, "allow_private": True}
        for name in ("alarms", "shop", "till")
    ]
    with page_hub(tmp_path_factory.mktemp("page"), [STREET], webhooks=webhooks) as running:
        running.wait_for_results("street", 5, PATIENCE_S)
        yield running


@pytest.fixture
def open_page(browser: Browser, hub: Hub) -> Iterator[Callable[..., View]]:
    with open_pages(browser, hub) as opener:
        yield opener


def card(view: View, webhook: str) -> Locator:
    return view.page.locator(f"li[data-webhook={webhook}]")


def stat(view: View, webhook: str, label: str) -> Locator:
    """Return the value with this label on a webhook's card."""
    return card(view, webhook).locator(".stat").filter(has_text=label).locator("dd")


@pytest.mark.long
def test_a_card_shows_pending_and_failed_deliveries_and_the_state(open_page: Callable[..., View]) -> None:
    view = open_page("#/webhooks")
    expect(card(view, "alarms").locator(".badge")).to_have_text("Endpoint down")
    expect(stat(view, "alarms", "Pending")).to_have_text(re.compile("[1-9]"))
    expect(stat(view, "alarms", "Retrying")).to_have_text(re.compile("[1-9]"))
    expect(stat(view, "alarms", "Failed attempts")).to_have_text(re.compile("[1-9]"))
    expect(stat(view, "alarms", "Delivered")).to_have_text("0")
    expect(stat(view, "alarms", "Last delivery")).to_have_text("none")
    expect(card(view, "alarms").locator(".error-text")).to_contain_text("500")
    expect(card(view, "alarms").get_by_role("button", name="Enable")).to_have_count(0)
    expect(card(view, "shop").locator(".badge")).to_have_text("Disabled")
    expect(card(view, "till").locator(".badge")).to_have_text("Active")
    expect(stat(view, "till", "Delivered")).to_have_text(re.compile("[1-9]"))
    expect(stat(view, "till", "Last delivery")).to_have_text(re.compile("ago|just now"))
    view = open_page("#/webhooks", size=PHONE, has_touch=True)
    expect(card(view, "alarms").locator(".badge")).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_test_event_is_delivered_and_signed(open_page: Callable[..., View], receiver: Receiver) -> None:
    view = open_page("#/webhooks")
    card(view, "till").get_by_role("button", name="Send test event").click()
    expect(view.page.get_by_text("Queued a test event for till.")).to_be_visible()
    receiver.wait_until(lambda: any(each.event["hub"].get("test") for each in receiver.deliveries("/till")))
    (test,) = [each for each in receiver.deliveries("/till") if each.event["hub"].get("test")]
    Verifier(SECRET).verify(test.body, test.headers)


def test_disabled_webhook_is_enabled(open_page: Callable[..., View], receiver: Receiver) -> None:
    view = open_page("#/webhooks")
    expect(card(view, "shop").locator(".badge")).to_have_text("Disabled")
    refused = receiver.deliveries("/shop")[0].id
    receiver.set_behavior("/shop", status=204)
    card(view, "shop").get_by_role("button", name="Enable").click()
    expect(view.page.get_by_text("Enabled shop.")).to_be_visible()
    expect(card(view, "shop").locator(".badge")).to_have_text("Active")
    expect(card(view, "shop").get_by_role("button", name="Enable")).to_have_count(0)
    expect(stat(view, "shop", "Delivered")).to_have_text(re.compile("[1-9]"))
    receiver.wait_until(lambda: refused in receiver.accepted("/shop"))


def test_last_hour_is_replayed(open_page: Callable[..., View], receiver: Receiver) -> None:
    view = open_page("#/webhooks")
    first = receiver.wait_for(5, "/till")[0].id
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text(re.compile(r"^Queued \d+ events for till\.$"))).to_be_visible()
    receiver.wait_until(lambda: receiver.accepted("/till").count(first) == 2)
    card(view, "till").get_by_label("Results since").fill("2050-01-01T00:00")
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text("No events to replay to till.")).to_be_visible()
    card(view, "till").get_by_label("Results since").fill("")
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text("Enter the date and time")).to_be_visible()


def test_dead_letters_are_listed_and_replayed(open_page: Callable[..., View], hub: Hub, receiver: Receiver) -> None:
    event = next(event for event in hub.events() if event["detected_objects"])
    event_letter = new_id()
    letters = {event_letter: json.dumps(event), new_id(): "{"}
    with hub.redis() as broker:  # as after three days of rejected deliveries
        for name, body in letters.items():
            letter: dict[Any, Any] = {
                "webhook": "till",
                "id": name,
                "event": body,
                "attempts": 10,
                "reason": "HTTP 503",
            }
            broker.xadd("nvision:webhooks:dead", letter)
    view = open_page("#/webhooks")
    details = card(view, "till").locator("details")
    details.get_by_text("Dead letters", exact=True).click()
    expect(details.locator(".dead-letters li")).to_have_count(len(letters))
    expect(details.locator(".dead-letters li").first).to_contain_text("Unreadable result")
    expect(details.locator(".dead-letters li").last).to_contain_text("street")
    expect(details.locator(".dead-letters li").last).to_contain_text(event["detected_objects"][0]["name"])
    expect(details.locator(".dead-letters li").last).to_contain_text("HTTP 503, 10 attempts")
    details.get_by_role("button", name="Replay dead letters").click()
    expect(view.page.get_by_text("Queued 1 event for till.")).to_be_visible()
    expect(details.locator(".dead-letters li")).to_have_count(1)  # the unreadable one
    receiver.wait_until(lambda: event_letter in receiver.accepted("/till"))
    assert letters.keys() & set(receiver.accepted("/till")) == {event_letter}

"""The page's webhooks in a real browser, on a real hub whose endpoints fail, refuse and recover."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect
from standardwebhooks import Webhook as Verifier

from nvision_hub.events import new_id
from tests.support.browser import PATIENCE_S, PHONE, looking, page_hub
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
    """Answers /alarms with 500 and /shop with 410, until it is ordered otherwise; /till takes everything."""
    it = Receiver(
        folder=tmp_path_factory.mktemp("receiver"),
        behaviours={"/alarms": {"status": 500}, "/shop": {"status": 410}, "/till": {}},
    )
    it.start()
    yield it
    it.kill()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Hub]:
    webhooks = [
        {"id": name, "url": receiver.url(f"/{name}"), "secret": SECRET, "allow_private": True}
        for name in ("alarms", "shop", "till")
    ]
    with page_hub(tmp_path_factory.mktemp("page"), [STREET], webhooks=webhooks) as it:
        it.wait_for_results("street", 5, PATIENCE_S)
        yield it


@pytest.fixture
def look(browser: Browser, hub: Hub) -> Iterator[Callable[..., View]]:
    with looking(browser, hub) as open_:
        yield open_


def card(view: View, webhook: str) -> Locator:
    return view.page.locator(f"li[data-webhook={webhook}]")


def figure(view: View, webhook: str, label: str) -> Locator:
    """The number that stands beside a label."""
    return card(view, webhook).locator(".figure").filter(has_text=label).locator("dd")


@pytest.mark.long
def test_backlog_failures_and_state_are_shown(look: Callable[..., View]) -> None:
    view = look("#/webhooks")
    expect(card(view, "alarms").locator(".badge")).to_have_text("Endpoint down")
    expect(figure(view, "alarms", "waiting")).to_have_text(re.compile("[1-9]"))
    expect(figure(view, "alarms", "being retried")).to_have_text(re.compile("[1-9]"))
    expect(figure(view, "alarms", "failed attempts")).to_have_text(re.compile("[1-9]"))
    expect(figure(view, "alarms", "delivered")).to_have_text("0")
    expect(figure(view, "alarms", "last delivery")).to_have_text("none")
    expect(card(view, "alarms").locator(".fault")).to_contain_text("500")
    expect(card(view, "alarms").get_by_role("button", name="Enable")).to_have_count(0)
    expect(card(view, "shop").locator(".badge")).to_have_text("Disabled")
    expect(card(view, "till").locator(".badge")).to_have_text("Active")
    expect(figure(view, "till", "delivered")).to_have_text(re.compile("[1-9]"))
    expect(figure(view, "till", "last delivery")).to_have_text(re.compile("ago|just now"))
    view = look("#/webhooks", size=PHONE, has_touch=True)
    expect(card(view, "alarms").locator(".badge")).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def test_a_test_is_delivered_and_signed(look: Callable[..., View], receiver: Receiver) -> None:
    view = look("#/webhooks")
    card(view, "till").get_by_role("button", name="Send a test").click()
    expect(view.page.get_by_text("A test is on its way to till.")).to_be_visible()
    receiver.wait_until(lambda: any(each.event["hub"].get("test") for each in receiver.deliveries("/till")))
    (test,) = [each for each in receiver.deliveries("/till") if each.event["hub"].get("test")]
    Verifier(SECRET).verify(test.body, test.headers)


def test_a_webhook_that_was_disabled_is_enabled(look: Callable[..., View], receiver: Receiver) -> None:
    view = look("#/webhooks")
    expect(card(view, "shop").locator(".badge")).to_have_text("Disabled")
    refused = receiver.deliveries("/shop")[0].id
    receiver.order("/shop", status=204)
    card(view, "shop").get_by_role("button", name="Enable").click()
    expect(view.page.get_by_text("shop is enabled.")).to_be_visible()
    expect(card(view, "shop").locator(".badge")).to_have_text("Active")
    expect(card(view, "shop").get_by_role("button", name="Enable")).to_have_count(0)
    expect(figure(view, "shop", "delivered")).to_have_text(re.compile("[1-9]"))
    receiver.wait_until(lambda: refused in receiver.taken("/shop"))


def test_the_last_hour_is_delivered_again(look: Callable[..., View], receiver: Receiver) -> None:
    view = look("#/webhooks")
    first = receiver.wait_for(5, "/till")[0].id
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text(re.compile(r"^\d+ results are delivered to till again\.$"))).to_be_visible()
    receiver.wait_until(lambda: receiver.taken("/till").count(first) == 2)
    card(view, "till").get_by_label("Deliver again since").fill("2050-01-01T00:00")
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text("There is nothing to deliver to till again.")).to_be_visible()
    card(view, "till").get_by_label("Deliver again since").fill("")
    card(view, "till").get_by_role("button", name="Replay").click()
    expect(view.page.get_by_text("Say since when")).to_be_visible()


def test_dead_letters_are_listed_and_delivered_after_all(
    look: Callable[..., View], hub: Hub, receiver: Receiver
) -> None:
    event = next(event for event in hub.events() if event["detected_objects"])
    letters = {new_id(): json.dumps(event), new_id(): "{"}
    with hub.redis() as broker:  # three days of refusals would leave the same
        for name, body in letters.items():
            letter: dict[Any, Any] = {
                "webhook": "till",
                "id": name,
                "event": body,
                "attempts": 10,
                "reason": "HTTP 503",
            }
            broker.xadd("nvision:webhooks:dead", letter)
    view = look("#/webhooks")
    given_up = card(view, "till").locator("details")
    given_up.get_by_text("What was given up on").click()
    expect(given_up.locator(".letters li")).to_have_count(len(letters))
    expect(given_up.locator(".letters li").first).to_contain_text("cannot be read")
    expect(given_up.locator(".letters li").last).to_contain_text("street")
    expect(given_up.locator(".letters li").last).to_contain_text(event["detected_objects"][0]["name"])
    expect(given_up.locator(".letters li").last).to_contain_text("HTTP 503, 10 attempts")
    given_up.get_by_role("button", name="Deliver them again").click()
    expect(view.page.get_by_text("2 results are delivered to till again.")).to_be_visible()
    expect(given_up).to_contain_text("Nothing is kept")
    receiver.wait_until(lambda: letters.keys() <= set(receiver.taken("/till")))

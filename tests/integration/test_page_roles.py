"""The ops page with tokens of different roles: who is signed in, what the role may do, and how to sign out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from tests.support.browser import DESKTOP, PHONE, View, open_pages, page_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.support.hub import Hub

pytestmark = pytest.mark.slow

ROLES: Final = {
    "view": "only-in-60303ae22b998861bce3b28f33eec1be",
    "control": "only-in-9f86d081884c7d659a2feaa0c55ad015",
    "admin": "only-in-1c8bfe8f801d79745c4631d09fff36c8",
    "metrics": "only-in-6b86b273ff34fce19d6b804eff5a3f57",
}
WEBHOOK: Final = {"id": "alarms", "url": "https://hooks.invalid/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
# The buttons of each view, with the lowest role that sees them.
BUTTONS: Final = (
    ("#/", "Pause lobby", "control"),
    ("#/", "Add camera", "admin"),
    ("#/cameras/lobby", "Pause", "control"),
    ("#/cameras/lobby", "Restart", "control"),
    ("#/cameras/lobby", "Remove", "admin"),
    ("#/webhooks", "Send test event", "admin"),
    ("#/webhooks", "Replay", "admin"),
)


@pytest.fixture(scope="module")
def role_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    tokens = {f"{role}-desk": {"role": role, "token": token} for role, token in ROLES.items()}
    camera = {"id": "lobby", "url": "rtsp://127.0.0.1:9/stream1"}
    with page_hub(tmp_path_factory.mktemp("roles"), [camera], webhooks=[WEBHOOK], tokens=tokens) as hub:
        yield hub


@pytest.fixture
def open_page(browser: Browser, role_hub: Hub) -> Iterator[Callable[..., View]]:
    with open_pages(browser, role_hub) as opener:
        yield opener


@pytest.mark.parametrize("role", ["view", "control", "admin"])
def test_the_page_hides_what_the_role_may_not_do(open_page: Callable[..., View], role: str) -> None:
    order = list(ROLES)[:3]
    for address in dict.fromkeys(address for address, _, _ in BUTTONS):
        view = open_page(address, token=ROLES[role])
        expect(view.page.locator(".session")).to_have_text(f"{role}-desk{role}")
        expect(view.page.locator("[data-camera=lobby], [data-webhook=alarms]").first).to_be_visible()
        for where, name, lowest in BUTTONS:
            if where == address:
                shown = order.index(role) >= order.index(lowest)
                expect(view.page.get_by_role("button", name=name, exact=True)).to_have_count(int(shown))
        has_tuning = address == "#/cameras/lobby" and role != "view"
        expect(view.page.get_by_role("region", name="Rate and quality")).to_have_count(int(has_tuning))


def test_sign_out_forgets_the_token(open_page: Callable[..., View]) -> None:
    view = open_page(token=None)
    dialog = view.page.get_by_role("dialog", name="Token")
    expect(dialog).to_contain_text("requires a token")
    dialog.get_by_label("Token").fill(ROLES["metrics"])
    dialog.get_by_role("button", name="Connect").click()
    expect(dialog).to_contain_text("does not allow you to view this page")
    dialog.get_by_label("Token").fill(ROLES["control"])
    dialog.get_by_role("button", name="Connect").click()
    expect(view.page.locator(".session")).to_contain_text("control-desk")
    view.page.get_by_role("button", name="Sign out").click()
    expect(dialog).to_contain_text("requires a token")
    expect(view.page.locator(".session")).to_have_count(0)
    expect(view.page.locator("[data-camera]")).to_have_count(0)
    assert view.page.evaluate("sessionStorage.getItem('nvision-hub.token')") is None


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_top_bar_fits(open_page: Callable[..., View], size: dict[str, int]) -> None:
    view = open_page(token=ROLES["control"], size=size)
    expect(view.page.get_by_role("button", name="Sign out")).to_be_visible()
    assert view.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    bar = "document.querySelector('.top-bar')"
    assert view.page.evaluate(f"{bar}.scrollWidth <= {bar}.clientWidth")

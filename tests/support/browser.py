"""Debian's Chromium, and the ops page of a real hub with the three demo cameras in it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, ViewportSize, WebSocket, expect, sync_playwright

from tests.support import needs
from tests.support.hub import Hub, end, write
from workers.gateway.page import DIST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TOKEN: Final = "only-for-tests"
CAMERAS: Final = ("street", "crossing", "parking")
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
PATIENCE_S: Final = 60.0
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_KEEP_TOKEN: Final = "sessionStorage.setItem('nvision-hub.token', '%s')"

expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass(kw_only=True)
class View:
    """The page in a tab of its own, with a fresh profile."""

    page: Page
    hub: Hub
    complaints: list[str] = field(default_factory=list)  # errors in its console, and requests to other hosts
    watches: list[dict[str, Any]] = field(default_factory=list)  # what it told the hub that it looks at

    def watched(self) -> set[str]:
        """The cameras that it looks at, as it has last told."""
        return set(self.watches[-1]["watch"]) if self.watches else set()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let the page go on until a condition holds."""
        waited_ms = 0
        while not condition():
            assert waited_ms < PATIENCE_S * 1000, f"not within {PATIENCE_S} s: {what}"
            self.page.wait_for_timeout(50)  # hears what comes from the browser meanwhile
            waited_ms += 50

    def _listen(self, host: str) -> None:
        def asked(request: Request) -> None:
            if urlsplit(request.url).netloc not in {host, ""}:
                self.complaints.append(f"asked for {request.url}")

        def opened(socket: WebSocket) -> None:
            socket.on("framesent", sent)

        def sent(payload: str | bytes) -> None:
            told = json.loads(payload)
            if "watch" in told:
                self.watches.append(told)

        self.page.on("request", asked)
        self.page.on("websocket", opened)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.complaints.append(said.text) if said.type in {"error", "warning"} else None,
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    chromium = needs.program("chromium", "chromium")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield started
        started.close()


@contextmanager
def page_hub(
    folder: Path,
    cameras: Sequence[dict[str, Any]],
    *,
    site: str = "test",
    webhooks: Sequence[dict[str, Any]] = (),
    **gateway: Any,
) -> Iterator[Hub]:
    """A hub that serves the page."""
    if not (DIST / "index.html").exists():
        needs.missing(f"{DIST} is not there; `make page` builds it")
    write(folder, cameras, None, site=site, webhooks=list(webhooks), gateway={"listen": "127.0.0.1:0", **gateway})
    hub = Hub(folder=folder)
    try:
        hub.start()
        hub.wait_until(lambda: bool((hub._members.get("gateway", {}).get("status") or {}).get("ready")), PATIENCE_S)
        yield hub
    finally:
        end(hub)


@pytest.fixture(scope="module")
def demo_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The three demo cameras behind a token, streaming."""
    rates = {"street": 5, "crossing": 2, "parking": 0.5}
    cameras = [
        {"id": name, "name": f"Demo {name}", "url": f"demo://{name}", "fps": rates[name], "labels": {"floor": "1"}}
        for name in CAMERAS
    ]
    with page_hub(tmp_path_factory.mktemp("page"), cameras, token=TOKEN) as hub:
        for name in CAMERAS:
            hub.wait_for_state(name, "streaming", PATIENCE_S)
        yield hub


@contextmanager
def looking(browser: Browser, hub: Hub, *, token: str | None = None) -> Iterator[Callable[..., View]]:
    """Open the page of a hub: `look("#/cameras/street")`. Afterwards it must not have complained, unless `spoiled`."""
    opened: list[tuple[View, bool]] = []

    def open_(
        address: str = "#/",
        *,
        token: str | None = token,
        size: ViewportSize = DESKTOP,
        spoiled: bool = False,
        **more: Any,
    ) -> View:
        context = browser.new_context(viewport=size, **more)
        if token is not None:
            context.add_init_script(_KEEP_TOKEN % token)
        view = View(page=context.new_page(), hub=hub)
        base = hub.gateway()
        view._listen(urlsplit(base).netloc)
        view.page.goto(f"{base}/{address}")
        opened.append((view, spoiled))
        return view

    yield open_
    for view, _ in opened:
        view.page.context.close()
    assert [view.complaints for view, spoiled in opened if not spoiled and view.complaints] == []


@pytest.fixture
def look(browser: Browser, demo_hub: Hub) -> Iterator[Callable[..., View]]:
    """`looking` at the hub with the three demo cameras."""
    with looking(browser, demo_hub, token=TOKEN) as open_:
        yield open_

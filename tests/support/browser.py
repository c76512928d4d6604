"""Headless Chromium for tests of the ops page, and a real hub with the three demo cameras."""

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
from tests.support.patience import PATIENCE_S
from workers.gateway.api.page import STATIC_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TOKEN: Final = "only-in-5f0c8e2b7d94413aa6b1de3870c952f4"
CAMERAS: Final = ("street", "crossing", "parking")
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 800}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_KEEP_TOKEN: Final = "sessionStorage.setItem('nvision-hub.token', '%s')"

expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass(kw_only=True)
class View:
    """A tab that shows the page, in a new profile."""

    page: Page
    hub: Hub
    problems: list[str] = field(default_factory=list)  # console errors, and requests to other hosts
    # Requests sent over the WebSocket, oldest first.
    preview_requests: list[dict[str, Any]] = field(default_factory=list)

    def previewed(self) -> set[str]:
        """Return the cameras in the last preview request."""
        return set(self.preview_requests[-1]["watch"]) if self.preview_requests else set()

    def wait_until(self, condition: Callable[[], bool], description: str) -> None:
        """Let the page run until the condition is true."""
        waited_ms = 0
        while not condition():
            assert waited_ms < PATIENCE_S * 1000, f"not within {PATIENCE_S} s: {description}"
            self.page.wait_for_timeout(50)  # unlike time.sleep, this processes the browser's events
            waited_ms += 50

    def _listen(self, host: str) -> None:
        def on_request(request: Request) -> None:
            if urlsplit(request.url).netloc not in {host, ""}:
                self.problems.append(f"request to another host: {request.url}")

        def on_websocket(socket: WebSocket) -> None:
            socket.on("framesent", on_sent)

        def on_sent(payload: str | bytes) -> None:
            message = json.loads(payload)
            if "watch" in message:
                self.preview_requests.append(message)

        self.page.on("request", on_request)
        self.page.on("websocket", on_websocket)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.problems.append(message.text) if message.type in {"error", "warning"} else None,
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium."""
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
    """Run a hub that serves the page until the block ends."""
    if not (STATIC_DIR / "index.html").exists():
        needs.missing(f"{STATIC_DIR} does not exist; run `make page`")
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
    """Start a hub that streams the three demo cameras. Its gateway requires a token."""
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
def open_pages(browser: Browser, hub: Hub, *, token: str | None = None) -> Iterator[Callable[..., View]]:
    """Yield `open_page`, as in `open_page("#/cameras/street")`.

    Fail if a page had problems, unless `allow_problems`.
    """
    opened: list[tuple[View, bool]] = []

    def open_page(
        address: str = "#/",
        *,
        token: str | None = token,
        size: ViewportSize = DESKTOP,
        allow_problems: bool = False,
        **more: Any,
    ) -> View:
        context = browser.new_context(viewport=size, **more)
        if token is not None:
            context.add_init_script(_KEEP_TOKEN % token)
        view = View(page=context.new_page(), hub=hub)
        base = hub.gateway()
        view._listen(urlsplit(base).netloc)
        view.page.goto(f"{base}/{address}")
        opened.append((view, allow_problems))
        return view

    yield open_page
    for view, _ in opened:
        view.page.context.close()
    assert [view.problems for view, allowed in opened if not allowed and view.problems] == []


@pytest.fixture
def open_page(browser: Browser, demo_hub: Hub) -> Iterator[Callable[..., View]]:
    """Open pages of the hub with the three demo cameras. See `open_pages`."""
    with open_pages(browser, demo_hub, token=TOKEN) as opener:
        yield opener

"""Cases 32 and 33: a service that will not have us. What it asks for is honoured, and nothing becomes a hot loop."""

from __future__ import annotations

import asyncio
import subprocess
import time
from email.utils import formatdate
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.support import needs
from tests.support.recorder import Recorder
from tests.support.reliability import measured
from tests.support.uplinks import Feed, feeding
from workers.camera.dial import Limits
from workers.camera.refusal import TRY_AGAIN_LATER_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.fault
WATCHED_S = 2.5
PASSING = (1000, 1001, 1011, 1012, 4000)


async def watched(service: Recorder, seconds: float) -> tuple[Feed, int]:
    """An uplink with the product's own limits, after `seconds`; and how often it has knocked."""
    async with feeding(service.url, limits=Limits(), jpeg_bytes=2_000) as feed:
        end = time.monotonic() + seconds
        await feed.until(lambda: time.monotonic() >= end, seconds + 5)
        refused, error = feed.uplink.refused, feed.uplink.error
    feed.uplink.refused, feed.uplink.error = refused, error
    return feed, len(service.handshakes())


@pytest.mark.long
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_service_that_accepts_and_then_closes_is_no_hot_loop(
    recorder: Callable[..., Recorder],
    at_once: bool,  # noqa: FBT001 - a table's column
) -> None:
    codes = (1008, 1013, 1009, *PASSING)
    services = [recorder(close_code=code, close_at_once=at_once) for code in codes]
    outcomes = dict(
        zip(codes, await asyncio.gather(*(watched(service, WATCHED_S) for service in services)), strict=True)
    )
    for code, words in ((1008, "closed the stream by its policy"), (1013, "try again later"), (1009, "too large")):
        feed, knocks = outcomes[code]
        assert knocks == 1, code
        assert feed.uplink.refused == (code == 1008)
        assert words in (feed.uplink.error or "")
    for code in PASSING:
        assert 2 <= outcomes[code][1] <= WATCHED_S / Limits().retry_first_s, code
    measured(
        32,
        "service accepts, then closes " + ("at once" if at_once else "at the first picture"),
        injected=f"recording service, close codes {', '.join(map(str, codes))}",
        target="1008 stops and shows; 1013 backs off; never a hot loop",
        measured=f"connections in {WATCHED_S} s: 1008, 1009 and 1013: 1 each; others: at most "
        f"{max(outcomes[code][1] for code in PASSING)}",
    )


@pytest.mark.long
async def test_a_service_that_asks_for_time_is_given_it_each_time(recorder: Callable[..., Recorder]) -> None:
    service = recorder(close_code=1013)
    async with feeding(service.url, limits=Limits(), jpeg_bytes=2_000) as feed:
        await feed.until(lambda: len(service.handshakes()) >= 3, 40)
    gaps = [later.at - earlier.at for earlier, later in pairwise(service.handshakes())]
    assert min(gaps) >= TRY_AGAIN_LATER_S
    measured(
        32,
        "service asks to try again later, again and again",
        injected="recording service, close code 1013",
        target="backs off",
        measured=f"{min(gaps):.1f} s or more between connections",
    )


async def test_a_refused_key_is_shown_and_not_tried_again(recorder: Callable[..., Recorder]) -> None:
    feed, knocks = await watched(recorder(status=401), WATCHED_S)
    assert (knocks, feed.uplink.refused) == (1, True)
    assert "correct nvision.streaming_key" in (feed.uplink.error or "")
    measured(
        33,
        "service refuses the key",
        injected="recording service, HTTP 401",
        target="named state",
        measured=f"auth_failed; asked once in {WATCHED_S} s",
    )


@pytest.mark.long
@pytest.mark.parametrize(("status", "form"), [(429, "seconds"), (503, "date")])
async def test_retry_after_is_honoured(recorder: Callable[..., Recorder], status: int, form: str) -> None:
    # A date has whole seconds: of four from now, three at least are left.
    value = "3" if form == "seconds" else formatdate(time.time() + 4, usegmt=True)
    service = recorder(status=status, headers=[["Retry-After", value]])
    async with feeding(service.url, limits=Limits()) as feed:
        await feed.until(lambda: len(service.handshakes()) >= 1)
        service.order(status=101)
        await feed.answered(3, 20)
        assert f"too busy ({status})" in feed.errors[0][1]
    first, second = service.handshakes()
    assert 3.0 - (0.2 if form == "date" else 0.0) <= second.at - first.at <= 6.0
    measured(
        33,
        f"service is too busy: Retry-After as {'a number' if form == 'seconds' else 'a date'}",
        injected=f"recording service, HTTP {status}",
        target="honoured",
        measured=f"3 s asked for; tried again after {second.at - first.at:.1f} s",
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed but itself, and its key, in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    key, own, both = folder / "key.pem", folder / "own.pem", folder / "both.pem"
    command: list[str | Path] = [
        needs.program("openssl", "openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", own]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(own.read_text() + key.read_text())
    return both


@pytest.fixture
def tls_service(tmp_path: Path, certificate: Path) -> Recorder:
    return Recorder(folder=tmp_path, certificate=certificate)


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_service: Recorder) -> None:
    tls_service.start()
    try:
        feed, knocks = await watched(tls_service, WATCHED_S)
    finally:
        tls_service.kill()
    assert (knocks, feed.uplink.refused) == (0, True), "the key is not shown to a stranger"
    assert "certificate that this machine does not trust" in (feed.uplink.error or "")
    assert feed.counted("uplink_reconnects_total", reason="certificate") == 1
    measured(
        33,
        "service has a certificate that is not trusted",
        injected="recording service over TLS with a self-signed certificate",
        target="named state",
        measured=f"auth_failed; dialled once in {WATCHED_S} s, the key never shown",
    )


async def test_a_certificate_that_the_machine_trusts_is_taken(
    tls_service: Recorder, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_service.start()
    try:
        async with feeding(tls_service.url) as feed:
            await feed.answered(3)
    finally:
        tls_service.kill()

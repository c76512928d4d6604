"""Cases 32 and 33: a service rejects connections. The uplink honors Retry-After and never retries in a hot loop."""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from email.utils import formatdate
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from nvision_hub.nvision.connection import ClientTimeouts
from nvision_hub.nvision.errors import TRY_AGAIN_LATER_S
from tests.support import needs
from tests.support.patience import is_on_time
from tests.support.recorder import Recorder
from tests.support.reliability import measured
from tests.support.uplinks import Feed, feeding

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.fault
WATCHED_S = 2.5
PASSING = (1000, 1001, 1011, 1012, 4000)


async def watched(service: Recorder, seconds: float, *, attempts: int = 0) -> tuple[Feed, int, float]:
    """Run an uplink with the product's limits for `seconds` and until it has connected `attempts` times.

    Return the uplink, its number of attempts and the time it ran.
    """
    began = time.monotonic()
    async with feeding(service.url, timeouts=ClientTimeouts(), jpeg_bytes=2_000) as feed:
        await feed.until(lambda: time.monotonic() >= began + seconds and len(service.handshakes()) >= attempts)
        refused, error = feed.uplink.refused, feed.uplink.error
    feed.uplink.refused, feed.uplink.error = refused, error
    return feed, len(service.handshakes()), time.monotonic() - began


@pytest.mark.long
@pytest.mark.parametrize("immediately", [True, False])
async def test_a_service_that_accepts_and_closes_causes_no_hot_loop(
    recorder: Callable[..., Recorder],
    immediately: bool,  # noqa: FBT001 - a table's column
) -> None:
    codes = (1008, 1013, 1009, *PASSING)
    services = [recorder(close_code=code, close_immediately=immediately) for code in codes]
    outcomes = dict(
        zip(
            codes,
            await asyncio.gather(
                *(
                    watched(service, WATCHED_S, attempts=2 if code in PASSING else 1)
                    for code, service in zip(codes, services, strict=True)
                )
            ),
            strict=True,
        )
    )
    for code, words in ((1008, "reported a policy violation"), (1013, "try again later"), (1009, "too large")):
        feed, attempts, _ = outcomes[code]
        assert attempts == 1, code
        assert feed.uplink.refused == (code == 1008)
        assert words in (feed.uplink.error or "")
    for code in PASSING:
        _, attempts, ran_s = outcomes[code]
        assert attempts <= ran_s / ClientTimeouts().retry_first_s, code
    measured(
        32,
        "service accepts, then closes " + ("immediately" if immediately else "at the first frame"),
        injected=f"recording service, close codes {', '.join(map(str, codes))}",
        target="1008 stops with a named state; 1013 backs off; never a hot loop",
        measured=f"connections in {WATCHED_S} s: one each for 1008, 1009 and 1013; others: at most "
        f"{max(outcomes[code][1] for code in PASSING)}",
    )


@pytest.mark.long
async def test_repeated_close_code_1013_backs_off_each_time(recorder: Callable[..., Recorder]) -> None:
    service = recorder(close_code=1013)
    async with feeding(service.url, timeouts=ClientTimeouts(), jpeg_bytes=2_000) as feed:
        await feed.until(lambda: len(service.handshakes()) >= 3)
    gaps = [later.at - earlier.at for earlier, later in pairwise(service.handshakes())]
    assert min(gaps) >= TRY_AGAIN_LATER_S
    measured(
        32,
        "service closes with 1013 repeatedly",
        injected="recording service, close code 1013",
        target="backs off",
        measured=f"{min(gaps):.1f} s or more between connections",
    )


async def test_a_rejected_key_is_reported_and_not_retried(recorder: Callable[..., Recorder]) -> None:
    feed, attempts, _ = await watched(recorder(status=401), WATCHED_S)
    assert (attempts, feed.uplink.refused) == (1, True)
    assert "correct nvision.streaming_key" in (feed.uplink.error or "")
    measured(
        33,
        "service rejects the streaming key",
        injected="recording service, HTTP 401",
        target="named state",
        measured=f"auth_failed; one attempt in {WATCHED_S} s",
    )


@pytest.mark.long
@pytest.mark.parametrize(("status", "form"), [(429, "seconds"), (503, "date")])
async def test_retry_after_is_respected(recorder: Callable[..., Recorder], status: int, form: str) -> None:
    date = math.floor(time.time()) + 4.0  # an HTTP date has no fractions of a second
    value = "3" if form == "seconds" else formatdate(date, usegmt=True)
    service = recorder(status=status, headers=[["Retry-After", value]])
    async with feeding(service.url, timeouts=ClientTimeouts()) as feed:
        await feed.until(lambda: len(service.handshakes()) >= 1)
        service.set_behavior(status=101)
        await feed.answered(3)
        assert f"too busy ({status})" in feed.errors[0][1]
    first, second = service.handshakes()
    not_before = first.at + 3.0 if form == "seconds" else date - (time.time() - time.monotonic()) - 0.2
    assert second.at >= not_before
    assert is_on_time(second.at - first.at, 6.0)
    measured(
        33,
        f"service is too busy: Retry-After as {'a number' if form == 'seconds' else 'a date'}",
        injected=f"recording service, HTTP {status}",
        target="Retry-After honored",
        measured=f"3 s requested; retried after {second.at - first.at:.1f} s",
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a self-signed certificate and its key in one file."""
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


async def test_an_untrusted_certificate_is_rejected(tls_service: Recorder) -> None:
    tls_service.start()
    try:
        feed, attempts, _ = await watched(tls_service, WATCHED_S)
    finally:
        tls_service.kill()
    assert (attempts, feed.uplink.refused) == (0, True), "the key is not sent to an untrusted server"
    assert "certificate that this machine does not trust" in (feed.uplink.error or "")
    assert feed.counted("uplink_reconnects_total", reason="certificate") == 1
    measured(
        33,
        "service with an untrusted certificate",
        injected="recording service over TLS with a self-signed certificate",
        target="named state",
        measured=f"auth_failed; one attempt in {WATCHED_S} s, streaming key never sent",
    )


async def test_a_trusted_certificate_is_accepted(
    tls_service: Recorder, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_service.start()
    try:
        async with feeding(tls_service.url) as feed:
            await feed.answered(3)
    finally:
        tls_service.kill()

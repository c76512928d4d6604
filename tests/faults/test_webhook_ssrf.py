"""Case 48: webhooks to internal addresses, in every notation and behind names that resolve differently each time."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config.models import Webhook
from tests.support.dispatching import event, webhook
from tests.support.receiver import SECRET
from tests.support.reliability import measured
from workers.webhooks.settings import DeliveryLimits
from workers.webhooks.ssrf import GuardedNetwork, resolve
from workers.webhooks.tcp_connection import TcpConnection
from workers.webhooks.webhook_client import Outcome, WebhookClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import httpcore2

    from tests.support.dispatching import Dispatcher
    from tests.support.receiver import Receiver
    from tests.support.redis_server import DebianRedis
    from workers.webhooks.webhook_client import Attempt

pytestmark = pytest.mark.fault
PUBLIC = "93.184.215.14"
SPELLINGS = (
    "127.0.0.1", "127.1", "127.0.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "2130706433", "017700000001", "0.0.0.0", "0",  # noqa: S104
    "localhost", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "[::7f00:1]",
)  # fmt: skip


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listen on all IPv4 and IPv6 addresses of this machine, to detect connections."""
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        server.settimeout(0)
        yield server


def visited(listener: socket.socket) -> bool:
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.close()
    return True


def guarded(url: str, **more: Any) -> Webhook:
    return Webhook.model_validate({"id": "alarms", "url": url, "secret": SECRET, **more})


async def posted(hook: Webhook, network: GuardedNetwork | None = None) -> Attempt:
    client = WebhookClient(hook, connections=1, timeout_s=10.0, network=network)
    try:
        return await client.post("id", b"{}")
    finally:
        await client.aclose()


class Names:
    """Resolver that returns prepared answers, one per query."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.lookups = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        del host, port
        self.lookups += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_an_internal_address_is_dialed(listener: socket.socket, host: str) -> None:
    port = listener.getsockname()[1]
    try:
        hook = guarded(f"http://{host}:{port}/")
    except ValueError:
        return  # cameras.yaml already rejects this address
    result = await posted(hook)
    assert result.outcome in {Outcome.FORBIDDEN, Outcome.CONNECTION}
    if result.outcome is Outcome.CONNECTION:
        assert "cannot be resolved" in (result.error or ""), "this system does not accept that address"
    assert not visited(listener)


def test_every_spelling_was_tested() -> None:
    measured(
        48,
        "webhook to an internal address: numbers",
        injected=f"{len(SPELLINGS)} spellings: decimal, octal, hexadecimal, short, mapped, NAT64, 6to4; a listener on "
        "all addresses",
        target="no connection made",
        measured="no connection made",
    )


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["100.64.1.1"],
        ["fe80::1%lo"],
        ["::ffff:127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        ["2606:4700::1111", "::1"],
        [],
    ],
    ids=str,
)
async def test_a_host_name_with_one_internal_address_is_not_dialed(addresses: list[str]) -> None:
    dialled: list[str] = []

    async def dial(address: str, port: int) -> httpcore2.AsyncNetworkStream:
        dialled.append(address)
        return await TcpConnection.to("127.0.0.1", port)

    network = GuardedNetwork(allow_private=False, resolve=Names(addresses), dial=dial)
    result = await posted(guarded("https://hooks.example/"), network)
    assert result.outcome in {Outcome.FORBIDDEN, Outcome.CONNECTION}
    assert dialled == []
    if addresses:
        assert "set allow_private: true" in (result.error or "")
        assert not any(address in (result.error or "") for address in addresses), (
            "the error does not reveal internal addresses"
        )
    measured(
        48,
        f"webhook to an internal address: name that resolves to {', '.join(addresses) or 'no address'}",
        injected="scripted resolver",
        target="no connection made",
        measured="no connection made",
    )


async def test_a_host_name_that_changes_is_dialed_at_the_checked_address(
    receiver: Callable[..., Receiver], listener: socket.socket
) -> None:
    """The test dials a receiver instead of the public address and records the requested address."""
    it = receiver(status=204, headers=[["Connection", "close"]])
    dialled: list[tuple[str, int]] = []

    async def dial(address: str, port: int) -> httpcore2.AsyncNetworkStream:
        dialled.append((address, port))
        return await TcpConnection.to("127.0.0.1", it.port)

    names = Names([PUBLIC], ["127.0.0.1"])
    port = listener.getsockname()[1]
    network = GuardedNetwork(allow_private=False, resolve=names, dial=dial)
    client = WebhookClient(
        guarded(f"http://rebind.example:{port}/hook"), connections=1, timeout_s=10.0, network=network
    )
    try:
        first = await client.post("first", b"{}")
        second = await client.post("second", b"{}")
    finally:
        await client.aclose()
    assert (first.outcome, second.outcome) == (Outcome.DELIVERED, Outcome.FORBIDDEN)
    assert dialled == [(PUBLIC, port)]
    assert names.lookups == 2, "each connection looks up the name once"
    (delivery,) = it.deliveries()
    assert delivery.headers["host"] == f"rebind.example:{port}"
    assert not visited(listener)
    measured(
        48,
        "webhook to an internal address: name that resolves to a public, then to a loopback address",
        injected="scripted resolver; an endpoint that closes its connections",
        target="no connection made",
        measured="connects to the checked address, one lookup per connection; then no connection made",
    )


async def test_the_next_address_is_dialed_if_the_first_does_not_respond(receiver: Callable[..., Receiver]) -> None:
    it = receiver()
    dialled: list[str] = []

    async def dial(address: str, port: int) -> httpcore2.AsyncNetworkStream:
        dialled.append(address)
        if len(dialled) == 1:
            raise ConnectionRefusedError
        return await TcpConnection.to("127.0.0.1", port)

    names = Names(["2606:4700::1111", PUBLIC])
    network = GuardedNetwork(allow_private=False, resolve=names, dial=dial)
    assert (await posted(guarded(it.url(host="two.example")), network)).outcome is Outcome.DELIVERED
    assert dialled == ["2606:4700::1111", PUBLIC]


async def test_an_unreachable_name_server_gets_one_query_and_blocks_no_other_name() -> None:
    queries = 0
    never = asyncio.Event()

    async def silent(host: str, port: int) -> list[str]:
        nonlocal queries
        queries += 1
        await never.wait()
        return [host, str(port)]

    network = GuardedNetwork(allow_private=False, resolve=silent)
    client = WebhookClient(guarded("http://silent.example/"), connections=8, timeout_s=0.2, network=network)
    results = await asyncio.gather(*(client.post(str(number), b"{}") for number in range(8)))
    assert {each.outcome for each in results} == {Outcome.TIMED_OUT}
    assert queries == 1
    never.set()
    await client.aclose()


async def test_an_unknown_host_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = await posted(guarded("http://nowhere.example/"))
    assert result.outcome is Outcome.CONNECTION
    assert result.error == "nowhere.example cannot be resolved; check the name in the webhook's url"
    monkeypatch.undo()
    assert "127.0.0.1" in await resolve("127.1", 80)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("resolve") and not thread.daemon]


def test_redirects_and_proxies_to_internal_addresses_are_not_followed(
    debian_redis: Callable[..., DebianRedis],
    receiver: Callable[..., Receiver],
    dispatch: Callable[..., Dispatcher],
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, inside)
    monkeypatch.delenv("no_proxy", raising=False)
    it = receiver(status=302, headers=[["Location", inside]])
    refused = guarded(inside).model_copy(update={"id": "refused"})
    hub = dispatch(
        debian_redis().url,
        webhook("alarms", it.url()),
        refused,
        limits=DeliveryLimits(schedule_s=(0, 0.1), timeout_s=5.0),
    )
    hub.publish(event(1))
    hub.wait_for_row(lambda row: row["dead"] == 1, "alarms")
    row = hub.wait_for_row(lambda row: row["dead"] == 1, "refused")
    assert "resolves to an address that is not public" in row["last_error"]
    assert hub.counted("webhook_deliveries_total", webhook="refused", outcome="forbidden") == 2
    assert not visited(listener)
    measured(
        48,
        "webhook to an internal address: redirect, loopback, and proxies in the environment",
        injected="receiver that answers 302; a webhook to the listener; six proxy variables that point to it",
        target="no connection made",
        measured="no connection made; the webhook's `last_error` names the reason",
    )

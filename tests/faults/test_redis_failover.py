"""Case 37: the master of a Sentinel set or a node of a Cluster is killed or hangs, and every result still arrives.

The tests run real hubs with cameras, a service, and real redis-server processes that choose a new master themselves.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from redis.exceptions import RedisError

from nvision_hub.broker.client import connect_sync
from tests.support import clips
from tests.support.hub_ledger import ledger, stop_results
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.receiver import SECRET
from tests.support.redis_topologies import Process, freeze, until
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder
    from tests.support.redis_topologies import Cluster, SentinelSet

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)
NAMES: Final = ("a", "b", "c", "d")
PREFIX: Final = "{nvision}"
TARGET_S: Final = 10.0  # the servers of the tests take two to four seconds to choose a new master


def entries(url: str) -> list[dict[str, Any]]:
    """Return every event in the stream, including duplicates."""
    with connect_sync(url) as client:
        found: Any = client.xrange(f"{PREFIX}:results")
    return [json.loads(fields[b"event"]) for _, fields in found]


def streams_again_s(url: str, since: float) -> float:
    """Wait until a result is added to the stream after `since` (epoch). Return the seconds since `since`."""
    while True:
        with contextlib.suppress(RedisError, OSError), connect_sync(url, timeout_s=1.0) as client:
            newest: Any = client.xrevrange(f"{PREFIX}:results", count=1)
            if newest and int(newest[0][0].partition(b"-")[0]) / 1000 > since:
                return time.time() - since
        assert time.time() - since < PATIENCE_S
        time.sleep(0.02)


def is_ready(hub: Hub) -> bool:
    """Return whether the gateway reports that Redis answers and cameras stream."""
    return httpx2.get(f"{hub.gateway()}/readyz", timeout=PATIENCE_S).is_success


def bring_back(old: Process, cause: Callable[[Process], None]) -> None:
    """Let the old master return, and wait until it follows the new one."""
    if cause is freeze:
        old.signal(signal.SIGCONT)
    else:
        old.start()

    def follows() -> bool:
        with old.client() as client:
            state = client.info("replication")
        return (state["role"], state.get("master_link_status")) == ("slave", "up")

    until(follows)


@pytest.fixture(params=["sentinel", "cluster"])
def topology(
    request: pytest.FixtureRequest,
    sentinel_set: Callable[..., SentinelSet],
    redis_cluster: Callable[..., Cluster],
) -> SentinelSet | Cluster:
    return sentinel_set(password="of/redis@1") if request.param == "sentinel" else redis_cluster()


def test_results_survive_the_loss_of_a_master_under_load(  # noqa: PLR0917 - each is a server
    topology: SentinelSet | Cluster,
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    receiver: Callable[..., Receiver],
    start_hub: Callable[..., Hub],
    start_command: Callable[..., Running],
) -> None:
    camera, service, endpoint = http_camera(spec=SMALL), recorder(keep_frames=False), receiver()
    hub = start_hub(
        [{"id": name, "url": camera.url(), "fps": 25 if name != "a" else 5} for name in NAMES],
        service,
        redis={"url": topology.address, "prefix": PREFIX},
        gateway=True,
        webhooks=[
            {"id": "w", "url": endpoint.url(), "secret": SECRET, "allow_private": True, "cameras": ["a"]},
        ],
    )
    for name in NAMES:
        hub.wait_for_results(name, 40)
    tail = start_command("tail", "--json", cwd=hub.folder)
    tail.wait_for(lambda: tail.out.count("\n") > 20)
    took: dict[str, float] = {}
    began, before = time.monotonic(), ledger(hub, NAMES).received
    for what, cause in (
        ("killed", Process.kill),
        ("frozen", freeze),
        ("stalled", freeze),
        ("killed again", Process.kill),
    ):
        failed: list[Process] = []

        def fail(server: Process, cause: Callable[[Process], None] = cause) -> None:
            failed.append(server)  # noqa: B023 - called in this iteration
            cause(server)

        since = time.time()
        topology.fail_over(fail)
        if what == "stalled":  # the old master replies again before it knows of the new one
            failed[0].signal(signal.SIGCONT)
        took[what] = streams_again_s(topology.url, since)
        reached, printed = ledger(hub, NAMES).published, tail.out.count("\n")
        hub.wait_until(lambda reached=reached: ledger(hub, NAMES).published > reached + 300, PATIENCE_S)  # type: ignore[misc]
        tail.wait_for(lambda printed=printed: tail.out.count("\n") > printed + 100)  # type: ignore[misc]
        hub.wait_until(lambda: all(hub.camera(name).error is None for name in NAMES))
        until(lambda: is_ready(hub))
        bring_back(failed[0], cause)
    rate = (ledger(hub, NAMES).received - before) / (time.monotonic() - began)
    account = stop_results(hub, service, NAMES)
    events = entries(topology.url)
    unique = {event["hub"]["id"]: event for event in events}
    assert len(unique) == account.received, "every received result is in the stream"
    assert all(event == unique[event["hub"]["id"]] for event in events), "duplicates must be identical events"
    assert not account.lost
    wanted = {name for name, event in unique.items() if event["hub"]["camera"] == "a"}
    endpoint.wait_until(lambda: wanted <= set(endpoint.accepted()))
    assert all(count == 0 for count in hub.restarts().values()), hub.restarts()
    assert hub.stop() == 0
    assert not [file for file in (hub.folder / "state" / "spool").rglob("*") if file.is_file()]
    assert "Traceback" not in hub.log()
    kind = "Sentinel set" if topology.address.startswith("redis+sentinel") else "Cluster"
    measured(
        37,
        f"{kind}: master lost",
        injected="the master killed (kill -9) twice, frozen, and stalled until another one was chosen, at "
        f"{rate:.0f} results/s of {len(NAMES)} cameras",
        target=f"none lost; duplicates share the id; results flow within {TARGET_S:.0f} s",
        measured=f"{len(unique)} of {account.received} results in the stream, and {len(events) - len(unique)} "
        f"duplicates with their ids; results flow again after {min(took.values()):.1f} to {max(took.values()):.1f} s; "
        f"all {len(wanted)} results of one camera delivered to a webhook",
    )
    assert is_on_time(max(took.values()), TARGET_S)

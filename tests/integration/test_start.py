"""`nvision-hub start` with and without a terminal, from the first frame to the end of the last process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from nvision_hub.broker.embedded_users import BrokerUser, load_passwords
from tests.support import command, hub
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.recorder import Recorder

DEMO = [
    {"id": "street", "url": "demo://street", "fps": 5},
    {"id": "crossing", "url": "demo://crossing", "fps": 2},
    {"id": "parking", "url": "demo://parking", "fps": 1},
]
ABSENT = {"id": "absent", "url": "rtsp://viewer:canary@127.0.0.1:9/stream1", "fps": 1}

PARKING = re.compile(r"^parking +streaming .*(car|person|object|nothing)", re.MULTILINE)


def write(folder: Path, cameras: Sequence[dict[str, Any]], service: Recorder | None = None, **more: Any) -> None:
    hub.write(folder, cameras, service, **more)


def redis_of(folder: Path) -> redis.Redis:
    """Return a client of the hub's broker, at the address in hub.json. The caller closes the client."""
    # The hub publishes the address before the broker listens.
    return redis.Redis.from_url(
        hub.broker_url(folder / "state"), decode_responses=True, retry=Retry(ConstantBackoff(0.1), 100)
    )


def cameras_seen(folder: Path, wanted: set[str], timeout_s: float = 20.0) -> set[str]:
    """Wait for results of all `wanted` cameras on `nvision:results:*`. Return the cameras seen."""
    seen: set[str] = set()
    with redis_of(folder) as client:
        subscription: Any = client.pubsub()
        with subscription:
            subscription.psubscribe("nvision:results:*")
            for _ in range(int(timeout_s * 50)):
                message = subscription.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    event = json.loads(message["data"])
                    assert message["channel"] == f"nvision:results:{event['hub']['camera']}"
                    seen.add(event["source_id"])
                if wanted <= seen:
                    break
    return seen


def _has(running: Running, pattern: str) -> bool:
    return re.search(pattern, running.out, re.MULTILINE) is not None


def started(running: Running, cameras: int = 3) -> None:
    running.wait_for(lambda: running.err.count("  streaming") >= cameras)


def test_three_cameras_stream_and_ctrl_c_leaves_no_process(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    write(tmp_path, DEMO)
    running = start_command("start", cwd=tmp_path)
    started(running)
    assert cameras_seen(tmp_path, {"street", "crossing", "parking"}) == {"street", "crossing", "parking"}
    family = {process.name() for process in running.record_family()}
    assert any("valkey" in name for name in family)
    assert len(running.record_family()) >= 8  # hub, broker worker, Valkey, service, demo, three cameras
    running.interrupt()
    assert running.wait() == 130
    assert running.survivors() == []
    assert running.out == ""
    assert not (tmp_path / "state" / "hub.json").exists()
    assert "Traceback" not in running.err
    assert "killed" not in running.err
    assert re.search(r"results: redis://127\.0\.0\.1:\d+$", running.err, re.MULTILINE)
    assert re.search(r"read: REDISCLI_AUTH=\*\*\* redis-cli -p \d+ --user reader psubscribe", running.err)
    assert "psubscribe 'nvision:results:*'" in running.err
    passwords = load_passwords(tmp_path / "state" / "broker" / "passwords.json")
    assert passwords is not None
    assert not any(password in running.err for password in passwords.all)
    assert re.search(r"service: ws://127\.0\.0\.1:\d+/api", running.err)


def test_sigterm_ends_with_0(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    running = start_command("start", "--only", "street", "--log-level", "warning", cwd=tmp_path)
    running.wait_for((tmp_path / "state" / "hub.json").exists)
    assert cameras_seen(tmp_path, {"street"}) == {"street"}
    assert {process.name() for process in running.record_family()}
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.survivors() == []
    assert running.err == ""


@pytest.mark.parametrize("columns", [80, pytest.param(140, marks=pytest.mark.long)])
def test_a_terminal_shows_the_table(tmp_path: Path, start_command: Callable[..., Running], columns: int) -> None:
    write(tmp_path, [*DEMO, ABSENT])
    running = start_command("start", cwd=tmp_path, terminal=(columns, 40))
    row = re.compile(r"^street +streaming +\d+\.\d +[1-9]\d*\.\d +\d+ +\d\.\d s  .*(car|person|object)", re.MULTILINE)
    running.wait_for(lambda: row.search(running.screen))
    running.wait_for(lambda: PARKING.search(running.screen))
    running.wait_for(lambda: re.search(r"^absent +unreachable ", running.screen, re.MULTILINE))
    reader = urlsplit(hub.broker_url(tmp_path / "state", BrokerUser.READER))
    subscribe = (
        f"REDISCLI_AUTH={reader.password} redis-cli -p {reader.port} --user reader psubscribe 'nvision:results:*'"
    )
    assert subscribe in running.screen.replace("\n", ""), "the terminal wraps the command, so it can be copied"
    running.record_family()
    running.interrupt()
    assert running.wait() == 130
    assert running.survivors() == []
    lines = running.screen.split("\n")
    for expected in ("camera    state         in/s  out/s   drops     age  last result", "results redis://127.0.0.1:"):
        assert any(line.startswith(expected) for line in lines), expected
    drawn = [line for line in lines if re.match(r"(street|crossing|parking|absent|results|read|service) ", line)]
    assert max(map(len, drawn)) <= columns
    words = " ".join(running.screen.split())
    assert "connection refused by rtsp://***@127.0.0.1:9/stream1; check the address and the port" in words
    assert "canary" not in running.out
    assert re.search(r"\d\d:\d\d:\d\d camera:street  streaming", running.screen)
    assert "stopping (SIGINT); press Ctrl-C again" in running.screen
    assert re.search(r"Stopped\. 4 cameras, [1-9]\d* frames sent\.", lines[-2])
    assert running.out.count("\x1b[?25l") == running.out.count("\x1b[?25h")  # the cursor is restored


def test_no_color_and_ascii_are_respected(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO[:1], site="Büro")
    plain = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    running = start_command("start", cwd=tmp_path, terminal=(50, 24), env=plain)
    running.wait_for(lambda: "street  streaming" in running.screen)
    running.interrupt()
    assert running.wait() == 130
    assert "B?ro" in running.screen
    assert re.search(r"\x1b\[[0-9;]*3[1-6][0-9;]*m", running.out) is None


def test_a_closed_terminal_ends_the_hub(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    """SIGHUP normally reloads the file, but ends the hub if the terminal is closed."""
    write(tmp_path, DEMO[:1])
    running = start_command("start", cwd=tmp_path, terminal=(80, 24))
    running.wait_for(lambda: "street  streaming" in running.screen)
    running.record_family()
    running.hang_up()
    running.wait()
    assert running.survivors() == []


def test_a_dumb_terminal_gets_log_lines(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO[:1])
    running = start_command("start", cwd=tmp_path, terminal=(80, 24), env={"TERM": "dumb"})
    running.wait_for(lambda: "camera:street  streaming" in running.screen)
    running.interrupt()
    assert running.wait() == 130
    assert "\x1b[" not in running.out


def test_one_failing_camera_stops_no_other(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, [ABSENT, *DEMO])
    running = start_command("start", cwd=tmp_path)
    started(running)
    assert cameras_seen(tmp_path, {"street", "crossing", "parking"}) == {"street", "crossing", "parking"}
    running.wait_for(lambda: "connection refused by rtsp://***@127.0.0.1:9/stream1" in running.err)
    assert "canary" not in running.err


def test_a_rejected_key_affects_only_its_cameras(
    tmp_path: Path, start_command: Callable[..., Running], recorder: Callable[..., Recorder]
) -> None:
    service = recorder(status=401)
    theirs = {"url": service.url, "streaming_key": "canary-key"}
    write(tmp_path, [{**DEMO[0], "id": "refused", "nvision": theirs}, *DEMO])
    running = start_command("start", cwd=tmp_path, terminal=(100, 40))
    running.wait_for(lambda: re.search(r"^refused +auth_failed ", running.screen, re.MULTILINE))
    running.wait_for(lambda: PARKING.search(running.screen))
    assert "refused the key; correct nvision.streaming_key" in " ".join(running.screen.split())
    assert "canary" not in running.out
    running.interrupt()
    assert running.wait() == 130


def test_the_broker_skips_a_port_in_use(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        write(tmp_path, DEMO[:1], redis={"url": "embedded", "embedded_port": port})
        running = start_command("start", cwd=tmp_path)
        started(running, 1)
        found = re.search(r"results: redis://127\.0\.0\.1:(\d+)", running.err)
        assert found is not None
        assert int(found[1]) > port
        assert cameras_seen(tmp_path, {"street"}) == {"street"}


@pytest.mark.long
def test_a_second_hub_on_the_same_state_dir_is_rejected(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO[:1])
    running = start_command("start", cwd=tmp_path)
    started(running, 1)
    second = command.run("start", cwd=tmp_path)
    assert second.returncode == 69
    last = second.stderr.splitlines()[-1]
    assert f"another hub (pid {running.process.pid}) uses {tmp_path / 'state'}" in last
    assert "Traceback" not in second.stderr
    running.record_family()
    os.kill(running.process.pid, signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(running.record_family(), timeout=PATIENCE_S)
    assert alive == []
    again = start_command("start", cwd=tmp_path)
    started(again, 1)  # files of the killed hub do not prevent the start


@pytest.mark.long
def test_tail_shows_results_and_reconnects_to_the_broker(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    alone = command.run("tail", cwd=tmp_path)
    assert alone.returncode == 69
    assert "no hub is running" in alone.stderr
    running = start_command("start", cwd=tmp_path)
    started(running)
    unknown = command.run("tail", "stret", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean `street`?" in unknown.stderr
    people = start_command("tail", cwd=tmp_path)
    line = r"^\d\d:\d\d:\d\d\.\d{3}  %s +((\d+ )?(person|car|object) [01]\.\d\d|nothing).*  \d+ ms$"
    for camera in ("street", "crossing", "parking"):
        people.wait_for(partial(_has, people, line % camera))
    programs = start_command("tail", "street", "--json", cwd=tmp_path)
    programs.wait_for(lambda: programs.out.count("\n") >= 3)
    for text in programs.out.splitlines()[:3]:
        assert json.loads(text)["hub"]["camera"] == "street"
    (broker,) = [each for each in running.record_family() if "valkey-server" in each.name()]
    broker.kill()
    people.wait_for(lambda: "Reconnected to the broker." in people.err)
    before = len(people.out)
    people.wait_for(lambda: re.search(line % "street", people.out[before:], re.MULTILINE))
    for each in (people, programs):
        each.interrupt()
        assert each.wait() == 130
    assert people.err.split("\n") == ["Disconnected from the broker. Retrying...", "Reconnected to the broker.", ""]


@pytest.mark.long
def test_probe_knows_the_demo_cameras_of_a_running_hub(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    alone = command.run("probe", "street", cwd=tmp_path)
    assert alone.returncode == 69
    assert "demo cameras run only as part of a hub" in alone.stderr
    running = start_command("start", cwd=tmp_path)
    started(running)
    done = command.run("probe", "street", "--json", "--seconds", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["codec"], facts["width"], facts["height"]) == ("h264", 1280, 720)
    assert facts["fps"] == pytest.approx(25, rel=0.02)
    assert facts["keyframe_interval_s"] == pytest.approx(2, rel=0.05)
    assert facts["decoded_per_s"]["0.5"] == pytest.approx(0.5, rel=0.1)


def test_a_separate_local_service_serves_a_hub(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    service = start_command(
        "service", "--listen", "127.0.0.1:0", cwd=tmp_path, env={"NVISION_STREAMING_KEYS": "one canary-two"}
    )
    service.wait_for(lambda: "listens on ws://" in service.err)
    found = re.search(r"ws://127\.0\.0\.1:\d+/api", service.err)
    assert found is not None
    theirs = {"url": found[0], "streaming_key": "canary-two"}
    write(tmp_path, [{**DEMO[0], "nvision": theirs}, {**DEMO[1], "nvision": {**theirs, "streaming_key": "wrong"}}])
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: "correct nvision.streaming_key" in running.err)
    assert cameras_seen(tmp_path, {"street"}) == {"street"}
    for each, code in ((running, 130), (service, 130)):
        each.interrupt()
        assert each.wait() == code
        assert "canary" not in each.err + each.out

"""`nvision-hub start` as its users have it, on a terminal and without: from the first picture to the last process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.support import command, hub

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
NOBODY = {"id": "nobody", "url": "rtsp://viewer:canary@127.0.0.1:9/stream1", "fps": 1}

PARKING = re.compile(r"^parking +streaming .*(car|person|object|nothing)", re.MULTILINE)


def write(folder: Path, cameras: Sequence[dict[str, Any]], service: Recorder | None = None, **more: Any) -> None:
    hub.write(folder, cameras, service, **more)


def redis_of(folder: Path) -> redis.Redis:
    """A client of the hub's broker, found as any program may find it. Its connection has to be closed."""
    address = json.loads((folder / "state" / "hub.json").read_text())["redis"]
    # Its address is known before it listens.
    return redis.Redis.from_url(address, decode_responses=True, retry=Retry(ConstantBackoff(0.1), 100))


def cameras_heard(folder: Path, wanted: set[str], within_s: float = 20.0) -> set[str]:
    """The cameras whose results came on `nvision:results:*`, once they are all those `wanted`."""
    heard: set[str] = set()
    with redis_of(folder) as client:
        subscription: Any = client.pubsub()
        with subscription:
            subscription.psubscribe("nvision:results:*")
            for _ in range(int(within_s * 50)):
                message = subscription.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None:
                    event = json.loads(message["data"])
                    assert message["channel"] == f"nvision:results:{event['hub']['camera']}"
                    heard.add(event["source_id"])
                if wanted <= heard:
                    break
    return heard


def _has(running: Running, pattern: str) -> bool:
    return re.search(pattern, running.out, re.MULTILINE) is not None


def started(running: Running, cameras: int = 3) -> None:
    running.wait_for(lambda: running.err.count("  streaming") >= cameras)


def test_results_of_three_cameras_and_nothing_left_after_ctrl_c(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    write(tmp_path, DEMO)
    running = start_command("start", cwd=tmp_path)
    started(running)
    assert cameras_heard(tmp_path, {"street", "crossing", "parking"}) == {"street", "crossing", "parking"}
    family = {process.name() for process in running.note_family()}
    assert any("valkey" in name for name in family)
    assert len(running.note_family()) >= 8  # hub, broker and its program, service, demo, three cameras
    running.interrupt()
    assert running.wait() == 130
    assert running.survivors() == []
    assert running.out == ""
    assert not (tmp_path / "state" / "hub.json").exists()
    assert "Traceback" not in running.err
    assert "killed" not in running.err
    assert re.search(r"results: redis://127\.0\.0\.1:\d+$", running.err, re.MULTILINE)
    assert "psubscribe 'nvision:results:*'" in running.err
    assert re.search(r"service: ws://127\.0\.0\.1:\d+/api", running.err)


def test_sigterm_ends_with_0(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    running = start_command("start", "--only", "street", "--log-level", "warning", cwd=tmp_path)
    running.wait_for((tmp_path / "state" / "hub.json").exists)
    assert cameras_heard(tmp_path, {"street"}) == {"street"}
    assert {process.name() for process in running.note_family()}
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert running.survivors() == []
    assert running.err == ""


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_on_a_terminal(tmp_path: Path, start_command: Callable[..., Running], columns: int) -> None:
    write(tmp_path, [*DEMO, NOBODY])
    running = start_command("start", cwd=tmp_path, terminal=(columns, 40))
    row = re.compile(r"^street +streaming +\d+\.\d +[1-9]\d*\.\d +\d+ +\d\.\d s  .*(car|person|object)", re.MULTILINE)
    running.wait_for(lambda: row.search(running.screen))
    running.wait_for(lambda: PARKING.search(running.screen))
    running.wait_for(lambda: re.search(r"^nobody +unreachable ", running.screen, re.MULTILINE))
    running.note_family()
    running.interrupt()
    assert running.wait() == 130
    assert running.survivors() == []
    lines = running.screen.split("\n")
    for expected in ("camera    state         in/s  out/s   drops     age  last result", "results redis://127.0.0.1:"):
        assert any(line.startswith(expected) for line in lines), expected
    drawn = [line for line in lines if re.match(r"(street|crossing|parking|nobody|results|read|service) ", line)]
    assert max(map(len, drawn)) <= columns
    words = " ".join(running.screen.split())
    assert "nobody listens at rtsp://***@127.0.0.1:9/stream1; check the address and the port" in words
    assert "canary" not in running.out
    assert re.search(r"\d\d:\d\d:\d\d camera:street  streaming", running.screen)
    assert "stopping (SIGINT); once more to hurry" in running.screen
    assert re.search(r"Ended; 4 cameras, [1-9]\d* pictures sent\.", lines[-2])
    assert running.out.count("\x1b[?25l") == running.out.count("\x1b[?25h")  # the cursor is there again


def test_no_colour_where_none_is_wanted_and_no_letter_that_the_terminal_lacks(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    write(tmp_path, DEMO[:1], site="Büro")
    plain = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    running = start_command("start", cwd=tmp_path, terminal=(50, 24), env=plain)
    running.wait_for(lambda: "street  streaming" in running.screen)
    running.interrupt()
    assert running.wait() == 130
    assert "B?ro" in running.screen
    assert re.search(r"\x1b\[[0-9;]*3[1-6][0-9;]*m", running.out) is None


def test_a_terminal_that_hangs_up_ends_it(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    """SIGHUP asks for the file to be read anew, but not where it tells that nobody is there any more."""
    write(tmp_path, DEMO[:1])
    running = start_command("start", cwd=tmp_path, terminal=(80, 24))
    running.wait_for(lambda: "street  streaming" in running.screen)
    running.note_family()
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


def test_one_bad_camera_stops_no_other(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, [NOBODY, *DEMO])
    running = start_command("start", cwd=tmp_path)
    started(running)
    assert cameras_heard(tmp_path, {"street", "crossing", "parking"}) == {"street", "crossing", "parking"}
    running.wait_for(lambda: "nobody listens at rtsp://***@127.0.0.1:9/stream1" in running.err)
    assert "canary" not in running.err


def test_a_refused_key_is_the_state_of_its_cameras_alone(
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


def test_a_port_in_use_is_left_alone(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        write(tmp_path, DEMO[:1], redis={"url": "embedded", "embedded_port": port})
        running = start_command("start", cwd=tmp_path)
        started(running, 1)
        found = re.search(r"results: redis://127\.0\.0\.1:(\d+)", running.err)
        assert found is not None
        assert int(found[1]) > port
        assert cameras_heard(tmp_path, {"street"}) == {"street"}


def test_a_second_hub_is_refused_the_same_state_dir(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO[:1])
    running = start_command("start", cwd=tmp_path)
    started(running, 1)
    second = command.run("start", cwd=tmp_path)
    assert second.returncode == 69
    last = second.stderr.splitlines()[-1]
    assert f"another hub (pid {running.process.pid}) uses {tmp_path / 'state'}" in last
    assert "Traceback" not in second.stderr
    running.note_family()
    os.kill(running.process.pid, signal.SIGKILL)
    running.wait()
    _, alive = psutil.wait_procs(running.note_family(), timeout=5)
    assert alive == []
    again = start_command("start", cwd=tmp_path)
    started(again, 1)  # what a killed hub left behind is no hindrance


def test_tail_shows_results_and_survives_the_broker(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    alone = command.run("tail", cwd=tmp_path)
    assert alone.returncode == 69
    assert "no hub runs" in alone.stderr
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
    (broker,) = [each for each in running.note_family() if "valkey-server" in each.name()]
    broker.kill()
    people.wait_for(lambda: "connected again" in people.err)
    before = len(people.out)
    people.wait_for(lambda: re.search(line % "street", people.out[before:], re.MULTILINE))
    for each in (people, programs):
        each.interrupt()
        assert each.wait() == 130
    assert people.err.split("\n") == ["the broker has gone; waiting for it to come back", "connected again", ""]


def test_probe_knows_the_demo_cameras_of_a_running_hub(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    write(tmp_path, DEMO)
    alone = command.run("probe", "street", cwd=tmp_path)
    assert alone.returncode == 69
    assert "only while a hub that has some runs" in alone.stderr
    running = start_command("start", cwd=tmp_path)
    started(running)
    done = command.run("probe", "street", "--json", "--seconds", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["codec"], facts["width"], facts["height"]) == ("h264", 1280, 720)
    assert facts["fps"] == pytest.approx(25, rel=0.02)
    assert facts["keyframe_interval_s"] == pytest.approx(2, rel=0.05)
    assert facts["decoded_per_s"]["0.5"] == pytest.approx(0.5, rel=0.1)


def test_the_local_service_alone(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    service = start_command(
        "service", "--listen", "127.0.0.1:0", cwd=tmp_path, env={"NVISION_STREAMING_KEYS": "one canary-two"}
    )
    service.wait_for(lambda: "answers at ws://" in service.err)
    found = re.search(r"ws://127\.0\.0\.1:\d+/api", service.err)
    assert found is not None
    theirs = {"url": found[0], "streaming_key": "canary-two"}
    write(tmp_path, [{**DEMO[0], "nvision": theirs}, {**DEMO[1], "nvision": {**theirs, "streaming_key": "wrong"}}])
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: "correct nvision.streaming_key" in running.err)
    assert cameras_heard(tmp_path, {"street"}) == {"street"}
    for each, code in ((running, 130), (service, 130)):
        each.interrupt()
        assert each.wait() == code
        assert "canary" not in each.err + each.out

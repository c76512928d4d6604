"""Attacks of another local user, and of programs with a subscriber's password, on the embedded broker of a real hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from tests.support import clips, command
from tests.support.other_user import open_folder, run_as_other_user
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

__all__ = ["open_folder"]

SMALL: Final = clips.ClipSpec(codec="mjpeg", width=160, height=120, fps=50, seconds=2)

# Sends each command on a connection of its own to each address, and prints the first line of each reply.
ATTACKER: Final = """
import json, socket, sys
addresses, commands = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for address in addresses:
    for command in commands:
        is_path = isinstance(address, str)
        with socket.socket(socket.AF_UNIX if is_path else socket.AF_INET) as connection:
            connection.settimeout(30)
            try:
                connection.connect(address if is_path else tuple(address))
                words = [word.encode() for word in command]
                body = b"".join(b"$%d\\r\\n%s\\r\\n" % (len(word), word) for word in words)
                connection.sendall(b"*%d\\r\\n%s" % (len(words), body))
                print(connection.recv(4096).split(b"\\r\\n")[0].decode())
            except OSError as error:
                print(type(error).__name__)
"""
# Tries to read every file below a folder, and the command line and environment of every process.
READER: Final = """
import os, sys
found = []
for folder in (sys.argv[1], "/proc"):
    for place, folders, files in os.walk(folder):
        if folder == "/proc":
            folders[:] = [name for name in folders if name.isdigit()] if place == folder else []
            files = [name for name in files if place != folder and name in ("cmdline", "environ")]
        for name in files:
            try:
                with open(os.path.join(place, name), "rb") as file:
                    found.append(file.read(2**20))
            except OSError:
                pass
print(len(found), b"\\0".join(found).decode("latin-1"))
"""
# Opens many connections, and waits until the broker has closed all of them.
SILENT: Final = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(300)]
print("open", flush=True)
assert all(one.recv(1) == b"" for one in held)
print("closed")
"""
COMMANDS: Final = [
    ["XRANGE", "nvision:results", "-", "+"],
    ["XREAD", "STREAMS", "nvision:results", "0"],
    ["SUBSCRIBE", "nvision:results:a"],
    ["PSUBSCRIBE", "*"],
    ["PUBLISH", "nvision:results:a", "[1,2]"],
    ["XADD", "nvision:results", "*", "camera", "a", "event", "{}"],
    ["HSET", "nvision:webhooks:alarms:waiting", "x", "x"],
    ["ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all"],
    ["ACL", "LIST"],
    ["REPLICAOF", "127.0.0.1", "1"],
    ["CONFIG", "SET", "requirepass", ""],
    ["CONFIG", "GET", "*"],
    ["MODULE", "LIST"],
    ["DEBUG", "SLEEP", "100"],
    ["EVAL", "return 1", "0"],
    ["CLIENT", "LIST"],
    ["INFO"],
    ["KEYS", "*"],
    ["MONITOR"],
    ["FLUSHALL"],
    ["SHUTDOWN", "NOSAVE"],
    ["PING"],
    ["AUTH", ""],
    ["AUTH", "default", ""],
    ["AUTH", "hub", "hub"],
    ["AUTH", "reader", "reader"],
    ["HELLO", "3", "AUTH", "hub", ""],
]


@pytest.fixture
def publishing_hub(
    http_camera: Callable[..., HttpCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> Callable[..., Hub]:
    """Start a hub that has published results of the camera `a`: `publishing_hub(gateway=True)`."""

    def start(**settings: Any) -> Hub:
        hub = start_hub([{"id": "a", "url": http_camera(spec=SMALL).url(), "fps": 5}], recorder(), **settings)
        hub.wait_for_results("a", 5)
        return hub

    return start


def test_another_user_can_neither_read_results_nor_change_anything(
    publishing_hub: Callable[..., Hub], open_folder: Path
) -> None:
    hub = publishing_hub(gateway=True, state_dir=str(open_folder / "state"))
    with hub.redis() as broker:
        socket_path = broker.connection_pool.connection_kwargs["path"]
        assert Path(socket_path).is_socket()
        before = broker.info("server")["run_id"], set(broker.keys("*"))
        port = hub.addresses["redis"].rpartition(":")[2]
        replies = run_as_other_user(
            ATTACKER, json.dumps([["127.0.0.1", int(port)], socket_path]), json.dumps(COMMANDS)
        ).splitlines()
        assert len(replies) == 2 * len(COMMANDS)
        for command, reply in zip(COMMANDS, replies, strict=False):
            assert reply.startswith(("-NOAUTH", "-WRONGPASS")), (command, reply)
        assert set(replies[len(COMMANDS) :]) == {"PermissionError"}
        published = hub.camera("a").total("results_published_total")
        hub.wait_for_results("a", int(published) + 5)
        assert (broker.info("server")["run_id"], set(broker.keys("*"))) == before
    assert not any(hub.restarts().values())
    measured(
        57,
        "another user of the machine uses the embedded broker",
        injected=f"another user sends {len(COMMANDS)} commands to the TCP port and to the unix socket: reads, forged "
        "events, ACL SETUSER, REPLICAOF, CONFIG, SHUTDOWN, guessed passwords",
        target="all rejected; results continue",
        measured=f"TCP: {len(COMMANDS)} of {len(COMMANDS)} rejected with NOAUTH or WRONGPASS; unix socket: permission "
        "denied; no process restarted",
    )


def test_another_user_finds_no_password(publishing_hub: Callable[..., Hub], open_folder: Path) -> None:
    state = open_folder / "state"
    hub = publishing_hub(gateway=True, state_dir=str(state))
    passwords = list(json.loads((state / "broker" / "passwords.json").read_text()).values())
    assert len(set(passwords)) == 3
    places = (state, state / "broker", state / "broker" / "passwords.json")
    assert [place.stat().st_mode & 0o777 for place in places] == [0o700, 0o700, 0o600]
    shown = run_as_other_user(READER, open_folder)
    assert "valkey-server" in shown, "the other user reads the command lines"
    assert not any(password in shown for password in passwords)
    # Nor does the owner find one in a place that may be copied or sent to others.
    hub.stop()
    texts = [hub.log(), *(file.read_text(errors="replace") for file in (state / "logs").rglob("*") if file.is_file())]
    texts.append((state / "broker" / "valkey.conf").read_text())
    assert not any(password in text for password in passwords for text in texts)


def test_connections_that_do_not_log_in_do_not_lock_the_hub_out(publishing_hub: Callable[..., Hub]) -> None:
    hub = publishing_hub()
    port = hub.addresses["redis"].rpartition(":")[2]
    assert run_as_other_user(SILENT, port).split() == ["open", "closed"]
    hub.wait_for_results("a", int(hub.camera("a").total("results_published_total")) + 5)
    assert not any(hub.restarts().values())


def test_passwords_survive_a_restart_of_the_hub(publishing_hub: Callable[..., Hub], tmp_path: Path) -> None:
    users = ("hub", "reader", "consumer")
    passwords: list[list[str]] = []
    for _ in range(2):
        hub = publishing_hub(state_dir=str(tmp_path / "state"))
        urls = [hub.broker_url(user) for user in users]
        passwords.append([url.partition("@")[0] for url in urls])
        with redis.Redis.from_url(urls[1]) as client:
            assert client.xlen("nvision:results") >= 2
        hub.stop()
    assert passwords[0] == passwords[1]


def test_an_open_broker_accepts_everybody_and_warns(publishing_hub: Callable[..., Hub]) -> None:
    hub = publishing_hub(redis={"url": "embedded", "embedded_port": 0, "embedded_open": True})
    assert hub.broker_url("reader") == hub.addresses["redis"], "no password is necessary"
    with redis.Redis.from_url(hub.addresses["redis"]) as client:
        assert client.xlen("nvision:results") >= 2
        client.set("key", "value")
    checked = command.run("check", "cameras.yaml", cwd=hub.folder)
    assert "redis.embedded_open: every user of this machine can read, forge and delete results" in checked.stderr

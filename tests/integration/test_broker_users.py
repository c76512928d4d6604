"""Rights of the embedded broker's users, and the addresses with which programs connect."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from nvision_hub.broker.embedded_users import BrokerPasswords, BrokerUser, load_passwords
from nvision_hub.cli.options import subscribe_command
from tests.support import needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.redis_server import KeptValkey

RESULTS: Final = "nvision:results"
TRACKS: Final = "nvision:tracks"

READ: Final = [
    ("SUBSCRIBE", "nvision:results:lobby"),
    ("SUBSCRIBE", "nvision:tracks:lobby"),
    ("SUBSCRIBE", "nvision:events"),
    ("PSUBSCRIBE", "nvision:results:*"),
    ("PSUBSCRIBE", "nvision:tracks:*"),
    *((*command, stream, *more) for stream in (RESULTS, TRACKS) for command, more in (
        (("XRANGE",), ("-", "+")),
        (("XREVRANGE",), ("+", "-", "COUNT", "1")),
        (("XREAD", "STREAMS"), ("0",)),
        (("XLEN",), ()),
        (("XINFO", "STREAM"), ()),
        (("XINFO", "GROUPS"), ()),
    )),
    ("XINFO", "CONSUMERS", RESULTS, "archive"),
    ("PING",),
    ("INFO",),
    ("CLIENT", "SETNAME", "archive"),
    ("CLIENT", "SETINFO", "LIB-NAME", "archive"),
]  # fmt: skip
CONSUME: Final = [
    ("XGROUP", "CREATE", RESULTS, "new", "0", "MKSTREAM"),
    ("XGROUP", "CREATE", TRACKS, "new", "0", "MKSTREAM"),
    ("XGROUP", "CREATECONSUMER", RESULTS, "archive", "two"),
    ("XGROUP", "DELCONSUMER", RESULTS, "archive", "two"),
    ("XREADGROUP", "GROUP", "archive", "one", "STREAMS", RESULTS, ">"),
    ("XREADGROUP", "GROUP", "archive", "one", "STREAMS", TRACKS, ">"),
    ("XACK", RESULTS, "archive", "1-0"),
    ("XPENDING", RESULTS, "archive"),
    ("XCLAIM", RESULTS, "archive", "one", "0", "1-0"),
    ("XAUTOCLAIM", RESULTS, "archive", "one", "0", "0"),
]
DENIED: Final = [
    ("PUBLISH", "nvision:results:lobby", "[1,2]"),
    ("SPUBLISH", "nvision:results:lobby", "[1,2]"),
    ("XADD", RESULTS, "*", "camera", "lobby", "event", "{}"),
    ("XDEL", RESULTS, "1-0"),
    ("XTRIM", RESULTS, "MAXLEN", "0"),
    ("XSETID", RESULTS, "9-0"),
    ("XGROUP", "DESTROY", RESULTS, "archive"),
    ("XGROUP", "SETID", RESULTS, "archive", "0"),
    ("DEL", RESULTS),
    ("RENAME", RESULTS, "other"),
    ("EXPIRE", RESULTS, "1"),
    ("COPY", RESULTS, "other"),
    ("DUMP", RESULTS),
    ("SUBSCRIBE", "nvision:previews:lobby"),
    ("PSUBSCRIBE", "nvision:*"),
    ("PSUBSCRIBE", "*"),
    ("XRANGE", "nvision:webhooks:dead", "-", "+"),
    ("XRANGE", "nvision:results:sizes", "-", "+"),
    ("XREAD", "STREAMS", RESULTS, "nvision:webhooks:dead", "0", "0"),
    ("HGETALL", "nvision:webhooks:alarms:waiting"),
    ("HGETALL", "nvision:tracks:open:lobby"),
    ("GET", "nvision:fleet:gateway"),
    ("SET", "nvision:fleet:gateway", "http://attacker"),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("SELECT", "1"),
    ("SWAPDB", "0", "1"),
    ("FLUSHALL",),
    ("EVAL", "return redis.call('DEL', KEYS[1])", "1", RESULTS),
    ("FCALL", "x", "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("MULTI",),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "reader", "+@all"),
    ("ACL", "WHOAMI"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("SLAVEOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("DEBUG", "SLEEP", "1"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", "1000"),
    ("CLIENT", "NO-EVICT", "on"),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("SHUTDOWN", "NOSAVE"),
    ("FAILOVER",),
    ("PUBSUB", "CHANNELS"),
    ("MEMORY", "USAGE", RESULTS),
    ("OBJECT", "ENCODING", RESULTS),
    ("SLOWLOG", "GET"),
    ("LATENCY", "RESET"),
    ("COMMANDLOG", "GET", "1", "slow"),
    ("CLUSTER", "INFO"),
    ("SORT", RESULTS),
    ("MIGRATE", "127.0.0.1", "1", RESULTS, "0", "1"),
]
ADMINISTRATION: Final = [
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "default", "on", "nopass", "+@all"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LOAD", "/tmp/x.so"),
    ("DEBUG", "SLEEP", "1"),
    ("MONITOR",),
    ("SHUTDOWN", "NOSAVE"),
]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeptValkey]:
    """Provide an embedded broker with one result, one track and a consumer group on each."""
    from tests.support.redis_server import KeptValkey  # noqa: PLC0415 - needs the multiprocessing of a test

    server = KeptValkey(folder=tmp_path_factory.mktemp("state") / "broker")
    server.start()
    with redis.Redis.from_url(server.url) as hub:
        for stream in (RESULTS, TRACKS):
            hub.xadd(stream, {"camera": "lobby", "event": "{}"}, id="1-0")
            hub.xgroup_create(stream, "archive", "0")
    yield server
    server.close()


def execute(url: str, *command: str) -> Any:
    """Send one command on a new connection, and return the reply. Raises `ResponseError`."""
    with redis.Redis.from_url(url, protocol=2) as client:
        connection = client.connection_pool.make_connection()
        try:
            connection.connect()
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()


def is_allowed(url: str, command: tuple[str, ...]) -> bool:
    """Return whether Valkey carries out the command, successfully or not."""
    try:
        execute(url, *command)
    except NoPermissionError:
        return False
    except ResponseError as error:
        if str(error).startswith(("unknown command", "NOAUTH", "wrong number")):
            pytest.fail(f"{command} tests nothing: {error}")
        return "command not allowed" not in str(error)  # Valkey's sentence for DEBUG and MODULE
    return True


@pytest.mark.parametrize("command", READ, ids=" ".join)
@pytest.mark.parametrize("user", [BrokerUser.READER, BrokerUser.CONSUMER])
def test_subscribers_read_results_and_tracks(valkey: KeptValkey, user: BrokerUser, command: tuple[str, ...]) -> None:
    execute(valkey.settings.user_url(user), *command)


@pytest.mark.parametrize("command", CONSUME, ids=" ".join)
def test_only_consumers_use_consumer_groups(valkey: KeptValkey, command: tuple[str, ...]) -> None:
    assert not is_allowed(valkey.settings.user_url(BrokerUser.READER), command)
    assert is_allowed(valkey.settings.user_url(BrokerUser.CONSUMER), command)


@pytest.mark.parametrize("command", DENIED, ids=" ".join)
@pytest.mark.parametrize("user", [BrokerUser.READER, BrokerUser.CONSUMER])
def test_subscribers_may_do_nothing_else(valkey: KeptValkey, user: BrokerUser, command: tuple[str, ...]) -> None:
    assert not is_allowed(valkey.settings.user_url(user), command)
    with redis.Redis.from_url(valkey.url) as hub:
        assert hub.xlen(RESULTS) == 1


@pytest.mark.parametrize("command", ADMINISTRATION, ids=" ".join)
def test_the_hub_itself_does_not_administrate_the_broker(valkey: KeptValkey, command: tuple[str, ...]) -> None:
    assert not is_allowed(valkey.url, command)


@pytest.mark.parametrize("user", ["default", *BrokerUser, "stranger"])
def test_no_user_has_a_wellknown_password(valkey: KeptValkey, user: str) -> None:
    for address in (valkey.settings.public_url, f"unix://{valkey.settings.socket_path}"):
        with pytest.raises(AuthenticationError):
            execute(address, "PING")
        for password in ("", user, "nvision", valkey.settings.passwords.reader[:-1]):
            with pytest.raises((AuthenticationError, ResponseError)):
                execute(address, "HELLO", "2", "AUTH", user, password)


def test_the_command_for_subscribers_has_no_password_among_its_arguments(valkey: KeptValkey) -> None:
    assignment, *arguments = shlex.split(subscribe_command(valkey.settings.user_url(BrokerUser.READER), "nvision"))
    name, _, password = assignment.partition("=")
    assert password == valkey.settings.passwords.reader
    assert not any(password in argument for argument in arguments)
    arguments[0] = needs.program("redis-cli", "redis-tools")
    with subprocess.Popen(arguments, env={name: password}, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        shown = [program.stdout.readline().strip() for _ in range(3)]
        program.kill()
    assert shown == ["psubscribe", "nvision:results:*", "1"]


def test_the_passwords_file_is_private_and_lasting(tmp_path: Path) -> None:
    file, passwords = tmp_path / "passwords.json", BrokerPasswords()
    assert load_passwords(file) is None
    passwords.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_passwords(file) == passwords
    inode = file.stat().st_ino
    passwords.save(file)
    assert file.stat().st_ino == inode, "the file is written only if it changes, because a disk may be full"
    assert not any(password in repr(passwords) for password in passwords.all)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"hub": "x", "reader": "x", "consumer": "x"}', "[" * 100_000, '{"hub": 1}'], ids=repr
)
def test_an_unreadable_passwords_file_is_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "passwords.json"
    file.write_text(content)
    file.chmod(0o600)
    assert load_passwords(file) is None
    passwords = BrokerPasswords()
    passwords.save(file)
    assert load_passwords(file) == passwords


def test_a_passwords_file_of_others_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    BrokerPasswords().save(file)
    file.chmod(0o644)
    assert load_passwords(file) is None
    file.chmod(0o600)
    (tmp_path / "link.json").symlink_to(file)
    assert load_passwords(tmp_path / "link.json") is None
    assert json.loads(file.read_text()).keys() == {"hub", "reader", "consumer"}

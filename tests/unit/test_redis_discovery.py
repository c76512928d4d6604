"""Addresses of Sentinel sets and Clusters: what a client asks, and how it reads the replies."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from nvision_hub.broker.discovery import Discovery, NodeNotFoundError, is_not_master_error, parse_discovery
from nvision_hub.broker.failures import failure_reason, known_cause
from nvision_hub.cli.options import subscribe_command
from nvision_hub.config.redis_section import Redis, RedisTls


def discovery(url: str, **settings: Any) -> Discovery:
    found = parse_discovery(Redis.model_validate({"url": url, **settings}).dial())
    assert found is not None
    return found


def test_an_address_of_one_server_needs_no_discovery() -> None:
    for url in ("redis://10.0.0.2/1", "rediss://:p@10.0.0.2", "unix:///run/redis.sock"):
        assert parse_discovery(Redis.model_validate({"url": url}).dial()) is None


def test_sentinels_have_their_own_login() -> None:
    found = discovery(
        "redis+sentinel://hub:s3@10.0.0.2,[::1]:7/mymaster/2", sentinel_username="watch", sentinel_password="a@b/c"
    )
    assert found.seed_url(found.nodes[0]) == "redis://watch:a%40b%2Fc@10.0.0.2:26379?"
    assert found.seed_url(found.nodes[1]) == "redis://watch:a%40b%2Fc@[::1]:7?"
    assert found.url == "redis://hub:s3@10.0.0.2:26379/2?"
    assert found.seed_command == ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
    assert "a%40b" not in repr(found)
    assert "s3" not in repr(found)


def test_sentinels_without_a_password_get_no_login() -> None:
    found = discovery("redis+sentinel://:s3@10.0.0.2/mymaster")
    assert found.seed_url(found.nodes[0]) == "redis://10.0.0.2:26379?"
    assert found.url == "redis://:s3@10.0.0.2:26379/0?"


def test_nodes_of_a_cluster_have_the_login_of_redis_and_the_slot_of_the_prefix() -> None:
    found = discovery("redis+cluster://hub:s3@10.0.0.2,10.0.0.3:7001", prefix="site:{nvision}")
    assert found.seed_url(found.nodes[1]) == "redis://hub:s3@10.0.0.3:7001?"
    assert found.slot == discovery("redis+cluster://10.0.0.2", prefix="{nvision}").slot == 12896


def test_the_tls_files_apply_to_sentinels_and_servers() -> None:
    files = RedisTls(ca_file=Path("/etc/ca s.pem"), cert=Path("/etc/hub.pem"), key=Path("/etc/hub.key"))
    found = discovery("rediss+sentinel://10.0.0.2/mymaster", tls=files)
    options = "ssl_ca_certs=/etc/ca%20s.pem&ssl_certfile=/etc/hub.pem&ssl_keyfile=/etc/hub.key"
    assert found.seed_url(found.nodes[0]) == f"rediss://10.0.0.2:26379?{options}"
    assert found.url == f"rediss://10.0.0.2:26379/0?{options}"
    one = Redis.model_validate({"url": "rediss://10.0.0.2/0?ssl_check_hostname=false", "tls": files})
    assert one.dial() == f"rediss://10.0.0.2/0?ssl_check_hostname=false&{options}"


def test_the_replies_of_sentinels_are_read() -> None:
    found = discovery("redis+sentinel://10.0.0.2/mymaster")
    assert found.parse_reply([b"10.0.0.9", b"6380"], ("10.0.0.2", 26379)) == ("10.0.0.9", 6380)
    with pytest.raises(NodeNotFoundError, match="watch no master called mymaster"):
        found.parse_reply(None, ("10.0.0.2", 26379))


SLOTS: list[Any] = [
    [0, 12895, [b"10.0.0.7", 7001, b"id", []]],
    [12896, 16383, [b"10.0.0.8", 7002, b"id", []], [b"10.0.0.9", 7003, b"id", []]],
]


def test_the_owner_of_the_slot_is_read_from_the_reply_of_a_node() -> None:
    found = discovery("redis+cluster://10.0.0.2", prefix="{nvision}")
    asked = ("10.0.0.2", 6379)
    assert found.parse_reply(SLOTS, asked) == ("10.0.0.8", 7002)
    assert found.all_nodes(SLOTS) == [("10.0.0.7", 7001), ("10.0.0.8", 7002), ("10.0.0.9", 7003)]
    # A node that does not know its own address leaves it out.
    for unknown in (b"", None, b"?"):
        assert found.parse_reply([[0, 16383, [unknown, 7002, b"id"]]], asked) == ("10.0.0.2", 7002)
    with pytest.raises(NodeNotFoundError, match="no node of the Cluster has slot 12896"):
        found.parse_reply(SLOTS[:1], asked)


@pytest.mark.parametrize(
    "reply", [b"OK", 1, [], [[]], [b"x"], [[b"a", b"b", b"c"]], [[0, 16383, None]], {}, None, [b"h", b"65536"]]
)
def test_other_replies_name_no_node(reply: Any) -> None:
    for found in (discovery("redis+sentinel://h/m"), discovery("redis+cluster://h", prefix="{a}")):
        with pytest.raises(NodeNotFoundError):
            found.parse_reply(reply, ("h", 1))
        assert found.all_nodes(reply) == []


@pytest.mark.parametrize(
    "error",
    [
        MovedError("477 10.0.0.8:7002"),
        ReadOnlyError("You can't write against a read only replica."),
        ResponseError("Error running script: -READONLY You can't write against a read only replica."),
    ],
)
def test_errors_of_a_server_that_is_not_the_master_are_recognized(error: Exception) -> None:
    assert is_not_master_error(error)
    assert not is_not_master_error(ResponseError("NOGROUP No such consumer group"))


def with_cause(error: Exception, cause: BaseException) -> Exception:
    error.__context__ = cause  # as redis-py's `raise` within `except` does
    return error


def certificate_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}")
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MovedError("477 10.0.0.8:7002"), "a node of a Redis Cluster; set redis.url to redis+cluster://host:port"),
        (certificate_error(19, "self-signed certificate in certificate chain"), "set redis.tls.ca_file"),
        (certificate_error(62, "Hostname mismatch"), "is for another host (Hostname mismatch); use a name"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "write redis in place of rediss"),
        (ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert"), "set redis.tls.cert and"),
        (ResponseError("unknown command 'SENTINEL', with args"), "the server is not a Sentinel"),
        (ResponseError("This instance has cluster support disabled"), "the server is not a node of a Redis Cluster"),
    ],
)
def test_a_known_cause_is_found_behind_the_error_of_the_library(error: Exception, sentence: str) -> None:
    assert sentence in str(known_cause(error))
    wrapped = with_cause(RedisConnectionError("Error 1 connecting"), with_cause(RedisConnectionError("x"), error))
    assert sentence in failure_reason(wrapped)


def test_a_refused_login_of_the_sentinels_names_their_settings() -> None:
    error = NodeNotFoundError("no Sentinel answers (invalid password)")
    error.__cause__ = AuthenticationError("invalid password")
    assert "redis.sentinel_password" in failure_reason(error)


def test_the_command_for_the_user_to_copy_fits_the_address() -> None:
    cluster = Redis.model_validate({"url": "redis+cluster://:word@10.0.0.2:7000,10.0.0.3"}).url.shown
    assert subscribe_command(cluster, "{nvision}") == (
        "redis-cli -c -h 10.0.0.2 -p 7000 --askpass psubscribe '{nvision}:results:*'"
    )
    v6 = Redis.model_validate({"url": "redis+cluster://[::1]"}).url.shown
    assert subscribe_command(v6, "{n}") == "redis-cli -c -h ::1 -p 6379 psubscribe '{n}:results:*'"
    sentinels = Redis.model_validate({"url": "redis+sentinel://10.0.0.2/mymaster"}).url.shown
    assert subscribe_command(sentinels, "nvision") == "nvision-hub tail"


def test_an_unknown_cause_keeps_the_text_of_the_error() -> None:
    assert known_cause(RedisConnectionError("Error 111 connecting to 10.0.0.2:6379")) is None
    assert failure_reason(RedisConnectionError("Error 111 connecting")) == "Error 111 connecting"
    assert failure_reason(TimeoutError()) == "TimeoutError"

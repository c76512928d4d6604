"""Errors of `doctor` and `start` if the address or the TLS files do not match the Redis, with real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.broker.client import connect
from nvision_hub.broker.redis_check import check_redis, failover_warning
from nvision_hub.config.redis_section import Redis
from nvision_hub.errors import UnavailableError
from tests.support import command, hub
from tests.support.certificates import Authority, ServerCertificate
from tests.support.redis_topologies import HOST, MASTER, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.redis_topologies import Cluster, SentinelSet

DEMO = {"id": "street", "url": "demo://street"}


def problem(url: str, **settings: Any) -> str:
    """Return why the hub cannot use this Redis."""
    with pytest.raises(UnavailableError) as caught:
        check_redis(Redis.model_validate({"url": url, **settings}))
    return str(caught.value)


@pytest.mark.long
def test_a_sentinel_is_not_mistaken_for_a_redis(
    sentinel_set: Callable[..., SentinelSet], debian_redis: Callable[..., DebianRedis]
) -> None:
    servers = sentinel_set(password="canary-of-redis", sentinel_password="canary-of-sentinels")
    sentinel, master = servers.sentinels[0], servers.master()
    found = problem(f"redis://:canary-of-sentinels@{HOST}:{sentinel.port}")
    assert found == (
        f"Redis at redis://***@{HOST}:{sentinel.port} cannot be used: the server is a Sentinel; set redis.url to "
        "redis+sentinel://host:port/NAME; NAME is the master's name in sentinel.conf"
    )
    right = {"sentinel_password": "canary-of-sentinels"}
    found = problem(servers.url.replace(MASTER, "mistress"), **right)
    assert "the Sentinels watch no master called mistress; correct the name in redis.url" in found
    assert "correct redis.sentinel_username and redis.sentinel_password" in problem(servers.url)
    found = problem(servers.url.replace("canary-of-redis", "canary-of-old"), **right)
    assert found.endswith("refused the password; correct redis.url")
    plain = debian_redis()
    assert "the server is not a Sentinel" in problem(f"redis+sentinel://{HOST}:{plain.port}/{MASTER}")
    assert "no Sentinel answers" in problem(f"redis+sentinel://{HOST}:1/{MASTER}")
    correct = Redis.model_validate({"url": servers.url, **right})
    offset_s = check_redis(correct)
    assert offset_s is not None
    assert abs(offset_s) < 60
    assert failover_warning(correct) is None
    master.client().config_set("min-replicas-to-write", 0)
    assert "set min-replicas-to-write 1" in str(failover_warning(correct))
    assert failover_warning(Redis.model_validate({"url": plain.url})) is None
    assert master.port != sentinel.port


@pytest.mark.long
def test_a_node_of_a_cluster_is_not_mistaken_for_a_redis(
    tmp_path: Path, redis_cluster: Callable[..., Cluster], debian_redis: Callable[..., DebianRedis]
) -> None:
    cluster = redis_cluster()
    node = cluster.nodes[0].port
    sentence = (
        f"Redis at redis://{HOST}:{node} cannot be used: the server is a node of a Redis Cluster; set redis.url to "
        'redis+cluster://host:port with one or more of its nodes, and redis.prefix to a hash tag such as "{nvision}"'
    )
    assert problem(f"redis://{HOST}:{node}") == sentence
    plain = debian_redis()
    found = problem(f"redis+cluster://{HOST}:{plain.port}", prefix="{nvision}")
    assert "not a node of a Redis Cluster; write redis:// in place of redis+cluster:// in redis.url" in found
    assert check_redis(Redis.model_validate({"url": cluster.address, "prefix": "{nvision}"})) is not None
    hub.write(tmp_path, [DEMO], None, redis={"url": f"redis://{HOST}:{node}"})
    started = command.run("start", cwd=tmp_path)
    assert (started.returncode, sentence in started.stderr) == (69, True), started.stderr
    doctored = command.run("doctor", "--no-cameras", cwd=tmp_path, env={"COLUMNS": "1000"})
    assert sentence in doctored.stdout
    tailed = command.run("dead-letters", cwd=tmp_path)
    assert (tailed.returncode, "redis+cluster://" in tailed.stderr) == (69, True), tailed.stderr
    hub.write(tmp_path, [DEMO], None, redis={"url": cluster.address})
    checked = command.run("check", cwd=tmp_path)
    assert (checked.returncode, "needs a hash tag" in checked.stderr) == (78, True), checked.stderr


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(folder=tmp_path)


@pytest.fixture
def tls_redis(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., Process]]:
    """Start a redis-server that accepts only TLS: `tls_redis(certificate)`."""
    made: list[Process] = []

    def start(certificate: ServerCertificate, **options: Any) -> Process:
        folder = tmp_path / f"tls{len(made)}"
        made.append(Process(folder=folder, certificate=certificate.file, authority=authority.file, **options))
        made[-1].start()
        return made[-1]

    yield start
    for process in made:
        process.kill()


async def test_the_tls_files_are_used(authority: Authority, tls_redis: Callable[..., Process]) -> None:
    server = tls_redis(authority.certify(HOST), client_certificates="yes")
    own = authority.certify("hub")
    files = {"ca_file": str(authority.file), "cert": str(own.file), "key": str(own.file)}
    section = Redis.model_validate({"url": f"rediss://{HOST}:{server.port}", "tls": files})
    assert check_redis(section) is not None
    async with connect(section.dial()) as client:
        assert await client.ping()
    del files["cert"], files["key"]
    assert "Redis requires a client certificate; set redis.tls.cert and redis.tls.key" in problem(
        f"rediss://{HOST}:{server.port}", tls=files
    )


def test_the_workers_of_a_hub_can_open_the_tls_files(
    authority: Authority,
    tls_redis: Callable[..., Process],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    server = tls_redis(authority.certify(HOST), client_certificates="yes")
    own = authority.certify("hub")
    files = {"ca_file": str(authority.file), "cert": str(own.file), "key": str(own.file)}
    running = start_hub([DEMO], recorder(), redis={"url": f"rediss://{HOST}:{server.port}", "tls": files})
    running.wait_for_results("street", 1)


def test_an_untrusted_certificate_names_the_setting(
    tmp_path: Path, authority: Authority, tls_redis: Callable[..., Process]
) -> None:
    server = tls_redis(authority.certify(HOST))
    url = f"rediss://{HOST}:{server.port}"
    assert "the certificate of Redis is not trusted (self-signed certificate in certificate chain)" in problem(url)
    assert "set redis.tls.ca_file to the certificate of the authority that signed it" in problem(url)
    trusted = {"ca_file": str(authority.file)}
    assert check_redis(Redis.model_validate({"url": url, "tls": trusted})) is not None
    other = tls_redis(authority.certify("redis.example"))
    found = problem(f"rediss://{HOST}:{other.port}", tls=trusted)
    assert "the certificate of Redis is for another host" in found
    old = tls_redis(authority.certify(HOST, days=-1))
    assert "not trusted (certificate has expired)" in problem(f"rediss://{HOST}:{old.port}", tls=trusted)
    hub.write(tmp_path, [DEMO], None, redis={"url": url})
    done = command.run("doctor", "--no-cameras", cwd=tmp_path, env={"COLUMNS": "1000"})
    assert "set redis.tls.ca_file" in done.stdout
    hub.write(tmp_path, [DEMO], None, redis={"url": url, "tls": {"ca_file": "authority.pem"}})
    done = command.run("doctor", "--no-cameras", cwd=tmp_path, env={"COLUMNS": "1000"})
    assert f"Redis: {url} responds" in done.stdout, done.stdout


def test_the_error_says_which_side_uses_tls(
    authority: Authority, tls_redis: Callable[..., Process], debian_redis: Callable[..., DebianRedis]
) -> None:
    server = tls_redis(authority.certify(HOST))
    assert problem(f"redis://{HOST}:{server.port}").endswith(
        "the server uses TLS on this port; write rediss:// in place of redis:// in redis.url"
    )
    plain = debian_redis()
    assert problem(f"rediss://{HOST}:{plain.port}").endswith(
        "Redis does not use TLS on this port; write redis:// in place of rediss:// in redis.url"
    )
    sentinels = problem(f"redis+sentinel://{HOST}:{server.port}/{MASTER}")
    assert "write rediss+sentinel:// in place of redis+sentinel:// in redis.url" in sentinels
    silent = problem(f"redis://{HOST}:1")
    assert silent == f"no Redis answers at redis://{HOST}:1; start Redis, correct redis.url, or use redis.url: embedded"


@pytest.mark.long
async def test_sentinels_and_clusters_use_the_tls_files(
    authority: Authority, sentinel_set: Callable[..., SentinelSet], redis_cluster: Callable[..., Cluster]
) -> None:
    files = {"certificate": authority.certify(HOST).file, "authority": authority.file}
    servers, cluster = sentinel_set(password="word", **files), redis_cluster(**files)
    for url in (servers.address, cluster.address):
        assert url.startswith("rediss+")
        given: dict[str, Any] = {"url": url, "prefix": "{nvision}"}
        section = Redis.model_validate({**given, "tls": {"ca_file": str(authority.file)}})
        assert check_redis(section) is not None
        async with connect(section.dial()) as client:
            assert await client.set("{nvision}:a", "1")
        assert "set redis.tls.ca_file" in problem(url, prefix="{nvision}")


def test_the_error_names_an_unusable_tls_file(tmp_path: Path) -> None:
    missing = problem("rediss://127.0.0.1:1", tls={"ca_file": str(tmp_path / "nowhere.pem")})
    assert missing == (
        f"a file of redis.tls cannot be used (No such file or directory): {tmp_path}/nowhere.pem; correct redis.tls"
    )
    (tmp_path / "empty.pem").write_text("")
    empty = problem("rediss://127.0.0.1:1", tls={"ca_file": str(tmp_path / "empty.pem")})
    assert "not valid PEM" in empty

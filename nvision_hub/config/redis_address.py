"""Address of Redis: a single server, a unix socket, a set of Sentinels, a Cluster, or the broker that the hub starts.

    redis://user:password@host:6379/0                              one server
    redis+sentinel://user:password@host:26379,host2:26379/name/0   the master `name` that these Sentinels watch
    redis+cluster://user:password@host:6379,host2:6379             a Cluster with these nodes

`rediss` in place of `redis` encrypts all connections. This module opens no connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal

from nvision_hub.config.url import Address, check_characters, unescape
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import InvalidValueError

RedisTopology = Literal["server", "sentinel", "cluster"]

_HOSTS: Final = re.compile(r"(?P<hosts>[^/?#]*)(?P<path>.*)", re.DOTALL)
_MASTER: Final = re.compile(r"/(?P<name>[A-Za-z0-9._-]{1,128})(?:/(?P<database>[0-9]{1,4})?)?")


@dataclass(frozen=True, slots=True, repr=False)
class RedisAddress(Address):
    """Address of Redis, or `embedded`. `host` and `port` belong to the first server, Sentinel or node."""

    others: tuple[tuple[str, int | None], ...] = ()  # hosts and ports of the other Sentinels or nodes

    example: ClassVar = "redis://10.0.0.2:6379/0"
    pattern: ClassVar = r"^embedded$|^rediss?(\+sentinel|\+cluster)?://|^unix://"
    schemes: ClassVar = {
        "redis": 6379,
        "rediss": 6379,
        "unix": 0,
        "redis+sentinel": 26379,
        "rediss+sentinel": 26379,
        "redis+cluster": 6379,
        "rediss+cluster": 6379,
    }
    word: ClassVar = "embedded"

    @property
    def embedded(self) -> bool:
        return self.scheme == "embedded"

    @property
    def topology(self) -> RedisTopology:
        kind = self.scheme.partition("+")[2]
        return "sentinel" if kind == "sentinel" else "cluster" if kind == "cluster" else "server"

    @property
    def is_encrypted(self) -> bool:
        """Whether the connections use TLS."""
        return self.scheme.startswith("rediss")

    @property
    def nodes(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every server in the address; empty for a unix socket or the embedded broker."""
        if not self.host:
            return ()
        return tuple((host, port or self.schemes[self.scheme]) for host, port in ((self.host, self.port), *self.others))

    def _authority(self) -> str:
        hosts = ((self.host, self.port), *self.others) if self.topology == "server" else self.nodes
        shown = ((f"[{host}]" if ":" in host else host, port) for host, port in hosts)
        return ",".join(host if port is None else f"{host}:{port}" for host, port in shown)

    def _shown_path(self) -> str:
        return self.path.partition("?")[0] if self.scheme == "unix" else super(RedisAddress, self)._shown_path()

    @classmethod
    def parse(cls, text: str) -> RedisAddress:
        """Parse an address. Raises `InvalidValueError`."""
        check_characters(text)
        scheme = text.strip().partition("://")[0].lower()
        if "+" in scheme and scheme in cls.schemes:
            return cls._parse_many(text.strip())
        if not text.strip().lower().startswith("unix:"):
            return super(RedisAddress, cls).parse(text)
        match = re.fullmatch(r"unix://(?:(?P<user>[^/:]*)(?::(?P<password>[^/]*))?@)?(?P<path>/.+)", text.strip())
        if match is None:
            raise InvalidValueError("must be an absolute path after unix://, such as unix:///run/redis/redis.sock")
        username = None if match["user"] is None else unescape(match["user"])
        password = Secret(unescape(match["password"])) if match["password"] else None
        return cls("unix", username, password, path=match["path"]).checked()

    @classmethod
    def _parse_many(cls, text: str) -> RedisAddress:
        """Parse an address with several hosts. The last @ ends the user name and the password."""
        scheme, _, rest = text.partition("://")
        login, at, after = rest.rpartition("@")
        found = _HOSTS.fullmatch(after)
        assert found is not None  # noqa: S101 - the pattern matches every text
        if "," in login.partition(":")[0]:
            raise InvalidValueError(
                "may contain a user name and a password only once, before the first host",
                "write redis+sentinel://user:password@10.0.0.2,10.0.0.3/mymaster; and %2C for a comma in a user name",
            )
        first, *others = found["hosts"].split(",")
        # Parse each host separately. The user name and the password belong to the first host's address.
        one = super(RedisAddress, cls).parse(f"{scheme}://{login}{at}{first}")
        more = tuple(super(RedisAddress, cls).parse(f"{scheme}://{host}") for host in others)
        path = _sentinel_path(found["path"]) if one.topology == "sentinel" else _cluster_path(found["path"])
        return replace(one, path=path, others=tuple((each.host, each.port) for each in more))


def _sentinel_path(path: str) -> str:
    """Return the path, which consists of the master's name and the database number. Raises `InvalidValueError`."""
    match = _MASTER.fullmatch(path)
    if match is None:
        raise InvalidValueError(
            "must name the master that the Sentinels watch after the hosts, and may end with a database",
            "write redis+sentinel://10.0.0.2:26379,10.0.0.3:26379/mymaster/0; the name is in sentinel.conf",
        )
    return f"/{match['name']}/{match['database'] or 0}"


def _cluster_path(path: str) -> str:
    if path not in ("", "/", "/0"):
        raise InvalidValueError(
            "must end after the nodes, because a Cluster has only database 0",
            "write redis+cluster://10.0.0.2:6379,10.0.0.3:6379",
        )
    return ""

"""The section `redis` of cameras.yaml: the server on which the hub publishes results, and how to connect to it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

from pydantic import Field

from nvision_hub.config.field_types import PREFIX_PATTERN, FilePath, FleetKey, Line, NoneIfEmpty, Section
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.value_types import Secret  # noqa: TC001 - pydantic reads it at run time


class RedisTls(Section):
    """Files for rediss:// connections."""

    ca_file: Annotated[FilePath | None, NoneIfEmpty] = None
    """PEM file with the certificates of the authorities that may sign the certificate of Redis; relative to this file.
    By default, the authorities that this machine trusts."""
    cert: Annotated[FilePath | None, NoneIfEmpty] = None
    """PEM file with the hub's own certificate, for a Redis that requires one; relative to this file."""
    key: Annotated[FilePath | None, NoneIfEmpty] = None
    """PEM file with the private key of `cert`, without a passphrase; relative to this file."""


class Redis(Section):
    """The Redis server on which the hub publishes results."""

    url: RedisAddress = RedisAddress("embedded")
    """`embedded` for the broker that the hub starts itself, or a redis://, rediss:// or unix:// address; with several
    Sentinels, redis+sentinel://host:26379,host2:26379/mymaster/0, and with a Cluster, redis+cluster://host,host2."""
    tls: RedisTls | None = None
    """Files for rediss:// connections."""
    sentinel_username: Annotated[Line | None, NoneIfEmpty] = None
    """The user name for the Sentinels, if they require one. The address contains the login for Redis itself."""
    sentinel_password: Annotated[Secret | None, NoneIfEmpty] = None
    """The password for the Sentinels, if they require one."""
    embedded_port: Annotated[int, Field(ge=0, le=65535)] = 6379
    """Loopback port of the embedded broker; if this port is in use, the next free port. 0 selects any free port."""
    embedded_open: bool = False
    """Let all users of this machine use the embedded broker without a password: read, forge and delete results."""
    prefix: Annotated[str, Field(pattern=PREFIX_PATTERN, examples=["nvision"])] = "nvision"
    """Prefix of all channel and stream names. A Cluster needs a hash tag in braces, such as "{nvision}"."""
    stream_max_entries: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    """Approximate maximum number of events in the result stream; older events are removed."""
    stream_max_bytes: Annotated[int, Field(ge=2**20, le=2**40)] = 256 * 2**20
    """Approximate maximum size of the events in the result stream, in bytes; older events are removed."""
    spool_max_bytes: Annotated[int, Field(ge=2**20, le=2**40)] = 64 * 2**20
    """Maximum bytes of results on disk per camera while Redis is unavailable; the oldest are discarded first."""
    spool_max_age: Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)] = 86_400.0
    """Maximum age, in seconds, of a result that waits for Redis; older results are discarded."""
    fleet_key: Annotated[FleetKey | None, NoneIfEmpty] = None
    """Secret that all hubs on several machines share; it authenticates their commands and states in Redis."""

    def dial(self) -> str:
        """Return the complete address for the functions of `broker.client`, with logins and paths of TLS files.

        Raises `ValueError` for the embedded broker.
        """
        url = self.url.dial()
        if self.url.topology == "cluster":
            url += "/0"
        tls = self.tls or RedisTls()
        files = (("ssl_ca_certs", tls.ca_file), ("ssl_certfile", tls.cert), ("ssl_keyfile", tls.key))
        options = [(name, str(path)) for name, path in files if path is not None]
        if self.url.topology == "sentinel":
            password = None if self.sentinel_password is None else self.sentinel_password.reveal()
            logins = (("sentinel_username", self.sentinel_username), ("sentinel_password", password))
            options += [(name, text) for name, text in logins if text is not None]
        if self.url.topology == "cluster":
            options.append(("key", self.prefix))
        query = urlencode(options, quote_via=quote, safe="/", errors="surrogateescape")
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

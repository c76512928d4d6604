"""Resources of a running hub that survive a reload of cameras.yaml: ports, generated keys and passwords."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nvision_hub.broker import embedded_config as embedded_broker
from nvision_hub.broker.embedded_config import EmbeddedBroker
from nvision_hub.broker.embedded_users import BrokerPasswords, load_passwords
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.models import Config


@dataclass(kw_only=True)
class HubResources:
    """Resources that a hub keeps while it runs: fleet identity, ports, the local service's key, and passwords."""

    service_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    ports: dict[str, embedded_broker.PortClaim] = field(default_factory=dict)
    identity: HubIdentity | None = None  # None if this hub alone runs all cameras
    passwords: BrokerPasswords | None = field(default=None, repr=False)  # of the embedded broker's users
    # Other users cannot guess this name, so they cannot create the directory before the hub does.
    socket_name: str = field(default_factory=lambda: f"nvision-hub-{secrets.token_hex(8)}")

    def __post_init__(self) -> None:
        register_secrets([self.service_key])

    def port(self, server: str, preferred: int) -> int:
        """Return a server's port. The first call claims `preferred` or the next free port.

        Raises `UnavailableError`.
        """
        if server not in self.ports:
            self.ports[server] = embedded_broker.claim_port(preferred)
        return self.ports[server].port

    def broker(self, config: Config) -> EmbeddedBroker:
        """Return the settings of the embedded broker. It reuses the passwords of the last run if they still exist.

        Raises `UnavailableError` if no port is free.
        """
        directory = config.state_dir / "broker"
        if self.passwords is None:
            self.passwords = load_passwords(directory / embedded_broker.PASSWORDS_NAME) or BrokerPasswords()
            register_secrets(self.passwords.all)
        return EmbeddedBroker(
            directory=directory,
            port=self.port("broker", config.redis.embedded_port),
            prefix=config.redis.prefix,
            passwords=self.passwords,
            is_open=config.redis.embedded_open,
            stream_max_bytes=config.redis.stream_max_bytes,
            webhooks=len(config.webhooks),
            socket_name=self.socket_name,
        )

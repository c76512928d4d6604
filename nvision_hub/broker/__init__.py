"""Redis: how results reach it, and the Valkey that is embedded where no other Redis is named."""

from nvision_hub.broker.embedded import EmbeddedBroker
from nvision_hub.broker.publisher import Publisher

__all__ = ["EmbeddedBroker", "Publisher"]

"""cameras.yaml: read, checked, compared. Everything that the rest of the hub knows of its configuration."""

from nvision_hub.config.address import CameraAddress, CameraKind, Listen, RedisAddress, ServiceAddress, WebhookAddress
from nvision_hub.config.labels import Labels
from nvision_hub.config.load import load
from nvision_hub.config.models import Camera, CameraSettings, Config, Gateway, Motion, Nvision, Redis, Webhook
from nvision_hub.config.schema import json_schema
from nvision_hub.config.secret import Secret

__all__ = [
    "Camera",
    "CameraAddress",
    "CameraKind",
    "CameraSettings",
    "Config",
    "Gateway",
    "Labels",
    "Listen",
    "Motion",
    "Nvision",
    "Redis",
    "RedisAddress",
    "Secret",
    "ServiceAddress",
    "Webhook",
    "WebhookAddress",
    "json_schema",
    "load",
]

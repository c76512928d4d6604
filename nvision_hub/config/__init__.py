"""cameras.yaml: read, checked, compared. Everything that the rest of the hub knows of its configuration."""

from nvision_hub.config.address import Listen, MqttAddress, RedisAddress, ServiceAddress, WebhookAddress
from nvision_hub.config.camera_address import DEMO_SCENES, CameraAddress, CameraKind
from nvision_hub.config.diff import RUN_TIME_SETTINGS, Diff, diff, run_time_values
from nvision_hub.config.labels import Labels
from nvision_hub.config.load import load
from nvision_hub.config.models import Camera, CameraSettings, Config, Gateway, Motion, Mqtt, Nvision, Redis, Webhook
from nvision_hub.config.run_time import RunTimeSettings, tuned
from nvision_hub.config.schema import json_schema, schema_text
from nvision_hub.config.secret import Secret
from nvision_hub.config.template import template

__all__ = [
    "DEMO_SCENES",
    "RUN_TIME_SETTINGS",
    "Camera",
    "CameraAddress",
    "CameraKind",
    "CameraSettings",
    "Config",
    "Diff",
    "Gateway",
    "Labels",
    "Listen",
    "Motion",
    "Mqtt",
    "MqttAddress",
    "Nvision",
    "Redis",
    "RedisAddress",
    "RunTimeSettings",
    "Secret",
    "ServiceAddress",
    "Webhook",
    "WebhookAddress",
    "diff",
    "json_schema",
    "load",
    "run_time_values",
    "schema_text",
    "template",
    "tuned",
]

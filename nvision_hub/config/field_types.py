"""Types of the values in cameras.yaml that several sections share, and the base class of all sections."""

from __future__ import annotations

import base64
import os.path
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from nvision_hub.access.tokens import weakness
from nvision_hub.config.include_pattern import MAX_PATTERNS, IncludePattern
from nvision_hub.config.value_types import Secret
from nvision_hub.control_characters import without_control_characters
from nvision_hub.errors import InvalidValueError

ID_PATTERN: Final = "[a-z0-9][a-z0-9_-]{0,62}"
# The prefix may contain a hash tag in braces, which keeps all keys on one node of a Redis Cluster.
PREFIX_PATTERN: Final = (
    r"^([A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
    r"|([A-Za-z0-9][A-Za-z0-9_.:-]{0,30})?\{[A-Za-z0-9_.:-]{1,31}\}[A-Za-z0-9_.:-]{0,31})$"
)
HOST_PATTERN: Final = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
TOPIC_PATTERN: Final = "^[A-Za-z0-9_-]{1,63}(/[A-Za-z0-9_-]{1,63}){0,7}$"
# The service reads the key from the WebSocket subprotocol, which must be a token of RFC 9110, section 5.6.2.
_STREAMING_KEY: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]*")
_WEBHOOK_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix that Standard Webhooks prescribes, no secret
_WEBHOOK_SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks, "Signature scheme"


def _streaming_key(key: Secret) -> Secret:
    if not _STREAMING_KEY.fullmatch(key.reveal()):
        raise InvalidValueError(
            "contains a space or another character that no streaming key has",
            "copy the key again from the Nvision portal",
        )
    return key


def _webhook_secret(secret: Secret) -> Secret:
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(_WEBHOOK_SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not text.startswith(_WEBHOOK_SECRET_PREFIX) or len(key) not in _WEBHOOK_SECRET_BYTES:
        raise InvalidValueError(
            "must be whsec_ followed by 24 to 64 bytes in base64", "`echo whsec_$(openssl rand -base64 32)` creates one"
        )
    return secret


def _fleet_key(key: Secret) -> Secret:
    if key and (problem := weakness(key.reveal())) is not None:
        raise InvalidValueError(problem, "`openssl rand -base64 32` creates one")
    return key


def _relative_to_file(path: Path, info: ValidationInfo) -> Path:
    """Return the absolute path. A relative path starts at the folder of cameras.yaml."""
    return path if info.context is None else Path(os.path.normpath(info.context["path"].parent / path))


Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$", examples=["lobby"])]
HostName = Annotated[str, Field(pattern=HOST_PATTERN, examples=["hub.example.com"])]
Line = Annotated[str, AfterValidator(without_control_characters)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
PerSecond = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Point = tuple[Fraction, Fraction]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=1000)]
Key = Annotated[Secret, AfterValidator(_streaming_key), Field(examples=["${NVISION_STREAMING_KEY}"])]
WebhookSecret = Annotated[Secret, AfterValidator(_webhook_secret), Field(examples=["${ALARM_SECRET}"])]
FleetKey = Annotated[Secret, AfterValidator(_fleet_key), Field(examples=["${FLEET_KEY}"])]
FilePath = Annotated[
    Path, AfterValidator(_relative_to_file), WithJsonSchema({"type": "string", "examples": ["/etc/hub/cert.pem"]})
]
WebhookSecrets = Annotated[tuple[WebhookSecret, ...], Field(min_length=1, max_length=2)]
# An empty `${VAR:-}` counts as a missing value. A list with only commented-out items counts as empty.
NoneIfEmpty = BeforeValidator(lambda value: None if value == "" else value)
EmptyIfNull = BeforeValidator(lambda value: () if value is None else value)
AsList = BeforeValidator(
    lambda value: (value,) if isinstance(value, str | Secret) else value,
    json_schema_input_type=WebhookSecret | WebhookSecrets,
)

IncludePatterns = Annotated[
    tuple[IncludePattern, ...],
    Field(max_length=MAX_PATTERNS),
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str | IncludePattern) else value,
        json_schema_input_type=IncludePattern | tuple[IncludePattern, ...],
    ),
    EmptyIfNull,
]


class Section(BaseModel):
    """A mapping in cameras.yaml. It is immutable and accepts no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_if_null(cls, value: object) -> object:
        """Treat a section as empty if all its lines are commented out."""
        return {} if value is None else value

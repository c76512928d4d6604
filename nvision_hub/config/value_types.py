"""Value types of cameras.yaml: values written as a string, secrets, labels, and the names of Nvision's services.

Each class defines how pydantic reads a value from YAML and how the value appears in logs, JSON and the JSON Schema.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, Self, get_args

from pydantic_core import core_schema

from nvision_hub.control_characters import without_control_characters
from nvision_hub.redaction import HIDDEN

ServiceName = Literal["object-detection", "face-detection"]
SERVICES: Final[tuple[ServiceName, ...]] = get_args(ServiceName)
DEFAULT_CONFIDENCE_THRESHOLD: Final = 0.1  # default of the Nvision API


class ConfigString(ABC):
    """A value that users write as one string. Logs and JSON show `shown` in place of that string."""

    __slots__ = ()

    example: ClassVar[str]
    pattern: ClassVar[str | None] = None  # JSON Schema pattern for editors

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """Parse `text` and return the value.

        Raises `ValueError`. The message has no subject (`must be ...`) and never echoes `text`.
        """

    @property
    @abstractmethod
    def shown(self) -> str:
        """The value for output, without user name, password or key."""

    def __repr__(self) -> str:
        return self.shown

    def __format__(self, spec: str) -> str:
        return format(self.shown, spec)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, read: value if isinstance(value, cls) else read(value),
            core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema()),
            serialization=core_schema.to_string_ser_schema(when_used="always"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        pattern = {} if cls.pattern is None else {"pattern": cls.pattern}
        return {"type": "string", **pattern, "examples": [cls.example]}


class Secret(ConfigString):
    """A key, token or password. Any output shows `***`. Only `reveal()` returns the secret string."""

    __slots__ = ("_text",)

    example: ClassVar = "${SECRET}"

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, text: str) -> Secret:
        return cls(without_control_characters(text))

    @property
    def shown(self) -> str:
        return HIDDEN

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time, which makes `==` safe for checking a token."""
        if not isinstance(other, Secret):
            return NotImplemented
        # Lone surrogates represent the bytes of a password that is not UTF-8 (`url.unescape`).
        ours, theirs = (secret.reveal().encode("utf-8", "surrogatepass") for secret in (self, other))
        return hmac.compare_digest(ours, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Labels(Mapping[str, str]):
    """Names and values that users assign to a camera, as an immutable, hashable mapping."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, name: str) -> str:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        text = core_schema.no_info_after_validator_function(without_control_characters, core_schema.str_schema())
        return core_schema.no_info_before_validator_function(
            lambda value: dict(value or {}) if value is None or isinstance(value, cls) else value,
            core_schema.no_info_after_validator_function(cls, core_schema.dict_schema(text, text)),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )

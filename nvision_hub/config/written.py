"""A value that people write as one text. Owns how such a value is read from YAML and how it appears everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler


class Written:
    """Read by `parse`; printed, logged and serialised as `shown`, which holds nothing secret."""

    __slots__ = ()

    example: ClassVar[str]
    pattern: ClassVar[str | None] = None  # what editors may check while it is being written

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the text. Raises `ValueError` with half a sentence (`must be ...`) that echoes nothing of it."""
        raise NotImplementedError

    @property
    def shown(self) -> str:
        """For people: never a user name, a password or a key."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.shown

    def __format__(self, spec: str) -> str:
        return format(self.shown, spec)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, read: value if isinstance(value, cls) else read(value),
            core_schema.no_info_after_validator_function(cls.parse, core_schema.str_schema()),
            serialization=core_schema.to_string_ser_schema(when_used="always"),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        pattern = {} if cls.pattern is None else {"pattern": cls.pattern}
        return {"type": "string", **pattern, "examples": [cls.example]}

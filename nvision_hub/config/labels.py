"""Names and values that people attach to a camera: an immutable, hashable mapping of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


class Labels(Mapping[str, str]):
    """A frozen `dict[str, str]`, so that a configuration can neither be changed by accident nor fail to hash."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        self._items = tuple((items or {}).items())

    def __getitem__(self, name: str) -> str:
        for key, value in self._items:
            if key == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items))

    def __repr__(self) -> str:
        return repr(dict(self._items))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: dict(value or {}) if value is None or isinstance(value, cls) else value,
            core_schema.no_info_after_validator_function(
                cls, core_schema.dict_schema(core_schema.str_schema(), core_schema.str_schema())
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )

"""API client for tests of commands, with the responses of a gateway that is not running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nvision_hub.cli.api_client import selected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class FakeApi:
    """Stand-in for `ApiClient`. `bodies` contains the JSON bodies of the responses by path (without `/api/v1`)."""

    def __init__(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        self._bodies = bodies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, method: str, path: str, **_: Any) -> dict[str, Any]:
        assert method == "GET"
        return self._bodies[path]

    def select(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return selected(self._bodies["/cameras"]["cameras"], names)

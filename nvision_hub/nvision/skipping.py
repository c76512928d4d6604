"""Notices of skipped frames, an extension of the protocol by the local service.

Nvision's protocol has no message for a frame that the service does not process. A result without detections would say
that the frame shows nothing. A client that accepts notices therefore says so with a header of its handshake. The local
service then skips a waiting frame when a newer frame of the same source arrives, and sends a notice: a message with the
frame's ids and one configuration. The header has no effect on other services.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.nvision.nvision_pb2 import Configuration, NvisionRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = {"nvision-hub-accepts": "skipped"}
_MARK: Final = Configuration(parameter="Skipped", value="true")


def accepts_notices(headers: Mapping[str, str]) -> bool:
    """Return whether a client accepts notices. `headers` are those of its handshake, with lower-case names."""
    return all(headers.get(name) == value for name, value in HEADERS.items())


def notice(request: NvisionRequest, service_id: str) -> NvisionRequest:
    """Return the notice that the service skips the frame of a request."""
    return NvisionRequest(
        service_id=service_id, source_id=request.source_id, frame_id=request.frame_id, configurations=[_MARK]
    )


def is_notice(message: NvisionRequest) -> bool:
    """Return whether a message of the service is a notice of a skipped frame instead of a result."""
    return _MARK in message.configurations

"""Notices of skipped frames, an extension of the protocol by the local service.

Nvision's protocol has no message for a frame that the service does not process. A result without detections would mean
that the frame shows nothing. A client that accepts notices therefore sends a header in its handshake. For such clients,
the local service skips a waiting frame when a newer frame of the same source arrives, and sends a notice: a message
with the frame's ids and one configuration. Other services ignore the header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.nvision.nvision_pb2 import Configuration, NvisionRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Final = {"nvision-hub-accepts": "skipped"}
_MARK: Final = Configuration(parameter="Skipped", value="true")


def accepts_notices(headers: Mapping[str, str]) -> bool:
    """Return whether a client accepts notices. `headers` are the headers of its handshake, with names in lower case."""
    return all(headers.get(name) == value for name, value in HEADERS.items())


def notice(request: NvisionRequest, service_id: str) -> NvisionRequest:
    """Return the notice that the service has skipped the frame of a request."""
    return NvisionRequest(
        service_id=service_id, source_id=request.source_id, frame_id=request.frame_id, configurations=[_MARK]
    )


def is_notice(message: NvisionRequest) -> bool:
    """Return whether a message from the service is a notice of a skipped frame rather than a result."""
    return _MARK in message.configurations

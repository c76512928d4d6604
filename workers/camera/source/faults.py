"""What went wrong with a camera, told from the error that PyAV raised: one place, one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import av.error

from nvision_hub.status import CameraState
from workers.camera.source.source import SourceError

if TYPE_CHECKING:
    from nvision_hub.config import CameraAddress

# FFmpeg says no more than "4XX" of these; what cameras mean by them is mostly their limit (453 Not Enough Bandwidth).
_BUSY: Final = (
    "refused the stream; it may serve as many viewers as it can already: end another one, or use its sub-stream"
)


def classify(error: Exception, address: CameraAddress, *, waited_s: float, limit_s: float) -> SourceError:
    """The named state and the sentence for an error of opening or reading `address`.

    `waited_s` tells a time-out from nonsense: FFmpeg calls an interrupted handshake invalid data.
    """
    where = address.shown
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return SourceError(
                CameraState.AUTH_FAILED,
                f"{where} refused the user name or password; correct `username` and `password` of this camera "
                "(some cameras answer so when they have no connection left, too)",
            )
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return SourceError(
                CameraState.NOT_FOUND, f"{where} does not exist there; correct the path in this camera's `url`"
            )
        case av.error.HTTPClientError() | av.error.HTTPServerError():
            return SourceError(CameraState.UNREACHABLE, f"{where} {_BUSY}")
        case ConnectionRefusedError():
            return SourceError(
                CameraState.UNREACHABLE,
                f"nobody listens at {where}; check the address and the port, and that the camera is on",
            )
        case av.error.ExitError() | TimeoutError():
            return _timed_out(where, waited_s)
        case av.error.InvalidDataError() if waited_s >= limit_s:
            return _timed_out(where, waited_s)
        case av.error.InvalidDataError() | av.error.DecoderNotFoundError() | av.error.DemuxerNotFoundError():
            return SourceError(
                CameraState.UNSUPPORTED,
                f"{where} sends nothing that can be read as video; set the camera to H.264, H.265 or MJPEG",
            )
        case av.error.EOFError() | ConnectionError():
            return SourceError(CameraState.UNREACHABLE, f"{where} ended the stream")
        case _:
            return SourceError(
                CameraState.UNREACHABLE,
                f"{where} cannot be reached; check the host name, the network and that the camera is on",
            )


def _timed_out(where: str, waited_s: float) -> SourceError:
    return SourceError(
        CameraState.STALLED, f"{where} has sent nothing for {waited_s:.0f} s; check the camera and the network to it"
    )

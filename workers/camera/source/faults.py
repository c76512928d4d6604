"""What can go wrong with a camera on the network: one place, one state and one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error

from nvision_hub.status import CameraState
from workers.camera.source.source import SourceError

if TYPE_CHECKING:
    from nvision_hub.config import CameraAddress


def refused(address: CameraAddress) -> SourceError:
    """The camera takes no user name and password, or not these."""
    if address.username is None:
        sentence = f"{address.shown} asks for a user name and password; give this camera its `username` and `password`"
    else:
        sentence = (
            f"{address.shown} refused the user name or password; correct `username` and `password` of this camera "
            "(some cameras answer so when they have no connection left, too)"
        )
    return SourceError(CameraState.AUTH_FAILED, sentence)


def not_there(address: CameraAddress) -> SourceError:
    """The camera knows no such stream."""
    return SourceError(
        CameraState.NOT_FOUND, f"{address.shown} does not exist there; correct the path in this camera's `url`"
    )


def busy(address: CameraAddress, code: int | None = None) -> SourceError:
    """The camera refuses for another reason: mostly its limit of viewers (453 Not Enough Bandwidth, 503)."""
    return SourceError(
        CameraState.UNREACHABLE,
        f"{address.shown} refused the stream{'' if code is None else f' ({code})'}; it may serve as many viewers as it "
        "can already: end another one, or use its sub-stream",
    )


def nobody(address: CameraAddress) -> SourceError:
    """The host is there, its port is closed."""
    return SourceError(
        CameraState.UNREACHABLE,
        f"nobody listens at {address.shown}; check the address and the port, and that the camera is on",
    )


def away(address: CameraAddress) -> SourceError:
    """The host is not there."""
    return SourceError(
        CameraState.UNREACHABLE,
        f"{address.shown} cannot be reached; check the host name, the network and that the camera is on",
    )


def silent(address: CameraAddress, waited_s: float) -> SourceError:
    """Connected, and nothing comes."""
    return SourceError(
        CameraState.STALLED,
        f"{address.shown} has sent nothing for {waited_s:.0f} s; check the camera and the network to it",
    )


def moved(address: CameraAddress) -> SourceError:
    """The camera redirects to another place."""
    return SourceError(
        CameraState.NOT_FOUND,
        f"{address.shown} redirects to another address, which is not followed; "
        "if that is where the camera is now, set it as this camera's `url`",
    )


def classify(error: Exception, address: CameraAddress, *, waited_s: float, limit_s: float) -> SourceError:
    """The named state and the sentence for an error of opening or reading `address`.

    `waited_s` tells a time-out from nonsense: FFmpeg calls an interrupted handshake invalid data.
    """
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return refused(address)
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return not_there(address)
        case av.error.HTTPClientError() | av.error.HTTPServerError():
            return busy(address)
        case ConnectionRefusedError():
            return nobody(address)
        case av.error.ExitError() | TimeoutError():
            return silent(address, waited_s)
        case av.error.InvalidDataError() if waited_s >= limit_s:
            return silent(address, waited_s)
        case av.error.InvalidDataError() | av.error.DecoderNotFoundError() | av.error.DemuxerNotFoundError():
            return SourceError(
                CameraState.UNSUPPORTED,
                f"{address.shown} sends nothing that can be read as video; set the camera to H.264, H.265 or MJPEG",
            )
        case av.error.EOFError() | ConnectionError():
            return SourceError(CameraState.UNREACHABLE, f"{address.shown} ended the stream")
        case _:
            return away(address)

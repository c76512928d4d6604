"""Each PyAV error is converted to a camera state and a message without secrets."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import av.error
import pytest

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.media.sources.errors import classify
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from nvision_hub.media.sources.source import SourceError

ADDRESS = CameraAddress.parse("rtsp://operator7:s3cret@10.0.0.5:554/stream1?token=hidden")


def classified(error: Exception, *, waited_s: float = 0.1) -> SourceError:
    return classify(error, ADDRESS, waited_s=waited_s, limit_s=10.0)


def of(kind: type[av.error.FFmpegError], code: int = errno.EIO) -> av.error.FFmpegError:
    return kind(code, "rtsp://operator7:s3cret@10.0.0.5/stream1 said something")


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (of(av.error.HTTPUnauthorizedError), CameraState.AUTH_FAILED, "correct `username` and `password`"),
        (of(av.error.HTTPForbiddenError), CameraState.AUTH_FAILED, "correct `username` and `password`"),
        (of(av.error.HTTPNotFoundError), CameraState.NOT_FOUND, "correct the path"),
        (FileNotFoundError(errno.ENOENT, "no"), CameraState.NOT_FOUND, "correct the path"),
        (of(av.error.HTTPOtherClientError), CameraState.UNREACHABLE, "limit of viewers"),
        (of(av.error.HTTPServerError), CameraState.UNREACHABLE, "limit of viewers"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), CameraState.UNREACHABLE, "connection refused by"),
        (of(av.error.EOFError), CameraState.UNREACHABLE, "ended the stream"),
        (ConnectionResetError(errno.ECONNRESET, "no"), CameraState.UNREACHABLE, "ended the stream"),
        (BrokenPipeError(errno.EPIPE, "no"), CameraState.UNREACHABLE, "ended the stream"),
        (of(av.error.ExitError), CameraState.STALLED, "has sent nothing for"),
        (TimeoutError(errno.ETIMEDOUT, "no"), CameraState.STALLED, "has sent nothing for"),
        (of(av.error.InvalidDataError), CameraState.UNSUPPORTED, "H.264, H.265 or MJPEG"),
        (of(av.error.DecoderNotFoundError), CameraState.UNSUPPORTED, "H.264, H.265 or MJPEG"),
        (OSError(errno.EHOSTUNREACH, "no"), CameraState.UNREACHABLE, "cannot be reached"),
        (ValueError("anything"), CameraState.UNREACHABLE, "cannot be reached"),
    ],
)
def test_each_error_has_its_state_and_its_sentence(error: Exception, state: CameraState, words: str) -> None:
    found = classified(error)
    assert found.state is state
    assert words in str(found)
    assert "rtsp://***@10.0.0.5:554/stream1" in str(found)
    for secret in ("s3cret", "operator7", "hidden"):
        assert secret not in str(found)


def test_invalid_data_after_the_timeout_is_a_stall() -> None:
    """FFmpeg reports an interrupted handshake as invalid data."""
    assert classified(of(av.error.InvalidDataError), waited_s=10.1).state is CameraState.STALLED

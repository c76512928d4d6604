"""Errors of a network camera. Each contains the camera's state, the cause and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av.error

from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.config.camera_address import CameraAddress


def _kind(state: CameraState, sentence: str) -> Callable[[CameraAddress], SourceError]:
    """Return a constructor for one kind of error. `{}` in `sentence` is a placeholder for the camera's address."""
    return lambda address: SourceError(state, sentence.format(address.shown))


connection_refused = _kind(
    CameraState.UNREACHABLE, "connection refused by {}; check the address and the port, and that the camera is on"
)
unreachable = _kind(
    CameraState.UNREACHABLE, "{} cannot be reached; check the host name and the network, and that the camera is on"
)
ended = _kind(CameraState.UNREACHABLE, "{} ended the stream; check that the camera is on")
ended_at_once = _kind(
    CameraState.UNREACHABLE,
    "{} ended the stream before the first frame; check that the camera's video is on; the camera may also have reached "
    "its limit of viewers: close another viewer, or use the camera's sub-stream",
)
incomplete = _kind(
    CameraState.UNREACHABLE, "{} ended its response too early; check the network connection to the camera"
)
not_found = _kind(CameraState.NOT_FOUND, "{} does not exist; correct the path in this camera's `url`")
no_video = _kind(CameraState.UNSUPPORTED, "{} has no video; choose a path that has video")
_unreadable = _kind(
    CameraState.UNSUPPORTED,
    "{} sends nothing that can be read as video; set the camera to H.264, H.265 or MJPEG",
)
_credentials_missing = _kind(
    CameraState.AUTH_FAILED, "{} asks for a user name and password; set `username` and `password` of this camera"
)
_forbidden = _kind(
    CameraState.AUTH_FAILED,
    "{} refuses access (403); if the camera needs a login, set `username` and `password` of this camera; otherwise "
    "allow this machine in the camera's settings, or correct the path in this camera's `url`",
)
_credentials_wrong = _kind(
    CameraState.AUTH_FAILED,
    "{} refused the user name or password; correct `username` and `password` of this camera "
    "(some cameras also respond in this way if they allow no more connections)",
)

basic_refused = _kind(
    CameraState.AUTH_FAILED,
    "{} asks for the password with Basic, but `auth` of this camera is `digest`; set the camera to Digest, or set "
    "`auth: any`",
)
downgraded = _kind(
    CameraState.AUTH_FAILED,
    "{} has offered Digest before and now asks for the password with Basic, so the hub does not send it; set the "
    "camera to Digest; if you have set the camera to Basic yourself, restart it with `nvision-hub restart`",
)
authentication_unsupported = _kind(
    CameraState.UNSUPPORTED, "{} requires an unsupported authentication method; set the camera to Digest or Basic"
)


unknown_host = _kind(
    CameraState.UNREACHABLE, "the host name in {} cannot be resolved; correct it, or check the name server"
)
hung_up = _kind(CameraState.UNREACHABLE, "{} closed the connection at once; check the camera")
too_long = _kind(CameraState.UNSUPPORTED, "{} sends a response that is too long; check the port in this camera's `url`")
no_rtsp = _kind(CameraState.UNSUPPORTED, "{} does not speak RTSP; check the port in this camera's `url`")
no_http = _kind(CameraState.UNSUPPORTED, "{} does not speak HTTP; check the port in this camera's `url`")
no_onvif = _kind(
    CameraState.UNSUPPORTED,
    "{} does not speak ONVIF; enable ONVIF in the camera's settings, and check the port in this camera's `url`",
)


def no_tls(address: CameraAddress) -> SourceError:
    """Return the error for a peer with which no TLS handshake is possible."""
    plain = address.scheme.removesuffix("s")
    return SourceError(
        CameraState.UNREACHABLE,
        f"{address.shown} does not speak TLS; try {plain}:// in place of {address.scheme}://, or correct the port",
    )


def untrusted_certificate(address: CameraAddress, reason: str, fingerprint: str | None) -> SourceError:
    """Return the error for a certificate that failed verification. `reason` is the phrase from OpenSSL."""
    shown = "<sha256>" if fingerprint is None else fingerprint
    return SourceError(
        CameraState.AUTH_FAILED,
        f"{address.shown} has a certificate that this machine does not trust ({reason}), so the hub sends no request; "
        "give the camera a valid certificate, or install the issuer's certificate on this machine (or name it in "
        f"SSL_CERT_FILE), or set `tls: fingerprint:{shown}` of this camera if the camera's own settings show the same "
        "fingerprint",
    )


def other_certificate(address: CameraAddress, found: str, expected: str) -> SourceError:
    """Return the error for a certificate whose fingerprint differs from the one in the setting `tls`."""
    return SourceError(
        CameraState.AUTH_FAILED,
        f"{address.shown} has a certificate with the fingerprint {found}, but `tls` of this camera expects {expected}, "
        f"so the hub sends no request; if you have replaced the certificate, set `tls: fingerprint:{found}`; "
        "otherwise, another device may be intercepting the connection",
    )


def changed_certificate(address: CameraAddress, found: str, known: str, file: Path | None) -> SourceError:
    """Return the error for a certificate that differs from the first one, whose fingerprint is in `file`."""
    forget = "" if file is None else f", or delete {file} and restart the camera"
    return SourceError(
        CameraState.AUTH_FAILED,
        f"{address.shown} has a new certificate with the fingerprint {found}; the known fingerprint is {known}, so the "
        "hub sends no request; if you have replaced the camera or its certificate, set "
        f"`tls: fingerprint:{found}` of this camera{forget}; otherwise, another device may be intercepting the "
        "connection",
    )


def stalled(address: CameraAddress, waited_s: float) -> SourceError:
    """Return the error for a camera that is connected but sends no data."""
    return SourceError(
        CameraState.STALLED,
        f"{address.shown} has sent nothing for {waited_s:.0f} s; check the camera and the network connection to it",
    )


def no_udp_ports(error: OSError) -> SourceError:
    """Return the error for a UDP stream for which this machine has no free port or file descriptor."""
    return SourceError(
        CameraState.UNREACHABLE,
        f"this machine cannot open UDP ports for the camera's stream ({error.strerror or error}); close programs that "
        "use many UDP ports, or raise the limit of open files; if the camera supports TCP, set `transport: tcp`",
    )


def refused(address: CameraAddress, status: int | None = None) -> SourceError:
    """Return the error for a camera that refused the stream. `status` is the HTTP or RTSP status, if known.

    A status that the code does not list usually means that the camera has reached its limit of viewers.
    """
    match status:
        case 403 if address.username is None:
            return _forbidden(address)
        case 401 | 403:
            return _credentials_missing(address) if address.username is None else _credentials_wrong(address)
        case 404 | 410:
            return not_found(address)
        case 204 | 205:
            return SourceError(
                CameraState.NOT_FOUND,
                f"{address.shown} responds without content ({status}); correct the path in this camera's `url`, and "
                "check that the camera's video is on",
            )
        case 400 | 405 | 406 | 415 | 501:
            return SourceError(
                CameraState.NOT_FOUND,
                f"{address.shown} rejects the request ({status}); correct the path and the scheme in this camera's "
                "`url`",
            )
        case _:
            return SourceError(
                CameraState.UNREACHABLE,
                f"{address.shown} refused the stream{'' if status is None else f' ({status})'}; the camera may have "
                "reached its limit of viewers: close another viewer, or use the camera's sub-stream",
            )


def classify(error: Exception, address: CameraAddress, *, waited_s: float, limit_s: float) -> SourceError:
    """Return the `SourceError` for an error that FFmpeg raised while opening or reading `address`.

    FFmpeg reports an interrupted handshake as invalid data. Invalid data after `limit_s` seconds is therefore a
    timeout.
    """
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return refused(address, 401)
        case av.error.HTTPNotFoundError() | FileNotFoundError():
            return not_found(address)
        case av.error.HTTPClientError() | av.error.HTTPServerError():
            return refused(address)
        case ConnectionRefusedError():
            return connection_refused(address)
        case av.error.ExitError() | TimeoutError():
            return stalled(address, waited_s)
        case av.error.InvalidDataError() if waited_s >= limit_s:
            return stalled(address, waited_s)
        case av.error.InvalidDataError() | av.error.DecoderNotFoundError() | av.error.DemuxerNotFoundError():
            return _unreadable(address)
        case av.error.EOFError() | ConnectionError():
            return ended(address)
        case _:
            return unreachable(address)

"""Redirects of RTSP and HTTP cameras, and which of them the clients follow. Performs no I/O.

After a redirect to another host, the client could send the password to that host. The clients therefore follow
redirects only to another path with the same scheme, host and port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin, urlsplit

from nvision_hub.config.url import PATH_SAFE, Address
from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from nvision_hub.config.camera_address import CameraAddress

MAX_REDIRECTS: Final = 3  # on the camera itself, from one path to another


def is_redirect(status: int) -> bool:
    """Return whether the status of an RTSP or HTTP response means a redirect (RFC 2326, 11.3)."""
    return 300 <= status < 400  # noqa: PLR2004


def redirect_path(address: CameraAddress, url: str, location: str) -> str:
    """Return the path of a redirect with the same scheme, host and port. Raises `SourceError` for any other redirect.

    `url` is the requested URL without credentials. `location` is the Location header, or empty if it is missing.
    """
    try:
        old, new = urlsplit(url), urlsplit(urljoin(url, location))
        old_host, new_host = ((u.scheme, u.hostname, u.port or address.schemes.get(u.scheme)) for u in (old, new))
    except ValueError:  # not a URL
        raise redirected(address) from None
    if not location or not location.isprintable():
        raise redirected(address)
    if old_host != new_host:
        is_upgrade = (old.scheme, new.scheme) in {("http", "https"), ("rtsp", "rtsps")} and old.hostname == new.hostname
        raise _upgraded(address, new.scheme, new_host[2]) if is_upgrade else redirected(address, new.geturl())
    # A space would end the URL in the request line too early.
    return quote(new._replace(scheme="", netloc="", fragment="").geturl(), safe=PATH_SAFE)


def redirected(address: CameraAddress, target: str | None = None) -> SourceError:
    """Return the error for a redirect that the client does not follow. `target` is the URL in the redirect."""
    try:
        named = "" if target is None else f": {Address.parse(target).shown}"
    except ValueError:
        named = ""
    return SourceError(
        CameraState.NOT_FOUND,
        f"{address.shown} redirects to another address, and the hub does not follow this redirect; if the camera has "
        f"moved, set its new address as this camera's `url`{named}",
    )


def redirected_too_often(address: CameraAddress) -> SourceError:
    """Return the error for a camera that redirects more than `MAX_REDIRECTS` times."""
    return SourceError(
        CameraState.NOT_FOUND,
        f"{address.shown} redirects too often; set the stream's final path in this camera's `url`",
    )


def _upgraded(address: CameraAddress, scheme: str, port: int | None) -> SourceError:
    """Return the error for a camera that redirects to TLS. `scheme` and `port` come from the redirect."""
    new = address.scheme.replace(address.scheme.rpartition("+")[2], scheme)
    named = "" if port == address.schemes.get(scheme) else f" and port {port}"
    return SourceError(
        CameraState.NOT_FOUND,
        f"{address.shown} accepts only encrypted connections; write {new}://{named} in place of {address.scheme}:// in "
        "this camera's `url`",
    )

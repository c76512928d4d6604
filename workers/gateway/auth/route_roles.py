"""Role that each route requires, and the name of each audited action. Performs no I/O.

A route that is missing from the table requires `view` for reading and `admin` for everything else. A new route is
therefore never open by mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.access.tokens import RoleName

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CALLBACK: Final = "/callback/"  # the path contains its own token, and Nvision may use any host name
# The first message contains the token, because a page cannot set the headers of a WebSocket.
LIVE: Final = "/api/v1/live"
_CAMERA: Final = "/api/v1/cameras/(?P<camera>[^/]+)"
_WEBHOOK: Final = "/api/v1/webhooks/(?P<webhook>[^/]+)"


@dataclass(frozen=True, kw_only=True)
class RouteAccess:
    """Required access to one route.

    `action` is its name in the audit log; None if the log omits its successful requests.
    """

    role: RoleName
    action: str | None = None
    camera: str | None = None
    webhook: str | None = None


_ROUTES: Final[tuple[tuple[str, str, RoleName, str | None], ...]] = (
    ("GET", "/metrics", "metrics", None),
    ("GET", "/api/v1/session", "metrics", None),
    ("GET", "/api/v1/broker", "admin", None),
    ("GET", f"{_CAMERA}/tuning", "control", None),
    ("POST", f"{_CAMERA}/pause", "control", "camera_pause"),
    ("POST", f"{_CAMERA}/resume", "control", "camera_resume"),
    ("POST", f"{_CAMERA}/restart", "control", "camera_restart"),
    ("PATCH", _CAMERA, "control", "camera_set"),
    ("POST", "/api/v1/cameras", "admin", "camera_add"),
    ("DELETE", _CAMERA, "admin", "camera_remove"),
    ("POST", "/api/v1/webhooks/replay", "admin", "webhook_replay"),
    ("POST", f"{_WEBHOOK}/test", "admin", "webhook_test"),
    ("POST", f"{_WEBHOOK}/enable", "admin", "webhook_enable"),
)


def route_access(method: str, path: str) -> RouteAccess:
    """Return the access to a route. `path` is decoded, and may be a path template such as /cameras/{camera_id}."""
    wanted = "GET" if method == "HEAD" else method
    for known, pattern, role, action in _ROUTES:
        # Like the router's patterns, each pattern ends with `$`, which also matches before a final line feed.
        if known == wanted and (found := re.match(f"{pattern}$", path)):
            groups = found.groupdict()
            return RouteAccess(role=role, action=action, camera=groups.get("camera"), webhook=groups.get("webhook"))
    if method in SAFE_METHODS:
        return RouteAccess(role="view")
    return RouteAccess(role="admin", action=f"{method} {path}")

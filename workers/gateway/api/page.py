"""Static files of the ops page.

The gateway reads the files at its start and serves them from memory. Each file has a route with its exact path, so a
request cannot reach any other file.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

STATIC_DIR: Final = Path(__file__).parents[1] / "static"
INDEX: Final = "index.html"
# The page loads nothing from other hosts, and contains no inline scripts or styles. Its images arrive over the
# WebSocket and become blobs.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HASHED: Final = re.compile(r"-[A-Za-z0-9_-]{8,}\.\w+$")  # Vite adds a content hash to the names of assets
_NOT_BUILT: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>nvision-hub</title>
<h1>nvision-hub</h1>
<p>The hub is running, but this installation does not contain its page. Run <code>npm ci</code> and
<code>npm run build</code> in <code>web</code>, then restart the hub.</p>
<p>Also available: <code>nvision-hub status</code>, <a href="/metrics">/metrics</a>, <a href="/readyz">/readyz</a>,
<a href="/api/v1/cameras">/api/v1/cameras</a>, <a href="/api/openapi.json">/api/openapi.json</a>.</p>
</html>
"""


def routes(folder: Path = STATIC_DIR) -> list[Route]:
    """Return one route per file of the page. If the page is not built, return one route with build instructions."""
    found = []
    for path in sorted(folder.rglob("*")) if (folder / INDEX).is_file() else ():
        if path.is_file() and path.suffix:  # skip `built-from`, which contains the digest of the sources
            url_path = f"/{path.relative_to(folder).as_posix()}"
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            cache_control = "public, max-age=31536000, immutable" if _HASHED.search(path.name) else "no-cache"
            url_path = "/" if url_path == f"/{INDEX}" else url_path
            found.append(_route(url_path, path.read_bytes(), media_type, cache_control))
    return found or [_route("/", _NOT_BUILT.encode(), "text/html", "no-cache")]


def _route(path: str, content: bytes, media_type: str, cache_control: str) -> Route:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"cache-control": cache_control, "etag": etag, "content-security-policy": POLICY}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, serve, methods=["GET"])

"""The ops page: the files that its build has left in `page/dist`, read once and served from memory. Knows no API.

Only what was there at the start is served, by its exact path, so no path leads anywhere else.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

DIST: Final = Path(__file__).parent / "page" / "dist"
INDEX: Final = "index.html"
# Nothing from any other host, no inline script and no inline style element; pictures come over the WebSocket as blobs.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HASHED: Final = re.compile(r"-[A-Za-z0-9_-]{8,}\.\w+$")  # as Vite names what it may be asked for again for ever
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_NOT_BUILT: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>nvision-hub</title>
<h1>nvision-hub</h1>
<p>The hub runs. Its page was not built into this installation: run <code>npm ci</code> and <code>npm run build</code>
in <code>workers/gateway/page</code> and start the hub again.</p>
<p>Without it: <code>nvision-hub status</code>, <a href="/metrics">/metrics</a>, <a href="/readyz">/readyz</a>,
<a href="/api/v1/cameras">/api/v1/cameras</a>, <a href="/api/openapi.json">/api/openapi.json</a>.</p>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    cached: str

    @property
    def etag(self) -> str:
        """Tells this content from any other."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def files(dist: Path = DIST) -> dict[str, File]:
    """Every file by the path that it is served at; a page that says how to build it where it was not."""
    found = {}
    for path in sorted(dist.rglob("*")) if (dist / INDEX).is_file() else ():
        if path.is_file() and path.suffix:  # the build's own mark has none
            place = f"/{path.relative_to(dist).as_posix()}"
            found["/" if place == f"/{INDEX}" else place] = File(
                content=path.read_bytes(),
                media_type=mimetypes.guess_type(path.name)[0] or "application/octet-stream",
                cached=_FOR_EVER if _HASHED.search(path.name) else "no-cache",
            )
    return found or {"/": File(content=_NOT_BUILT.encode(), media_type="text/html", cached="no-cache")}


def routes(served: Mapping[str, File]) -> list[Route]:
    """One for each file."""
    return [Route(path, _answer(file), methods=["GET"]) for path, file in served.items()]


def _answer(file: File) -> Callable[[Request], Awaitable[Response]]:
    headers = {"cache-control": file.cached, "etag": file.etag, "content-security-policy": POLICY}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return answer

"""Client for the HTTP API of a running hub, over the hub's control socket or its port."""

from __future__ import annotations

import contextlib
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import httpx2

from nvision_hub.cli.cluster_gateway import tls_context, token_for
from nvision_hub.cli.hub_choice import TOKEN_VARIABLE, find_hub, not_admitted
from nvision_hub.cli.options import unknown_name
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.redaction import register_secrets
from nvision_hub.runtime.unix_socket import short_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from nvision_hub.cli.hub_choice import HubOptions, RunningHub

LABEL: Final = "label:"
REQUEST_TIMEOUT_S: Final = 10.0
_CONNECT_RETRIES: Final = 4  # with delays of 0, 0.5, 1 and 2 s, because a gateway restarts within about a second
_SEE_LOG: Final = "see the gateway's log: nvision-hub logs gateway"


class ApiClient(httpx2.Client):
    """HTTP client for the API of the chosen hub.

    Methods raise `UnavailableError` if the gateway does not respond or cannot perform the request. They raise
    `UsageError` for an unknown camera or an invalid value, and `HubError` if the gateway refuses the client or the
    request.
    """

    def __init__(self, chosen: HubOptions) -> None:
        self.hub = find_hub(chosen)
        self.endpoints = self.hub.endpoints
        self._files = contextlib.ExitStack()
        options: dict[str, Any]
        if self.endpoints.control is not None:
            self._where, self._token_fix = self.endpoints.control, ""
            address = self._files.enter_context(_address(Path(self.endpoints.control)))
            transport = httpx2.HTTPTransport(uds=address, retries=_CONNECT_RETRIES)
            options = {"base_url": "http://localhost/api/v1", "transport": transport}
        else:
            options = self._port_options(self.hub)
        # Requests to the hub must not go through HTTP_PROXY.
        try:
            super().__init__(timeout=REQUEST_TIMEOUT_S, trust_env=False, **options)
        except httpx2.InvalidURL as error:
            raise click.UsageError(f"{self._where} is not an address of a hub ({error}); correct --url") from error
        except UnicodeEncodeError as error:
            raise HubError(f"the token has a character that no token contains; {self._token_fix}") from error

    def _port_options(self, hub: RunningHub) -> dict[str, Any]:
        """Return the httpx options of a client for the gateway's port."""
        gateway = hub.endpoints.gateway
        if gateway is None:
            raise UnavailableError(
                f"the running hub (pid {hub.endpoints.pid}) has no control socket and no address; restart the hub"
            )
        self._where = gateway
        if hub.config is None:
            self._token_fix = f"set {TOKEN_VARIABLE} to a token of the hub"
            # Only an address from `--url` is the user's own choice. Another user may have written a hub's record.
            token = os.environ.get(TOKEN_VARIABLE) if hub.is_remote else None
            verify = _default_context(gateway)
            register_secrets([token] if token else [])
        else:
            self._token_fix = "set gateway.token in cameras.yaml to the token that the hub started with"  # noqa: S105
            token, verify = token_for(hub.config), tls_context(hub.config)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return {"base_url": f"{gateway}/api/v1", "headers": headers, "verify": verify}

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        self._files.close()

    def cameras(self) -> list[dict[str, Any]]:
        """Return all cameras in the order of the configuration."""
        cameras: list[dict[str, Any]] = self.call("GET", "/cameras")["cameras"]
        return cameras

    def select(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the cameras that match `names`, as `selected` does."""
        return selected(self.cameras(), names)

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request with the given httpx options, and return the JSON body of the response."""
        try:
            response = self.request(method, path, **options)
        except httpx2.TimeoutException as error:
            raise UnavailableError(
                f"the hub's gateway at {self._where} did not respond within {REQUEST_TIMEOUT_S:g} s; {_SEE_LOG}"
            ) from error
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            cause = f" ({error})" if self.hub.is_remote else ""
            fix = "check --url" if self.hub.is_remote else _SEE_LOG
            raise UnavailableError(f"cannot connect to the hub's gateway at {self._where}{cause}; {fix}") from error
        if not response.is_success:
            raise _error(response, token_fix=self._token_fix)
        try:
            body: dict[str, Any] = response.json()
        except ValueError as error:
            raise HubError(f"{self._where} is not a hub's gateway; correct --url") from error
        return body


def selected(cameras: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the cameras with these ids or labels (`label:floor=1`), without duplicates, in the order of `names`.

    Raises `UsageError` for an unknown id and for a label that no camera has.
    """
    by_id = {camera["id"]: camera for camera in cameras}
    ids = list[str]()
    for name in names:
        if name.startswith(LABEL):
            ids += _labeled(cameras, name.removeprefix(LABEL))
        elif name in by_id:
            ids.append(name)
        else:
            raise unknown_name(f"the hub has no camera {name!r}", name, [*by_id])
    return [by_id[camera_id] for camera_id in dict.fromkeys(ids)]


def _labeled(cameras: Sequence[dict[str, Any]], wanted: str) -> list[str]:
    """Return the ids of the cameras with a label such as `floor=1`."""
    key, equals, value = wanted.partition("=")
    if not key or not equals:
        raise click.UsageError(f"{LABEL}{wanted} needs a label and its value, such as {LABEL}floor=1")
    found = [camera["id"] for camera in cameras if camera["labels"].get(key) == value]
    if not found:
        known = sorted({f"{name}={text}" for camera in cameras for name, text in camera["labels"].items()})
        raise unknown_name(f"no camera has the label {wanted}", wanted, known)
    return found


@contextlib.contextmanager
def _address(socket: Path) -> Iterator[str]:
    """Yield the address of a control socket. Raises `HubError` if this user may not connect to the socket."""
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(short_path(socket))
            is_closed = socket.exists() and not os.access(socket, os.R_OK | os.W_OK)
        except PermissionError as error:
            raise not_admitted(socket.parent) from error
        except OSError as error:
            raise UnavailableError(f"the hub's control socket {socket} is missing; restart the hub") from error
        if is_closed:
            raise not_admitted(socket.parent)
        yield address


def _default_context(gateway: str) -> ssl.SSLContext | bool:
    """Return a TLS context that trusts this machine's authorities or those in SSL_CERT_FILE; True for plain HTTP."""
    return ssl.create_default_context() if gateway.startswith("https:") else True


def _error(response: httpx2.Response, *, token_fix: str) -> Exception:
    """Translate an error response, normally a problem document (RFC 9457), into an exception."""
    detail = f"the gateway returned status {response.status_code}"
    invalid: list[str] = []
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        problem = response.json()
        detail = str(problem["detail"])
        invalid = [f"{each['pointer'].removeprefix('/body/')}: {each['detail']}" for each in problem.get("errors", ())]
    match response.status_code:
        case 401:
            return HubError(f"the hub refused the token; {token_fix}")
        case 404 | 422:
            return click.UsageError("; ".join(invalid) or detail)
        case 503:
            return UnavailableError(f"the hub could not perform the request: {detail}")
        case _:
            return HubError(f"the hub refused the request: {detail}")

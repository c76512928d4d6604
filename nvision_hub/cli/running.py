"""The hub that runs with a configuration, as other verbs reach it: its addresses, and its HTTP API."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self

import click
import httpx2
import redis
from redis.exceptions import RedisError

from nvision_hub.broker.fleet_records import FleetKeys
from nvision_hub.config.suggestion import did_you_mean
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub import Addresses, addresses_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from nvision_hub.config import Config

ANSWERS_WITHIN_S: Final = 10.0
_REDIS_S: Final = 3.0
_SECONDS: Final = httpx2.Timeout(ANSWERS_WITHIN_S)


def running(config: Config) -> Addresses:
    """Where the hub that uses this state_dir is. Raises `UnavailableError` where none runs."""
    addresses = addresses_of(config.state_dir) or _of_fleet(config)
    if addresses is None:
        raise UnavailableError(
            f"no hub runs with the state_dir of {config.path.name} ({config.state_dir}); start it: nvision-hub start"
        )
    return addresses


def _of_fleet(config: Config) -> Addresses | None:
    """Where the hub is that shows a fleet of several machines; None where its Redis knows of none."""
    if config.redis.url.embedded:
        return None
    prefix = config.redis.prefix
    with redis.Redis.from_url(config.redis.url.dial(), socket_timeout=_REDIS_S, socket_connect_timeout=_REDIS_S) as it:
        try:
            gateway = it.get(FleetKeys(prefix=prefix).gateway)
        except (RedisError, OSError):
            return None
    if not isinstance(gateway, bytes):
        return None
    return Addresses(
        pid=0,  # of another machine, perhaps
        site=config.site,
        redis=config.redis.url.shown,
        prefix=prefix,
        service=None,
        demo=None,
        gateway=gateway.decode(errors="replace"),
    )


class Api:
    """The running hub's API. Use it as a context.

    Its errors are sentences: `UnavailableError` where it does not answer, `HubError` where it lets nobody in or does
    not do it, `UsageError` for a camera that there is not and for values that cannot be.
    """

    def __init__(self, config: Config) -> None:
        self.addresses = running(config)
        if self.addresses.gateway is None:
            raise UnavailableError(
                f"the hub that runs (pid {self.addresses.pid}) has no API, because gateway.listen is none; "
                f"give it an address in {config.path.name}, and start the hub again"
            )
        token = config.gateway.token
        headers = {} if not token else {"authorization": f"Bearer {token.reveal()}"}
        # No proxy of the environment: it is on this machine.
        self._client = httpx2.Client(
            base_url=f"{self.addresses.gateway}/api/v1", headers=headers, timeout=_SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def hub(self) -> dict[str, Any]:
        """The hub and its processes."""
        return self._json("GET", "/hub")

    def cameras(self) -> list[dict[str, Any]]:
        """All cameras, in the order of their file."""
        found: list[dict[str, Any]] = self._json("GET", "/cameras")["cameras"]
        return found

    def known(self, wanted: Sequence[str]) -> list[dict[str, Any]]:
        """These cameras. Raises `UsageError` for one that there is not, before anything is done to another."""
        cameras = {camera["id"]: camera for camera in self.cameras()}
        for camera_id in wanted:
            if camera_id not in cameras:
                hint = did_you_mean(camera_id, cameras) or f"; there are {', '.join(cameras)}"
                raise click.UsageError(f"the hub has no camera {camera_id!r}{hint}")
        return [cameras[camera_id] for camera_id in dict.fromkeys(wanted)]

    def control(self, camera_id: str, verb: str) -> dict[str, Any]:
        """Pause, resume or restart one camera; how it is then."""
        return self._json("POST", f"/cameras/{camera_id}/{verb}")

    def tune(self, camera_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings of one camera; how it is then."""
        return self._json("PATCH", f"/cameras/{camera_id}", json=dict(values))

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        where = self.addresses.gateway
        try:
            answer = self._client.request(method, path, **more)
        except httpx2.TimeoutException as error:
            raise UnavailableError(f"the hub's gateway at {where} does not answer; {_LOOK}") from error
        except httpx2.TransportError as error:
            raise UnavailableError(f"nothing answers at {where}, where the hub's gateway should be; {_LOOK}") from error
        if answer.is_success:
            found: dict[str, Any] = answer.json()
            return found
        raise _refusal(answer)


_LOOK: Final = "`nvision-hub logs gateway` tells more"


def _refusal(answer: httpx2.Response) -> Exception:
    """What a person should know of an answer that is none; see RFC 9457."""
    detail = f"answered {answer.status_code}"
    faults: list[str] = []
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        problem = answer.json()
        detail = str(problem["detail"])
        faults = [
            f"{fault['pointer'].removeprefix('/body/')}: {fault['detail']}" for fault in problem.get("errors", ())
        ]
    match answer.status_code:
        case 401:
            return HubError(
                "the hub does not take the token; gateway.token of cameras.yaml must be the one that the hub was "
                "started with"
            )
        case 404 | 422:
            return click.UsageError("; ".join(faults) or detail)
        case 503:
            return UnavailableError(f"not done: {detail}")
        case _:
            return HubError(f"not done: {detail}")

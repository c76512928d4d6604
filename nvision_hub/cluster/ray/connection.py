"""Connection to a Ray cluster, which must require authentication."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from typing import Final

import ray
from ray.exceptions import RayError

from nvision_hub.errors import UnavailableError
from nvision_hub.redaction import redact

NAMESPACE: Final = "nvision-hub"
CLUSTER_TIMEOUT_S: Final = 30.0
_AUTHENTICATION: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def connect(address: str | None, *, insecure: bool) -> None:
    """Join a running cluster. Unless `insecure`, the cluster must require a token. Raises `UnavailableError`."""
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    if _is_open(address) and not insecure:
        raise UnavailableError(
            f"the Ray cluster at {address} requires no authentication: anyone who reaches it can read every camera's "
            "password and run programs on its machines; start it with RAY_AUTH_MODE=token and a token "
            "(`ray get-auth-token --generate`), or pass --insecure-cluster if its network is private"
        )
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        first_line = " ".join(redact(str(error)).strip().splitlines()[:1])
        raise UnavailableError(f"cannot join the Ray cluster at {address}: {first_line}") from error


def _is_open(address: str) -> bool:
    """Return whether the cluster accepts a client without a token. Raises `UnavailableError` if no cluster answers."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    if address != "auto":
        command += ["--address", address]
    environ = {name: value for name, value in os.environ.items() if name not in _AUTHENTICATION}
    with contextlib.suppress(subprocess.TimeoutExpired):
        check = subprocess.run(  # noqa: S603 - Ray's own program
            command,
            env={**environ, "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLUSTER_TIMEOUT_S,
            check=False,
        )
        if check.returncode == 0:
            return True
        if "Unauthenticated" in check.stderr + check.stdout:
            return False
    raise UnavailableError(
        f"no Ray cluster answers at {address}; start one (RAY_AUTH_MODE=token ray start --head) or pass its address: "
        "--address HOST:6379"
    )

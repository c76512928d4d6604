"""The Ray cluster: found, refused where it lets anybody in, and joined."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Final

import ray
from ray.exceptions import RayError

from nvision_hub.errors import UnavailableError, redact

NAMESPACE: Final = "nvision-hub"
CLUSTER_WITHIN_S: Final = 30.0
_AUTHENTICATION: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def connect(address: str | None, *, insecure: bool) -> None:
    """Join a cluster that runs. Raises `UnavailableError` where there is none, or where it lets anybody in."""
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    open_to_all = _is_open(where)
    if open_to_all and not insecure:
        raise UnavailableError(
            f"the Ray cluster at {where} lets anybody in, who could then read every camera's password and run programs "
            "on its machines; start it with RAY_AUTH_MODE=token and a token (`ray get-auth-token --generate`), or say "
            "--insecure-cluster if nobody else can reach it"
        )
    try:
        ray.init(address=where, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    except (RayError, ConnectionError, RuntimeError, ValueError) as error:
        first = redact(str(error)).strip().splitlines()[:1]
        raise UnavailableError(f"the Ray cluster at {where} cannot be joined: {' '.join(first)}") from error


def _is_open(where: str) -> bool:
    """Whether a cluster answers one that shows no token. Raises `UnavailableError` where none answers at all."""
    bare = {name: value for name, value in os.environ.items() if name not in _AUTHENTICATION}
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    if where != "auto":
        command += ["--address", where]
    try:
        asked = subprocess.run(  # noqa: S603 - Ray's own program
            command,
            env={**bare, "RAY_AUTH_MODE": "disabled"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLUSTER_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        asked = None
    if asked is not None and asked.returncode == 0:
        return True
    if asked is not None and "Unauthenticated" in asked.stderr + asked.stdout:
        return False
    raise UnavailableError(
        f"no Ray cluster answers at {where}; start one (RAY_AUTH_MODE=token ray start --head), or name it: "
        "--address HOST:6379"
    )

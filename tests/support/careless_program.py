"""Program that writes a camera's password in every way that a library might, in this process and in a worker.

Usage: `python -m tests.support.careless_program cameras.yaml`
"""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from nvision_hub.config.load import load
from nvision_hub.logs.setup import set_up
from nvision_hub.runtime.process import ChildProcess, ProcessSpec

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("some.library")


class _Finalized:
    def __init__(self, process: str, secret: str) -> None:
        self._text = f"finalizer in {process}: {secret}"

    def __del__(self) -> None:
        raise RuntimeError(self._text)


def leak(process: str, secret: str) -> None:
    log.warning(f"message in {process}: {secret}")  # noqa: G004 - libraries do this
    log.warning("argument in %s: %s", process, secret)
    log.warning("representation in %s: %r", process, {"password": secret})
    log.warning("JSON in %s: %s", process, json.dumps({"password": secret}))
    log.warning("URL in %s: rtsp://host/?x=%s", process, quote(secret))
    login = base64.b64encode(f":{secret}".encode()).decode()
    log.warning("header in %s: Authorization: Basic %s", process, login)
    warnings.warn(f"warning in {process}: {secret}", stacklevel=1)

    def fail(route: str) -> None:
        raise ValueError(f"{route} of {process}: {secret}")

    try:
        fail("traceback")
    except ValueError:
        log.exception("failed")
    thread = threading.Thread(target=fail, args=("thread",))
    thread.start()
    thread.join()
    _Finalized(process, secret)


def run(secret: str, _pipe: SupervisorPipe) -> None:
    leak("careless", secret)
    raise ValueError(f"crash of careless: {secret}")


def main() -> None:
    set_up()
    password = load(Path(sys.argv[1])).cameras[0].password
    assert password is not None
    leak("hub", password.reveal())
    log.warning("crash of hub")
    child = ChildProcess(ProcessSpec(name="careless", stage=0, entry=run, settings=password.reveal()))
    child.ended_within(60)
    child.close()


if __name__ == "__main__":
    main()

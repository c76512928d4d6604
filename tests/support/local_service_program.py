"""Local service in a separate process: `python -m tests.support.local_service_program FD SETTINGS-AS-JSON`."""

from __future__ import annotations

import json
import logging
import socket
import sys
from pathlib import Path

from nvision_hub.errors import HubError
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from workers.local_service import run
from workers.local_service.settings import LocalServiceSettings


def main() -> int:
    """Run the service. Descriptor FD is the inherited service end of the pipe to the test."""
    given = json.loads(sys.argv[2])
    for name in ("model", "labels", "face_model"):
        if given.get(name) not in {None, "moving"}:
            given[name] = Path(given[name])
    given["streaming_keys"] = tuple(given.get("streaming_keys", ()))
    logging.basicConfig(level=logging.INFO)
    with socket.socket(fileno=int(sys.argv[1])) as pipe:
        try:
            run(LocalServiceSettings(**given), SupervisorPipe(pipe))
        except HubError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

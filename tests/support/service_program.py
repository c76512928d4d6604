"""The local service in a process of its own: `python -m tests.support.service_program FD SETTINGS-AS-JSON`."""

from __future__ import annotations

import json
import logging
import socket
import sys
from pathlib import Path

from nvision_hub.errors import HubError
from nvision_hub.link import Link
from workers.service.service import ServiceSettings, run


def main() -> int:
    """Run the service; its end of the pipe to the test is the inherited descriptor FD."""
    given = json.loads(sys.argv[2])
    for name in ("model", "face_model"):
        if given.get(name) is not None:
            given[name] = Path(given[name])
    given["streaming_keys"] = tuple(given.get("streaming_keys", ()))
    logging.basicConfig(level=logging.INFO)
    with socket.socket(fileno=int(sys.argv[1])) as pipe:
        try:
            run(ServiceSettings(**given), Link(pipe))
        except HubError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

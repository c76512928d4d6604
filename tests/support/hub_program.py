"""A hub for tests: starts the cameras.yaml given and prints what its supervisor knows, a line of JSON twice a second.

The command line does the same for people; this one is for programs that want every status whole.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub import hub, logs
from nvision_hub.config import load
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.supervisor import Member


def show(members: Sequence[Member]) -> None:
    """One line: each member's place in its life and its last status."""
    told = {
        member.spec.name: {
            "phase": member.phase,
            "pid": member.pid,
            "restarts": member.restarts,
            "status": None if member.status is None else asdict(member.status),
        }
        for member in members
    }
    print(json.dumps({"members": told}), flush=True)


def main() -> None:
    logs.set_up()
    try:
        config = load(Path(sys.argv[1]))
        chosen = hub.plan(config)
        print(json.dumps({"addresses": asdict(chosen.addresses)}), flush=True)
        hub.start(config, chosen, watch=show)
    except HubError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""Hub for tests: runs a cameras.yaml, and twice a second prints the state of all children as a line of JSON.

Unlike the command line, this program prints complete statuses for other programs. The environment variable
SLOT_TIMEOUT_S sets three limits in seconds: for holding a connect slot, for waiting for a slot, and for the delay
before a child restarts. ALSO_WRITABLE names a directory whose files restricted workers may open.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub.broker.embedded_users import BrokerUser
from nvision_hub.errors import HubError
from nvision_hub.hub.resolver import Resolver
from nvision_hub.hub.run import start
from nvision_hub.logs.setup import set_up
from nvision_hub.runtime import sandbox
from nvision_hub.runtime.messages import encode
from nvision_hub.supervisor import connection_turns, process_state, supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.hub.active_config import ActiveConfig
    from nvision_hub.supervisor.process_state import ProcessState


def show(members: Sequence[ProcessState]) -> None:
    """Print one line with the phase and the last status of each child."""
    reported = {
        member.spec.name: {
            "phase": member.phase,
            "pid": member.pid,
            "restarts": member.restarts,
            "status": None if member.status is None else json.loads(encode(member.status).partition(b" ")[2]),
        }
        for member in members
    }
    print(json.dumps({"members": reported}), flush=True)


def _broker_urls(active: ActiveConfig) -> dict[str, str]:
    """Return the address of the embedded broker for each of its users, including the passwords."""
    brokers = [each.settings for each in active.plan.children if each.name == "broker"]
    return {user: own.url if user is BrokerUser.HUB else own.user_url(user) for own in brokers for user in BrokerUser}


def main() -> None:
    set_up()
    if directory := os.environ.get("ALSO_WRITABLE"):
        sandbox.ALSO_WRITABLE.append(Path(directory))
    if timeout_s := float(os.environ.get("SLOT_TIMEOUT_S", "0")):
        vars(connection_turns).update(MAX_HELD_S=timeout_s, MAX_WAIT_S=timeout_s)
        limits = partial(process_state.SupervisorLimits, restart_first_s=timeout_s, restart_max_s=timeout_s)
        vars(supervisor).update(SupervisorLimits=limits)
    try:
        resolver = Resolver(Path(sys.argv[1]))
        chosen = resolver.start()
        print(json.dumps({"addresses": asdict(chosen.endpoints) | resolver.inspect(_broker_urls)}), flush=True)
        start(resolver, chosen, on_tick=show)
    except HubError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

"""One hub at a time per state_dir, from its first process to its last."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING

from nvision_hub.hub.manager_notes import ManagerNotes
from nvision_hub.hub.renewal import Renewal
from nvision_hub.hub.self_report import SelfReport
from nvision_hub.hub.state_dir import sole_use, unwritable
from nvision_hub.hub.surroundings import check_surroundings
from nvision_hub.logs import kept_in
from nvision_hub.notify import Notify
from nvision_hub.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from nvision_hub.child import ChildSpec
    from nvision_hub.config import Config
    from nvision_hub.hub.composition import Plan
    from nvision_hub.hub.run_time import RunTime
    from nvision_hub.supervisor import Member

log = logging.getLogger("nvision_hub.hub")


def start(
    config: Config,
    chosen: Plan,
    *,
    only: Collection[str] = (),
    run_time: RunTime | None = None,
    watch: Callable[[Sequence[Member]], None] | None = None,
) -> signal.Signals:
    """Run `chosen` until SIGTERM or SIGINT; returns which of them it was, when nothing of it is left.

    Meanwhile follows the file of `config`, of which it runs the cameras of `only`, or all where that is empty, and what
    operators ask for, which begins with `run_time`.

    Raises `UnavailableError` where another hub uses the same state_dir or something is missing.
    """
    multiprocessing.set_start_method("fork", force=True)
    with sole_use(config.state_dir), kept_in(config.state_dir / "logs"):
        check_surroundings(config, chosen)
        file = config.state_dir / "hub.json"
        try:
            file.write_text(json.dumps(asdict(chosen.addresses)), encoding="utf-8")
        except OSError as error:
            file.unlink(missing_ok=True)
            raise unwritable(config.state_dir, error) from error
        # What is loaded now stays: frozen, the collector's visits copy none of its pages into the children.
        gc.collect()
        gc.freeze()
        renewal = Renewal(config, chosen, only=only, run_time=run_time)
        had_terminal = _has_terminal()

        def renew(asked: bool) -> Sequence[ChildSpec] | None:  # noqa: FBT001 - the supervisor's signature
            if asked and had_terminal and not _has_terminal():
                signal.raise_signal(signal.SIGTERM)  # it was the terminal that hung up, not somebody with a new file
                return None
            return renewal(asked)

        try:
            return Supervisor(
                chosen.children,
                watch=watch,
                renew=renew,
                heed=renewal.heed,
                about=SelfReport(config, renewal),
                turned=ManagerNotes(notify=Notify.taken_from(os.environ)).turned,
            ).run()
        finally:
            file.unlink(missing_ok=True)


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True

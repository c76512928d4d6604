"""Supervisor's loop, which executes the actions of the policy and never blocks on a child."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.runtime.messages import ConnectSlotGranted, Drain, Forward, RestartProcess, TurnRequest, encode
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.supervisor.connection_turns import ConnectionTurns
from nvision_hub.supervisor.observer import SupervisorObserver
from nvision_hub.supervisor.policy import Action, Stopping, decide, is_over
from nvision_hub.supervisor.process_state import Phase, ProcessState, SupervisorLimits
from nvision_hub.supervisor.signal_queue import SignalQueue
from nvision_hub.supervisor.subscriber import Subscriber, VersionedInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.runtime.messages import ProcessInfo, Request, SealedRequest

log = logging.getLogger("nvision_hub.supervisor")

OBSERVER_INTERVAL_S: Final = 0.5
TICK_S: Final = 0.25  # maximum delay before the supervisor handles a restart or a missed deadline


class Supervisor:
    def __init__(
        self,
        specs: Iterable[ProcessSpec],
        *,
        limits: SupervisorLimits | None = None,
        observer: SupervisorObserver | None = None,
    ) -> None:
        self._limits = limits or SupervisorLimits()
        self._processes = {spec.name: ProcessState(spec=spec, limits=self._limits) for spec in specs}
        self._children: dict[str, ChildProcess] = {}
        self._observer = observer or SupervisorObserver()
        self._observer_failed = False
        self._hub_info: ProcessInfo | None = None
        self._subscribers: dict[str, Subscriber] = {}  # one for each running subscriber
        self._turns = ConnectionTurns()
        self._selector = selectors.DefaultSelector()
        self._stopping: Stopping | None = None
        self._stopped_by = signal.SIGTERM

    def run(self) -> signal.Signals:
        """Keep the processes alive until SIGTERM or SIGINT, and then stop them in order. Return the first signal."""
        with SignalQueue() as self._signals, self._selector:
            self._selector.register(self._signals, selectors.EVENT_READ, None)
            try:
                self._loop()
            finally:
                self._kill_all()
        return self._stopped_by

    def _loop(self) -> None:
        observed_at, ticked_at = float("-inf"), time.monotonic()
        while True:
            now = time.monotonic()
            processes = list(self._processes.values())
            self._check_suspended(processes, now - ticked_at, now)
            ticked_at = now
            all_done = self._carry_out_all(decide(processes, now, self._stopping, self._limits), now)
            if is_over(processes, now, self._stopping, self._limits):
                self._notify_observer(processes)
                return
            if now - observed_at >= OBSERVER_INTERVAL_S:
                observed_at = now
                self._notify_observer(processes)
                self._reload(requested=False)
                self._report_hub()
            self._flush_subscribers(now)
            self._grant_slots()
            self._wait(TICK_S if all_done else 0.0)
            self._handle_signals()
            self._replace_ended()

    def _carry_out_all(self, actions: Sequence[Action], now: float) -> bool:
        """Execute actions for at most one tick. Return False if some actions are left for the next tick."""
        for action in actions:
            # A hundred forks take seconds; the supervisor must read status reports in between.
            if time.monotonic() - now > TICK_S:
                return False
            self._carry_out(action, now)
        return True

    def _check_suspended(self, processes: Sequence[ProcessState], gap_s: float, now: float) -> None:
        """Reset all watchdogs if this process (Ctrl-Z) or the machine was suspended and read no reports."""
        if gap_s > self._limits.suspend_gap_s:
            log.warning("the supervisor was suspended for %.0f s", gap_s, extra={"event": "suspended"})
            for process in processes:
                process.reset_watchdog(now)

    def _notify_observer(self, processes: Sequence[ProcessState]) -> None:
        try:
            self._observer.on_tick(processes, stopping=self._stopping is not None)
        except Exception:  # a failing observer must not end the processes
            if not self._observer_failed:
                log.exception("the observer failed; later failures are not logged", extra={"event": "observer_failed"})
            self._observer_failed = True

    def _report_hub(self) -> None:
        if not self._subscribers:
            return
        try:
            reported = self._observer.hub_status()
        except Exception:  # as in `_notify_observer`
            log.exception(
                "cannot read the hub's status; subscribers keep the last reported status",
                extra={"event": "hub_status_failed"},
            )
            return
        if reported is None:
            return
        self._hub_info, status = reported
        record = encode(status)
        for subscriber in self._subscribers.values():
            subscriber.add_status(self._hub_info.name, record)

    def _flush_subscribers(self, now: float) -> None:
        if not self._subscribers:
            return
        infos: dict[str, VersionedInfo] = {
            name: (process.info_version, partial(process.info, now)) for name, process in self._processes.items()
        }
        if (hub := self._hub_info) is not None:
            infos[hub.name] = ((hub,), lambda: hub)
        for name, subscriber in self._subscribers.items():
            subscriber.flush(self._children[name].send, infos)

    def _wait(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for an event that may require an action.

        A status ends the wait only if the process has become ready or stopped being ready.
        """
        # While a grandchild is alive, the sentinel of an ended child does not become readable. Each call therefore also
        # checks the ending processes.
        ended = {name for name in self._children if self._processes[name].phase is not Phase.RUNNING}
        deadline = time.monotonic() + timeout_s
        is_due = False
        while not is_due:
            left_s = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, left_s)):
                match key.data:
                    case None:
                        is_due = True
                    case name, "sentinel":
                        ended.add(name)
                        is_due = True
                    case name, _:
                        was_ready = self._processes[name].ready
                        self._receive(name)
                        is_due = is_due or self._processes[name].ready != was_ready
            is_due = is_due or left_s <= 0
        for name in ended:
            self._reap(name)

    def _handle_signals(self) -> None:
        is_reload_requested = False
        while (number := self._signals.pop()) is not None:
            if number is signal.SIGHUP:
                is_reload_requested = True  # several signals cause one reload, because the loop waits for each reload
            elif self._stopping is None:
                log.info(
                    "stopping (%s); press Ctrl-C again to stop immediately", number.name, extra={"event": "stopping"}
                )
                self._stopped_by = number
                self._stopping = Stopping(time.monotonic())
            else:
                self._stopping = Stopping(self._stopping.since, hurry=True)
        if is_reload_requested:
            self._reload(requested=True)

    def _reload(self, *, requested: bool) -> None:
        if self._stopping is not None:
            return
        try:
            specs = self._observer.reload(requested=requested)
        except Exception:  # a failing reload must not end the processes
            log.exception("reload failed; all processes keep running", extra={"event": "reload_failed"})
            return
        if specs is not None:
            self._apply({spec.name: spec for spec in specs})

    def _apply(self, wanted: dict[str, ProcessSpec]) -> None:
        """Reconfigure, restart, remove or add the processes whose specs have changed."""
        for name, process in self._processes.items():
            spec = wanted.pop(name, None)
            target = process.successor if process.ending else process.spec
            if spec == target:
                if spec is not None and not process.ending:
                    process.replace_spec(spec)  # the comparison of specs ignores facts, which may have changed
                continue
            if spec is None:
                log.info("%s is removed", name, extra={"event": "process_removed"})
            elif not process.ending and self._reconfigure(process, spec):
                continue
            else:
                log.info("%s is restarting: its settings changed", name, extra={"event": "process_changed"})
            process.request_end(spec)
        for name, spec in wanted.items():
            log.info("%s is added", name, extra={"event": "process_added"})
            self._processes[name] = ProcessState(spec=spec, limits=self._limits)

    def _reconfigure(self, process: ProcessState, spec: ProcessSpec) -> bool:
        """Apply changed settings to a running process. Return False if the process must restart."""
        message = process.spec.reconfigure(process.spec.settings, spec.settings)
        child = self._children.get(process.spec.name)
        if message is None or (child is not None and not child.send(message)):
            return False
        log.info("%s is reconfigured", process.spec.name, extra={"event": "process_reconfigured"})
        process.replace_spec(spec)
        return True

    def _replace_ended(self) -> None:
        """Replace each process that ended on request with its successor, or remove the process."""
        ended = [process for process in self._processes.values() if process.ending and not process.alive]
        for process in ended:
            if process.successor is None:
                del self._processes[process.spec.name]
            else:  # reuse the key, so that observers see the processes in the same order
                successor = ProcessState(spec=process.successor, limits=self._limits)
                successor.inherit(process, "asked" if process.successor is process.spec else "changed")
                self._processes[process.spec.name] = successor

    def _carry_out(self, action: Action, now: float) -> None:
        name, process = action.name, self._processes[action.name]
        match action.phase:
            case Phase.RUNNING:
                self._start(process, now)
                return
            case Phase.DRAINING:
                self._children[name].send(Drain())  # if the pipe does not accept `Drain`, SIGTERM follows
            case Phase.TERMINATING:
                self._children[name].terminate()
            case _:
                fault = f"{name}, killed"
                log.warning("killing %s: %s", name, action.reason, extra={"fault": fault, "event": "process_killed"})
                process.kill_reason = action.reason
                self._children[name].kill()
        process.enter(action.phase, now)

    def _start(self, process: ProcessState, now: float) -> None:
        name = process.spec.name
        try:
            child = ChildProcess(process.spec)
        except OSError as error:  # no free process, thread, memory or descriptor
            process.on_start_failed(error, now)
            return
        self._children[name] = child
        if process.spec.subscriber:
            self._subscribers[name] = Subscriber()
        self._selector.register(child.sentinel, selectors.EVENT_READ, (name, "sentinel"))
        self._selector.register(child.pipe, selectors.EVENT_READ, (name, "pipe"))
        process.on_start(child.pid, now)

    def _receive(self, name: str) -> None:
        child = self._children[name]
        try:
            output = child.receive()
        except EOFError:
            with contextlib.suppress(KeyError):  # already unregistered
                self._selector.unregister(child.pipe)
            return
        if output.status is not None:
            self._processes[name].on_status(output.status, time.monotonic())
            for each in self._subscribers.values():
                each.add_status(name, output.record)
        for request in output.requests:
            if isinstance(request, TurnRequest):
                if (reply := self._turns.add(name, request, time.monotonic())) is not None:
                    child.send(reply)
                self._grant_slots()
            elif name in self._subscribers:  # only subscribers may send these requests
                self._subscribers[name].add_reply(request.request_id, self._handle_request(request))

    def _grant_slots(self) -> None:
        for name in self._turns.grant(time.monotonic()):
            self._children[name].send(ConnectSlotGranted())

    def _handle_request(self, request: Request | SealedRequest) -> HubError | None:
        """Perform a subscriber's request. Return the error; None if the request succeeds."""
        try:
            self._carry_out_request(request)
        except HubError as error:
            return error
        except Exception:  # a failing request must not end the processes
            log.exception("%s failed", type(request).__name__, extra={"event": "request_failed"})
            return HubError("the hub failed to carry out the request; see its log for the cause")
        return None

    def _carry_out_request(self, request: Request | SealedRequest) -> None:
        if self._stopping is not None:
            raise UnavailableError("the hub is stopping")
        match request:
            case Forward(target=target, message=message):
                child = self._children.get(target)
                if child is None or not child.send(message):
                    raise UnavailableError(f"{target} is not running")
            case RestartProcess(target=target):
                process = self._processes.get(target)
                if process is None:
                    raise UnavailableError(f"there is no process {target}")
                if not process.ending:
                    log.info("%s is restarting: requested", target, extra={"event": "restart_requested"})
                    process.request_end(process.spec)
            case _:
                self._observer.on_camera_request(request)
                self._reload(requested=False)

    def _reap(self, name: str) -> None:
        child = self._children[name]
        if (code := child.exit_code) is None:
            return
        self._receive(name)  # read the last status
        self._selector.unregister(child.sentinel)
        with contextlib.suppress(KeyError):  # the child closed the pipe before it ended
            self._selector.unregister(child.pipe)
        child.close()
        del self._children[name]
        self._subscribers.pop(name, None)
        self._turns.remove(name)
        self._processes[name].on_exit(code, time.monotonic(), wanted=self._stopping is None)

    def _kill_all(self) -> None:
        """Kill all remaining children. Abandon children that do not end, so that this process can exit."""
        for child in self._children.values():
            child.kill()
        deadline = time.monotonic() + self._limits.reap_s
        for name, child in self._children.items():
            if child.ended_within(deadline - time.monotonic()):
                child.close()
            else:
                sentence = "%s (pid %d) does not end even when killed; it is abandoned"
                log.error(sentence, name, child.pid, extra={"event": "process_abandoned"})
                child.abandon()
        self._children.clear()

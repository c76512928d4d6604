"""The loop that carries decisions out: waits on descriptors, decodes nothing, serves nothing, blocks on no child."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.child import Child, ChildSpec
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.link import Command
from nvision_hub.supervisor.briefing import Briefing
from nvision_hub.supervisor.decisions import Action, Drain, Kill, Start, Stopping, Terminate, decide, over
from nvision_hub.supervisor.member import Limits, Member, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.oversight import Account
    from nvision_hub.status import Status

log = logging.getLogger("nvision_hub.supervisor")

SHOWN_EVERY_S: Final = 0.5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TICK_S: Final = 0.25  # bounds how late a restart or a deadline is


class Supervisor:
    """Keeps children alive.

    `watch` is called with the members about twice a second, for whoever shows them. `renew` is asked about twice a
    second, and with True after a SIGHUP, which children there should be from now on; None means no change. `heed` is
    given what an overseer asks for beyond the supervisor's own, raises `HubError` with a sentence where that cannot be
    done, and is followed by a `renew`. `about` is what overseers are told of this process itself. `turned` is called as
    often as `watch`, with the members and whether a stop has begun, for whoever has to know that this loop still turns.
    All must answer without waiting.
    """

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        *,
        limits: Limits | None = None,
        watch: Callable[[Sequence[Member]], None] | None = None,
        renew: Callable[[bool], Iterable[ChildSpec] | None] | None = None,
        heed: Callable[[Command], None] | None = None,
        about: Callable[[], tuple[Account, Status]] | None = None,
        turned: Callable[[Sequence[Member], bool], None] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._members = {spec.name: Member(spec=spec, limits=self._limits) for spec in specs}
        self._children: dict[str, Child] = {}
        self._watch = watch
        self._renew = renew
        self._heed = heed
        self._about = about
        self._turned = turned
        self._itself: Account | None = None
        self._briefings: dict[str, Briefing] = {}  # one for each overseer that lives
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._stopping: Stopping | None = None
        self._stopped_by = signal.SIGTERM

    def run(self) -> signal.Signals:
        """Keep the members alive until SIGTERM or SIGINT, then stop them in order; returns when none is left.

        Tells which of the two began the stop.
        """
        woken, wakes = socket.socketpair()
        with woken, wakes, self._selector:
            woken.settimeout(0)
            wakes.settimeout(0)
            self._selector.register(woken, selectors.EVENT_READ, None)
            before = {number: signal.signal(number, self._note) for number in _SIGNALS}
            signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
            try:
                self._loop(woken)
            finally:
                self._end_all()
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)
        return self._stopped_by

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    def _loop(self, woken: socket.socket) -> None:
        shown, turned = float("-inf"), time.monotonic()
        while True:
            now = time.monotonic()
            members = list(self._members.values())
            self._excuse(members, now - turned, now)
            turned = now
            all_done = self._act(decide(members, now, self._stopping, self._limits), now)
            if over(members, now, self._stopping, self._limits):
                self._show(members)  # their last words
                return
            if now - shown >= SHOWN_EVERY_S:
                shown = now
                self._show(members)
                self._ask_for_change(asked=False)
                self._report_itself()
            self._brief(now)
            self._take_in(woken, TICK_S if all_done else 0.0)
            self._heed_signals()
            self._succeed()

    def _act(self, actions: Sequence[Action], now: float) -> bool:
        """Carry out what a tick has time for; False where some is left, which is then decided anew."""
        for action in actions:
            if time.monotonic() - now > TICK_S:  # a hundred forks take seconds, and meanwhile nobody is heard
                return False
            self._carry_out(action, now)
        return True

    def _excuse(self, members: Sequence[Member], gap_s: float, now: float) -> None:
        """Stopped by Ctrl-Z or with its machine, the supervisor heard no one, and must take no one for dead."""
        if gap_s > self._limits.stood_still_s:
            log.warning("the supervisor itself stood still for %.0f s", gap_s)
            for member in members:
                member.excused(now)

    def _show(self, members: Sequence[Member]) -> None:
        if self._turned is not None:
            self._turned(members, self._stopping is not None)
        if self._watch is None:
            return
        try:
            self._watch(members)
        except Exception:  # whoever shows the fleet must not end it
            log.exception("the members can no longer be shown")
            self._watch = None

    def _report_itself(self) -> None:
        if self._about is None or not self._briefings:
            return
        self._itself, status = self._about()
        for briefing in self._briefings.values():
            briefing.report(self._itself.name, status.encode())

    def _brief(self, now: float) -> None:
        """Tell the overseers what they do not know yet."""
        if not self._briefings:
            return
        keys = {name: member.account_key for name, member in self._members.items()}
        itself = self._itself
        if itself is not None:
            keys[itself.name] = (itself,)

        def account(name: str) -> Account:
            return itself if itself is not None and name == itself.name else self._members[name].account(now)

        for name, briefing in self._briefings.items():
            briefing.tell(self._children[name].tell, keys, account)

    def _take_in(self, woken: socket.socket, within_s: float) -> None:
        """Wait for news that may call for action, `within_s` at most. A status alone calls for none."""
        # A process whose grandchild lives on never closes its sentinel; one that is on its way out is asked for anyway.
        ended = {name for name in self._children if self._members[name].phase is not Phase.RUNNING}
        deadline = time.monotonic() + within_s
        news = False
        while not news:
            left_s = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, left_s)):
                match key.data:
                    case None:
                        with contextlib.suppress(BlockingIOError):
                            woken.recv(1024)
                        news = True
                    case name, "ended":
                        ended.add(name)
                        news = True
                    case name, _:
                        was_ready = self._members[name].ready
                        self._hear(name)
                        news = news or self._members[name].ready != was_ready
            news = news or left_s <= 0
        for name in ended:
            self._reap(name)

    def _heed_signals(self) -> None:
        while self._signals:
            number = signal.Signals(self._signals.pop(0))
            if number is signal.SIGHUP:
                self._ask_for_change(asked=True)
            elif self._stopping is None:
                log.info("stopping (%s); once more to hurry", number.name)
                self._stopped_by = number
                self._stopping = Stopping(time.monotonic())
            else:
                self._stopping = Stopping(self._stopping.since, hurry=True)

    def _ask_for_change(self, *, asked: bool) -> None:
        if self._renew is None or self._stopping is not None:
            return
        try:
            specs = self._renew(asked)
        except Exception:  # whoever reads a changed configuration must not end what runs
            log.exception("the change is not taken up, what ran runs on")
            return
        if specs is not None:
            self._change({spec.name: spec for spec in specs})

    def _change(self, wanted: dict[str, ChildSpec]) -> None:
        """Touch only those whose settings differ: tuned where that will do, else ended and started anew."""
        for name, member in self._members.items():
            spec = wanted.pop(name, None)
            target = member.successor if member.leaving else member.spec
            if spec == target:
                if spec is not None and not member.leaving:
                    member.spec = spec  # its facts may be others
                continue
            if spec is None or member.leaving or not self._tune(member, spec):
                log.info("%s %s", name, "ends: it is no longer wanted" if spec is None else "starts anew")
                member.leave(spec)
        for name, spec in wanted.items():
            log.info("%s is new", name)
            self._members[name] = Member(spec=spec, limits=self._limits)

    def _tune(self, member: Member, spec: ChildSpec) -> bool:
        """Make a member one of other settings without ending it; False where that cannot be."""
        command = member.spec.retune(member.spec.settings, spec.settings)
        child = self._children.get(member.spec.name)
        if command is None or (child is not None and not child.ask(command)):
            return False
        log.info("%s is tuned", member.spec.name)
        member.spec = spec  # also what it is started with, should it have to be
        return True

    def _succeed(self) -> None:
        """Those who have left make room."""
        gone = [member for member in self._members.values() if member.leaving and not member.alive]
        for member in gone:
            if member.successor is None:
                del self._members[member.spec.name]
            else:  # in the same place: whoever shows the members shows them in this order
                successor = Member(spec=member.successor, limits=self._limits)
                successor.succeed(member, "asked" if member.successor is member.spec else "changed")
                self._members[member.spec.name] = successor

    def _carry_out(self, action: Action, now: float) -> None:
        member = self._members[action.name]
        match action:
            case Start():
                self._start(member, now)
            case Drain():
                # A child that does not read its pipe still has its SIGTERM coming.
                self._children[action.name].ask(Command(verb="drain"))
                member.enter(Phase.DRAINING, now)
            case Terminate():
                self._children[action.name].terminate()
                member.enter(Phase.TERMINATING, now)
            case Kill(reason=reason):
                log.warning("%s is killed: %s", action.name, reason)
                member.killed_for = reason
                self._children[action.name].kill()
                member.enter(Phase.KILLED, now)

    def _start(self, member: Member, now: float) -> None:
        name = member.spec.name
        try:
            child = Child(member.spec)
        except OSError as error:  # out of processes, threads, memory or descriptors
            member.put_off(error, now)
            return
        self._children[name] = child
        if member.spec.overseer:
            self._briefings[name] = Briefing()
        self._selector.register(child.sentinel, selectors.EVENT_READ, (name, "ended"))
        self._selector.register(child.pipe, selectors.EVENT_READ, (name, "status"))
        member.started(child.pid, now)

    def _hear(self, name: str) -> None:
        child = self._children[name]
        try:
            news = child.receive()
        except EOFError:
            with contextlib.suppress(KeyError):  # heard before
                self._selector.unregister(child.pipe)
            return
        if news.status is not None:
            self._members[name].reported(news.status, time.monotonic())
            for briefing in self._briefings.values():
                briefing.report(name, news.record)
        asker = self._briefings.get(name)
        if asker is not None:  # who oversees nobody has nothing to ask for
            for ask in news.asks:
                asker.reply(ask, self._answer(ask))

    def _answer(self, ask: Command) -> str | None:
        """Do what an overseer asks; None where it is done, else the sentence that says why not."""
        try:
            self._obey(ask)
        except HubError as error:
            return str(error)
        except Exception:  # whoever asks for the impossible must not end what runs
            log.exception("%s could not be done", ask.verb)
            return "the hub failed at this; its log says why"
        return None

    def _obey(self, ask: Command) -> None:
        if self._stopping is not None:
            raise UnavailableError("the hub is stopping")
        match ask:
            case Command(verb="pass", arguments={"target": target, "verb": verb, "arguments": arguments}):
                child = self._children.get(target)
                if child is None or not child.ask(Command(verb=verb, arguments=arguments)):
                    raise UnavailableError(f"{target} does not run at this moment")
            case Command(verb="restart", arguments={"target": target}):
                member = self._members.get(target)
                if member is None:
                    raise UnavailableError(f"there is no {target}")
                if not member.leaving:
                    log.info("%s starts anew: asked for", target)
                    member.leave(member.spec)
            case _ if self._heed is not None:
                self._heed(ask)
                self._ask_for_change(asked=False)
            case _:
                raise UnavailableError(f"this hub cannot {ask.verb}")

    def _reap(self, name: str) -> None:
        child = self._children[name]
        if (code := child.exit_code) is None:
            return
        self._hear(name)  # its last words
        self._selector.unregister(child.sentinel)
        with contextlib.suppress(KeyError):  # it hung up before it ended
            self._selector.unregister(child.pipe)
        child.close()
        del self._children[name]
        self._briefings.pop(name, None)
        self._members[name].exited(code, time.monotonic(), wanted=self._stopping is None)

    def _end_all(self) -> None:
        """Whatever ended the loop, no child outlives it, and none that the kernel cannot end keeps it."""
        for child in self._children.values():
            child.kill()
        deadline = time.monotonic() + self._limits.reap_s
        for child in self._children.values():
            if child.ended_within(deadline - time.monotonic()):
                child.close()
            else:
                log.error("%s (pid %d) does not end even when killed; it is left behind", child.spec.name, child.pid)
                child.abandon()
        self._children.clear()

"""What an operator should see of each child now: pure, from the supervisor's members to rows of texts and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.cli.terminal import ago, counted, harmless
from nvision_hub.status import CameraState
from nvision_hub.supervisor import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.status import Status
    from nvision_hub.supervisor import Member

CAMERA: Final = "camera:"
RESULT_IS_OLD_S: Final = 10.0
REPORT_IS_OLD_S: Final = 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One camera. Numbers are None while its process has reported none."""

    camera: str
    state: str
    rate_in: float | None = None  # pictures a second that the camera sends
    rate_out: float | None = None  # pictures a second sent to the service
    dropped: int | None = None
    sent: int | None = None
    age_s: float | None = None  # of the last picture
    seen: str = ""  # the last result, in names
    trouble: str | None = None  # a sentence, where something is wrong

    @property
    def well(self) -> bool:
        """Whether nobody has to look at it."""
        return self.state == CameraState.STREAMING and self.trouble is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """Another child, where something is to be said of it."""

    name: str
    state: str
    trouble: str | None


def rows(members: Sequence[Member], *, now: float, wall: float) -> list[Row]:
    """The cameras in the order of the configuration. `now` is monotonic, `wall` seconds since the epoch."""
    return [_row(member, now, wall) for member in members if member.spec.name.startswith(CAMERA)]


def peers(members: Sequence[Member], *, now: float) -> list[Peer]:
    """The other children that are not well."""
    others = (member for member in members if not member.spec.name.startswith(CAMERA))
    return [
        Peer(name=member.spec.name, state=_state(member), trouble=_trouble(member, now))
        for member in others
        if not member.ready and member.phase in {Phase.WAITING, Phase.RUNNING}
    ]


def _fresh(member: Member) -> Status | None:
    """The last status, unless it is that of a process that has ended and is to have a successor."""
    return member.status if member.fresh or member.phase is Phase.ENDED else None


def _state(member: Member) -> str:
    status = _fresh(member)
    if member.crash_loop:
        return CameraState.CRASH_LOOP
    if member.phase is Phase.ENDED:
        return CameraState.STOPPED
    return CameraState.STARTING if status is None else harmless(status.state)


def _trouble(member: Member, now: float) -> str | None:
    sentences = []
    if member.phase is Phase.WAITING and member.tried is not None:
        what = "its process could not be started"
        if member.restarts:
            what = "its process keeps ending" if member.crash_loop else "its process has ended"
        sentences.append(f"{what}; tried again in {ago(member.due - now)} (the log says why)")
    status = _fresh(member)
    if status is not None and status.error is not None:
        sentences.append(harmless(status.error))
    return "; ".join(sentences) or None


def _row(member: Member, now: float, wall: float) -> Row:
    status = _fresh(member)
    values = {} if status is None else status.row
    last_frame, last_result = values.get("last_frame_at"), values.get("last_result_at")
    seen = ""
    if last_result is not None:
        seen = counted(values.get("seen", ())) or "nothing"
        if wall - last_result > RESULT_IS_OLD_S:
            seen += f" ({ago(wall - last_result)} ago)"
    age_s = None if last_frame is None else wall - last_frame
    if age_s is not None and status is not None and now - status.at < REPORT_IS_OLD_S:
        age_s -= now - status.at  # as it was when it was told: between reports nothing is known to have stopped
    return Row(
        camera=member.spec.name.removeprefix(CAMERA),
        state=_state(member),
        rate_in=values.get("rate_in"),
        rate_out=values.get("rate_out"),
        dropped=_whole(values.get("dropped")),
        sent=_whole(values.get("sent")),
        age_s=None if age_s is None else max(0.0, age_s),
        seen=seen,
        trouble=_trouble(member, now),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)

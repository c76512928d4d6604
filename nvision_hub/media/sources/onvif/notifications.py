"""Motion events of an ONVIF camera, parsed from the messages of a PullPoint subscription. Performs no I/O.

A camera reports motion under one of several topics, separately for each rule and video source. Most topics are
properties: the camera reports when motion begins and when it ends. Other topics are single events without an end.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from nvision_hub.media.sources.onvif import soap
from nvision_hub.media.sources.onvif.client import EVENTS, path_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nvision_hub.media.sources.onvif.profiles import MediaProfile

_MAX_MESSAGES: Final = 100  # number requested per response; a response with more messages is also valid
_MAX_RULES: Final = 64  # maximum number of rules that report motion at the same time
_MAX_REFERENCE_BYTES: Final = 4096
_MAX_KEY_CHARACTERS: Final = 500

_NOTIFICATION: Final = "http://docs.oasis-open.org/wsn/b-2"
_ADDRESSING: Final = "http://www.w3.org/2005/08/addressing"
# Last parts of the motion topics in all ONVIF versions and of several manufacturers.
_TOPICS: Final = frozenset({"Motion", "MotionAlarm"})
_VALUES: Final = frozenset({"IsMotion", "State"})
_SOURCES: Final = frozenset({"VideoSourceConfigurationToken", "VideoSource", "VideoSourceToken", "Source"})
_TRUE: Final = frozenset({"true", "1"})

SUBSCRIPTION_S: Final = 60.0  # requested lifetime; the camera may grant less
_MIN_SUBSCRIPTION_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PullPoint:
    """A subscription. `header` is XML that identifies the subscription in each request. `granted_s` is its lifetime."""

    path: str
    header: str
    granted_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionEvent:
    """One report of the rule `key`. `is_moving` is None if the rule no longer exists.

    `is_lasting` says whether the camera will also report the end of the motion. `sources` are tokens of video sources.
    """

    key: str
    is_moving: bool | None
    is_lasting: bool
    sources: frozenset[str]


def subscribe_body() -> str:
    return (
        f'<CreatePullPointSubscription xmlns="{EVENTS}"><InitialTerminationTime>PT{SUBSCRIPTION_S:.0f}S'
        "</InitialTerminationTime></CreatePullPointSubscription>"
    )


def pull_body(wait_s: float) -> str:
    return (
        f'<PullMessages xmlns="{EVENTS}"><Timeout>PT{wait_s:.2f}S</Timeout><MessageLimit>{_MAX_MESSAGES}</MessageLimit>'
        "</PullMessages>"
    )


def renew_body() -> str:
    return f'<Renew xmlns="{_NOTIFICATION}"><TerminationTime>PT{SUBSCRIPTION_S:.0f}S</TerminationTime></Renew>'


def unsubscribe_body() -> str:
    return f'<Unsubscribe xmlns="{_NOTIFICATION}"/>'


def action(operation: str) -> str:
    """Return the action URI of an operation, which many devices require in the request (WS-Addressing)."""
    if operation in {"Renew", "Unsubscribe"}:
        return f"http://docs.oasis-open.org/wsn/bw-2/SubscriptionManager/{operation}Request"
    port = "PullPointSubscription" if operation == "PullMessages" else "EventPortType"
    return f"{EVENTS}/{port}/{operation}Request"


def action_header(operation: str) -> str:
    return f'<a:Action xmlns:a="{_ADDRESSING}" s:mustUnderstand="1">{action(operation)}</a:Action>'


def parse_subscription(response: ET.Element) -> PullPoint:
    """Parse the subscription in a response to CreatePullPointSubscription. Raises `SoapSyntaxError`."""
    reference = soap.child(response, "SubscriptionReference")
    path = path_of(soap.text(reference, "Address"))
    if path is None:
        raise soap.SoapSyntaxError("has no address of the subscription")
    # Some devices identify the subscription by parameters instead of its address.
    parameters = soap.child(reference, "ReferenceParameters")
    header = "" if parameters is None else "".join(ET.tostring(each, encoding="unicode") for each in parameters)
    if len(header) > _MAX_REFERENCE_BYTES:
        raise soap.SoapSyntaxError("has a reference that is too long")
    return PullPoint(path=path, header=header, granted_s=granted_s(response))


def granted_s(response: ET.Element) -> float:
    """Return the lifetime of a subscription in seconds, within the limits of the hub."""
    try:
        now, end = (
            dt.datetime.fromisoformat(soap.text(response, name)).replace(tzinfo=dt.UTC)
            for name in ("CurrentTime", "TerminationTime")
        )
    except ValueError:
        return SUBSCRIPTION_S
    return min(max((end - now).total_seconds(), _MIN_SUBSCRIPTION_S), SUBSCRIPTION_S)


def parse_events(response: ET.Element) -> Iterator[MotionEvent]:
    """Yield the motion events in a response to PullMessages."""
    for notification in soap.children(response, "NotificationMessage"):
        topic = soap.text(notification, "Topic")
        message = soap.child(notification, "Message", "Message")
        if topic.rpartition("/")[2].rpartition(":")[2] not in _TOPICS or message is None:
            continue
        source = [(each.get("Name", ""), each.get("Value", "")) for each in _items(message, "Source")]
        value = next((each.get("Value", "") for each in _items(message, "Data") if each.get("Name") in _VALUES), None)
        operation = message.get("PropertyOperation", "")
        if value is None and operation != "Deleted":
            continue
        yield MotionEvent(
            key=f"{topic} {source}"[:_MAX_KEY_CHARACTERS],
            is_moving=None if operation == "Deleted" else (value or "").lower() in _TRUE,
            is_lasting=bool(operation),
            sources=frozenset(token for name, token in source if name in _SOURCES),
        )


class MotionRules:
    """Rules of a camera that report motion at present.

    The object ignores a rule that watches another profile's video source, unless the profile `own` also uses that
    source.
    """

    def __init__(self, own: MediaProfile, profiles: Collection[MediaProfile]) -> None:
        self._own = {own.video_source, own.video_source_configuration}
        self._others = {
            token for each in profiles for token in (each.video_source, each.video_source_configuration)
        } - self._own
        self._moving: set[str] = set()

    @property
    def is_moving(self) -> bool:
        return bool(self._moving)

    def push(self, event: MotionEvent) -> bool:
        """Apply an event. Return whether it reports motion."""
        if event.sources & self._others and not event.sources & self._own:
            return False
        if not event.is_moving:
            self._moving.discard(event.key)
            return False
        if event.is_lasting and len(self._moving) < _MAX_RULES:
            self._moving.add(event.key)
        return True


def _items(message: ET.Element, name: str) -> Iterator[ET.Element]:
    return soap.children(soap.child(message, name), "SimpleItem")

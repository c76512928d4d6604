"""Motion events of one ONVIF camera. A thread maintains a PullPoint subscription (ONVIF Core, 9.2).

While there is no subscription, the hub assumes motion, because unnecessary frames are better than missed motion.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_trust import CameraTrust
from nvision_hub.media.sources.onvif import notifications, soap
from nvision_hub.media.sources.onvif.client import EVENTS, OnvifClient, OnvifRefusalError
from nvision_hub.media.sources.onvif.profiles import choose_profile
from nvision_hub.media.sources.onvif.stream_choice import MediaService
from nvision_hub.media.sources.source import SourceError
from nvision_hub.metrics import catalogue
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.onvif.notifications import PullPoint
    from nvision_hub.metrics.meter import Meter

log = logging.getLogger("nvision_hub.camera")

_REQUEST_TIMEOUT_S: Final = 10.0
_MAX_PULL_S: Final = 10.0  # maximum time that the camera may hold a request while there is no event
_MIN_PULL_INTERVAL_S: Final = 0.05  # for a camera that responds immediately even without an event
_UNSUBSCRIBE_TIMEOUT_S: Final = 1.0
_WRONG_PASSWORD_INTERVAL_S: Final = 600.0  # long, because more attempts could make the camera lock out the hub


class MotionEvents:
    """Motion that a camera reports. Any thread may read `error` and call `moved_at` and `close`."""

    def __init__(self, camera: Camera, trust: CameraTrust, meter: Meter) -> None:
        self.error: str | None = None  # message that says why subscribing failed; None otherwise
        self._camera, self._meter = camera, meter
        self._trust = CameraTrust(certificates=trust.certificates, offered_digest=trust.onvif_offered_digest)
        self._moved: float | None = None  # monotonic time of the last motion; None while motion lasts
        self._stopped = threading.Event()
        self._client: OnvifClient | None = None
        self._backoff = Backoff(first_s=0.5, cap_s=30.0)
        threading.Thread(target=self._run, name="motion events", daemon=True).start()

    def moved_at(self, now: float) -> float:
        """Return the monotonic time of the last motion, or `now` while motion lasts."""
        moved = self._moved
        return now if moved is None else moved

    def close(self) -> None:
        """End the subscription without waiting, because the camera may not respond."""
        self._stopped.set()
        if (client := self._client) is not None:
            client.abort()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except SourceError as error:
                self._fail(error.state, str(error))
            except Exception as error:  # noqa: BLE001 - a camera may cause any error
                sentence = f"the hub cannot handle the events of {self._camera.address.shown} ({type(error).__name__})"
                self._fail(CameraState.UNSUPPORTED, sentence)

    def _fail(self, state: CameraState, sentence: str) -> None:
        if self._stopped.is_set():
            return
        self._moved = None
        self._backoff.failed()
        delay_s = _WRONG_PASSWORD_INTERVAL_S if state is CameraState.AUTH_FAILED else self._backoff.next_s()
        self._meter.count(catalogue.MOTION_SUBSCRIPTIONS_LOST_TOTAL, reason=str(state))
        shown = f"no motion events: {sentence}; sending every due frame"
        if shown != self.error:
            log.warning("%s; retrying in %.0f s", shown, delay_s, extra={"event": "motion_events_lost"})
        self.error = shown
        self._stopped.wait(delay_s)

    def _follow(self) -> None:
        """Subscribe, and apply events until the thread is stopped. Raises `SourceError`."""
        with OnvifClient(self._camera, self._trust, timeout_s=_REQUEST_TIMEOUT_S) as client:
            self._client = client
            service = MediaService(client)
            profile = choose_profile(service.profiles, max_width=self._camera.max_width, fps=self._camera.highest_fps)
            path = service.services.get(EVENTS)
            if path is None or profile is None:
                raise SourceError(
                    CameraState.UNSUPPORTED,
                    f"{client.address.shown} offers no ONVIF events; set `motion.source: video` of this camera",
                )
            rules = notifications.MotionRules(profile, service.profiles)
            self._pull(client, path, _subscribe(client, path), rules)

    def _pull(self, client: OnvifClient, path: str, subscription: PullPoint, rules: notifications.MotionRules) -> None:
        log.info("subscribed to the camera's motion events", extra={"event": "motion_events"})
        self.error = None
        self._moved = began = time.monotonic()
        renew_at = began + subscription.granted_s / 2
        while not self._stopped.is_set():
            began = time.monotonic()
            if began >= renew_at:
                subscription = _renewed(client, path, subscription)
                renew_at = began + subscription.granted_s / 2
            wait_s = min(_MAX_PULL_S, subscription.granted_s / 3)
            client.restart_deadline(wait_s + _REQUEST_TIMEOUT_S)
            try:
                response = _call(client, subscription, "PullMessages", notifications.pull_body(wait_s))
            except SourceError:
                if self._stopped.is_set():
                    _unsubscribe(self._camera, self._trust, subscription)
                raise
            self._backoff.healthy(time.monotonic())
            for event in notifications.parse_events(response):
                self._meter.count(catalogue.MOTION_EVENTS_TOTAL)
                if rules.push(event) and not rules.is_moving:
                    self._moved = time.monotonic()
            self._apply(rules)
            self._stopped.wait(_MIN_PULL_INTERVAL_S - (time.monotonic() - began))
        _unsubscribe(self._camera, self._trust, subscription)

    def _apply(self, rules: notifications.MotionRules) -> None:
        if rules.is_moving:
            self._moved = None
        elif self._moved is None:
            self._moved = time.monotonic()


def _subscribe(client: OnvifClient, path: str) -> PullPoint:
    operation = "CreatePullPointSubscription"
    response = client.call(
        path,
        notifications.subscribe_body(),
        notifications.action(operation),
        header=notifications.action_header(operation),
    )
    try:
        return notifications.parse_subscription(response)
    except soap.SoapSyntaxError as error:
        raise errors.no_onvif(client.address) from error


def _renewed(client: OnvifClient, path: str, subscription: PullPoint) -> PullPoint:
    """Return the renewed subscription, or a new one if the camera cannot renew it. Raises `SourceError`."""
    client.restart_deadline(_REQUEST_TIMEOUT_S)
    try:
        _call(client, subscription, "Renew", notifications.renew_body())
    except OnvifRefusalError:
        with contextlib.suppress(OnvifRefusalError):
            _call(client, subscription, "Unsubscribe", notifications.unsubscribe_body())
        return _subscribe(client, path)
    return subscription


def _unsubscribe(camera: Camera, trust: CameraTrust, subscription: PullPoint) -> None:
    """End a subscription on a new connection, because `close` has ended the old one."""
    with contextlib.suppress(SourceError), OnvifClient(camera, trust, timeout_s=_UNSUBSCRIBE_TIMEOUT_S) as client:
        _call(client, subscription, "Unsubscribe", notifications.unsubscribe_body())


def _call(client: OnvifClient, subscription: PullPoint, operation: str, body: str) -> Element:
    header = f"{notifications.action_header(operation)}{subscription.header}"
    return client.call(subscription.path, body, notifications.action(operation), header=header)

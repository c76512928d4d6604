"""Responses of ONVIF devices to a camera's worker: SOAP, media profiles, motion events, addresses of services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from nvision_hub.media.sources.onvif import soap
from nvision_hub.media.sources.onvif.client import path_of
from nvision_hub.media.sources.onvif.notifications import (
    SUBSCRIPTION_S,
    MotionRules,
    parse_events,
    parse_subscription,
)
from nvision_hub.media.sources.onvif.profiles import MAX_PROFILES, MediaProfile, choose_profile, parse_profiles
from tests.fuzz.test_onvif_answers import VALUES, XML_TOKENS
from tests.support.onvif_device import Profile, envelope, fault, motion_message, profiles_response

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from tests.fuzz.harness import Fuzz

PROFILES: Final = (
    Profile(uri="rtsp://10.0.0.5/main", token="main", name="Main", width=1920, height=1080),
    Profile(uri="rtsp://10.0.0.5/sub", token="sub", name="Sub", width=640, height=360, encoding="H265"),
)
SAMPLES: Final = (
    *(envelope(profiles_response(PROFILES, version=version)) for version in (1, 2)),
    fault("NotAuthorized", "Sender not authorized"),
    b'<?xml version="1.0" encoding="utf-7"?>' + envelope("<a/>").partition(b"?>")[2],
)
BUILT: Final = st.builds(
    lambda sample, old, new: sample.replace(old, new.encode()),
    st.sampled_from(SAMPLES),
    st.sampled_from([b"1920", b"25", b"50", b"H264", b"H265", b"main", b"Main", b"tt:Width", b"ter:", b"UTF-8"]),
    VALUES,
)


EVENTS: Final = (
    envelope(
        "<tev:CreatePullPointSubscriptionResponse><tev:SubscriptionReference><wsa5:Address>http://10.0.0.5/s?id=1"
        "</wsa5:Address><wsa5:ReferenceParameters><tt:Id a='1'>7</tt:Id></wsa5:ReferenceParameters>"
        "</tev:SubscriptionReference><wsnt:CurrentTime>2026-11-22T14:00:00Z</wsnt:CurrentTime>"
        "<wsnt:TerminationTime>2026-11-22T14:01:00Z</wsnt:TerminationTime></tev:CreatePullPointSubscriptionResponse>"
    ),
    envelope(
        "<tev:PullMessagesResponse>"
        + motion_message("Initialized", is_moving=False)
        + motion_message("Changed", is_moving=True)
        + motion_message("Deleted", is_moving=True)
        + "</tev:PullMessagesResponse>"
    ),
)
BUILT_EVENTS: Final = st.builds(
    lambda sample, old, new: sample.replace(old, new.encode()),
    st.sampled_from(EVENTS),
    st.sampled_from(
        [b"2026-11-22T14:01:00Z", b"http://10.0.0.5/s?id=1", b"true", b"IsMotion", b"Changed", b"tt:Id", b"7"]
    ),
    VALUES,
)


def check_response(data: bytes) -> None:
    try:
        response = soap.parse(data)
    except soap.SoapSyntaxError:
        return
    except soap.SoapFaultError as error:
        if not str(error).isprintable():
            raise
        return
    profiles = parse_profiles(response)
    assert len(profiles) <= MAX_PROFILES
    for profile in profiles:
        assert profile.shown.isprintable()
        assert all(value is None or value > 0 for value in (profile.width, profile.fps, profile.keyframe_interval_s))
    assert (choose_profile(profiles, max_width=640, fps=5.0) is None) == (not profiles)


def check_events(data: bytes) -> None:
    try:
        response = soap.parse(data)
        subscription = parse_subscription(response)
    except soap.SoapSyntaxError:
        subscription = None
    except soap.SoapFaultError:
        return
    if subscription is not None:
        assert subscription.path.startswith("/")
        assert 1 <= subscription.granted_s <= SUBSCRIPTION_S
        soap.parse(soap.request("<a/>", header=subscription.header))
    elif b"NotificationMessage" in data and (root := valid(data)) is not None:
        rules = MotionRules(MediaProfile(token="a", name="a"), ())
        for event in parse_events(root):
            rules.push(event)
        assert len(list(parse_events(root))) <= data.count(b"NotificationMessage")


def valid(data: bytes) -> Element | None:
    try:
        return soap.parse(data)
    except soap.SoapSyntaxError:
        return None


def check_address(data: bytes) -> None:
    path = path_of(data.decode("utf-8", "replace"))
    assert path is None or (path.startswith("/") and path.isascii() and path.isprintable() and " " not in path)


def test_responses(fuzz: Fuzz) -> None:
    fuzz(check_response, samples=SAMPLES, built=BUILT, tokens=XML_TOKENS)


def test_events(fuzz: Fuzz) -> None:
    fuzz(check_events, samples=EVENTS, built=BUILT_EVENTS, tokens=(*XML_TOKENS, b"PT60S", b"+99:99"))


def test_addresses_of_services(fuzz: Fuzz) -> None:
    samples = (b"http://10.0.0.5/onvif/media", b"http://[fe80::1%25eth0]:80/onvif/events?Idx=1#x")
    fuzz(check_address, samples=samples, built=VALUES.map(str.encode), tokens=(b"%0a", b"\xe2\x80\xa8", b"//", b"@"))

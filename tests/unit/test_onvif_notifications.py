"""Motion events of ONVIF cameras: which rules count, and how long motion lasts."""

from __future__ import annotations

import pytest

from nvision_hub.media.sources.onvif import soap
from nvision_hub.media.sources.onvif.notifications import (
    SUBSCRIPTION_S,
    MotionRules,
    parse_events,
    parse_subscription,
)
from nvision_hub.media.sources.onvif.profiles import MediaProfile
from tests.support.onvif_device import envelope, motion_message

OWN = MediaProfile(token="a", name="A", video_source="1", video_source_configuration="source_configuration")
OTHER = MediaProfile(token="b", name="B", video_source="2", video_source_configuration="other_configuration")


def pushed(rules: MotionRules, *messages: str) -> list[bool]:
    response = envelope(f"<tev:PullMessagesResponse>{''.join(messages)}</tev:PullMessagesResponse>")
    return [rules.push(event) for event in parse_events(soap.parse(response))]


def test_motion_lasts_until_every_rule_has_ended() -> None:
    rules = MotionRules(OWN, [OWN, OTHER])
    region = "tns1:RuleEngine/tnsacme:MotionRegionDetector/tnsacme:Motion"
    begin, begin_too = (motion_message("Changed", is_moving=True, topic=topic) for topic in ("a/Motion", region))
    assert pushed(rules, begin, begin_too) == [True, True]
    pushed(rules, motion_message("Changed", is_moving=False, topic="a/Motion"))
    assert rules.is_moving
    pushed(rules, motion_message("Deleted", is_moving=True, topic=region))
    assert not rules.is_moving


def test_a_response_may_contain_more_messages_than_requested() -> None:
    rules = MotionRules(OWN, [OWN])
    begins = [motion_message("Changed", is_moving=True)] * 150
    pushed(rules, *begins, motion_message("Changed", is_moving=False))
    assert not rules.is_moving


def test_an_event_without_an_end_does_not_last() -> None:
    rules = MotionRules(OWN, [OWN])
    single = motion_message("Changed", is_moving=True).replace(' PropertyOperation="Changed"', "")
    assert pushed(rules, single) == [True]
    assert not rules.is_moving


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("source_configuration", "other_configuration", False),
        ("source_configuration", "unknown", True),  # some cameras report a token that no profile has
        ('Name="IsMotion" Value="true"', 'Name="State" Value="1"', True),
        ('Name="IsMotion"', 'Name="Count"', False),
        ("CellMotionDetector/Motion", "FieldDetector/ObjectsInside", False),
        ("RuleEngine/CellMotionDetector/Motion", "VideoSource/MotionAlarm", True),
    ],
)
def test_only_motion_of_the_cameras_own_video_counts(old: str, new: str, counts: bool) -> None:  # noqa: FBT001
    rules = MotionRules(OWN, [OWN, OTHER])
    pushed(rules, motion_message("Changed", is_moving=True).replace(old, new))
    assert rules.is_moving is counts


@pytest.mark.parametrize(
    ("end", "granted_s"),
    [
        ("2026-11-22T14:00:20Z", 20),
        ("2026-11-22T13:00:00Z", 1),
        ("2036-11-22T14:00:00Z", SUBSCRIPTION_S),
        ("x", SUBSCRIPTION_S),
    ],
)
def test_a_subscription_has_an_identity_and_a_limited_lifetime(end: str, granted_s: float) -> None:
    response = envelope(
        "<tev:CreatePullPointSubscriptionResponse><tev:SubscriptionReference><wsa5:Address>http://10.0.0.99/events"
        '</wsa5:Address><wsa5:ReferenceParameters><d:Id xmlns:d="urn:d" n="&quot;&lt;">7</d:Id>'
        "</wsa5:ReferenceParameters></tev:SubscriptionReference><wsnt:CurrentTime>2026-11-22T14:00:00Z</wsnt:CurrentTime>"
        f"<wsnt:TerminationTime>{end}</wsnt:TerminationTime></tev:CreatePullPointSubscriptionResponse>"
    )
    found = parse_subscription(soap.parse(response))
    assert (found.path, found.granted_s) == ("/events", granted_s)
    repeated = soap.parse(soap.request(f"<a>{found.header}</a>"))
    (identity,) = soap.descendants(repeated, "Id")
    assert (identity.tag, identity.get("n"), identity.text) == ("{urn:d}Id", '"<', "7")

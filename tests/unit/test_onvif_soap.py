"""SOAP responses of ONVIF devices: limits on what a response may cost."""

from __future__ import annotations

import pytest

from nvision_hub.media.sources.onvif import soap
from tests.support.onvif_device import envelope

LONG = "n" * 600


@pytest.mark.parametrize(
    "body",
    [
        f'<a xmlns="{LONG}">{"<b/>" * 1000}</a>',
        f'<a xmlns:n="{LONG}"><b n:c=""/></a>',
        f"<{LONG}/>",
    ],
)
def test_a_name_that_is_too_long_is_refused(body: str) -> None:
    """Each element holds its name with the namespace, so a small response could fill the memory."""
    with pytest.raises(soap.SoapSyntaxError, match="name that is too long"):
        soap.parse(envelope(body))


def test_a_long_value_is_accepted() -> None:
    assert soap.parse(envelope(f'<a b="{LONG}">{LONG}</a>')).get("b") == LONG

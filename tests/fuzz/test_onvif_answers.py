"""Answers of devices on the network to `nvision-hub discover`: to the search, and to the queries that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

import pytest
from hypothesis import strategies as st

from nvision_hub.cli import onvif_discovery
from nvision_hub.cli.commands.discover import _entry
from nvision_hub.cli.onvif_discovery import MAX_DEVICES, OnvifDevice, announced
from nvision_hub.config.value_types import Secret
from nvision_hub.control_characters import replace_control_characters
from nvision_hub.media.sources.http_client import HttpCameraClient
from nvision_hub.media.sources.onvif.ws_discovery import parse_matches

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

ENVELOPE: Final = '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>{}</s:Body></s:Envelope>'


def match(xaddrs: str, scopes: str) -> bytes:
    inside = f"<d:XAddrs>{escape(xaddrs)}</d:XAddrs><d:Scopes>{escape(scopes)}</d:Scopes>"
    return ENVELOPE.format(f'<d:ProbeMatch xmlns:d="d">{inside}</d:ProbeMatch>').encode()


ANSWERS: Final = (
    match("http://10.0.0.9/onvif/device_service", "onvif://www.onvif.org/name/Gate%201"),
    match("http://[fe80::1]/x https://10.0.0.9:8443/x", "onvif://www.onvif.org/hardware/A"),
)
XML_TOKENS: Final = (
    b"&amp;",
    b"&#27;",
    b"<!DOCTYPE x [<!ENTITY a 'aa'>]>",
    b"<a>" * 1000,
    b"]]>",
    b"http://",
    b"%1b",
    b" ",
)
XADDRS: Final = st.sampled_from(
    [
        "http://10.0.0.9/",
        "http://10.0.0.9[/",
        "http://10.0.0.9:99999/",
        "http://10.0.0.9/" + "\u00e9" * 1000,
        "http://user:password@10.0.0.9/",
        "https://a@b@c/",
        "http:x://10.0.0.9/",
        "HTTP://[::1%1b]/",
        "rtsp://10.0.0.9/",
        "x",
    ]
)
SCOPES: Final = st.sampled_from(
    ["", "/name/%1b]0;x%07", "/name/" + "x" * 500, "/hardware/%ff", "/name/\u202e", "/name//"]
).map("onvif://www.onvif.org{}".format)
BUILT_ANSWERS: Final = st.builds(match, st.lists(XADDRS, max_size=3).map(" ".join), SCOPES)
PROFILE: Final = (
    '<t:Response xmlns:t="t"><t:Service><t:Namespace>http://www.onvif.org/ver10/media/wsdl</t:Namespace>'
    "<t:XAddr>http://10.0.0.9/media</t:XAddr></t:Service>"
    '<t:Profiles token="main"><t:VideoEncoderConfiguration><t:Encoding>H264</t:Encoding><t:Resolution>'
    "<t:Width>1920</t:Width><t:Height>1080</t:Height></t:Resolution></t:VideoEncoderConfiguration></t:Profiles>"
    "<t:Uri>rtsp://10.0.0.9/main</t:Uri><t:Manufacturer>A</t:Manufacturer><t:Model>B</t:Model></t:Response>"
)
RESPONSES: Final = (ENVELOPE.format(PROFILE).encode(), ENVELOPE.format("<s:Fault/>").encode())
VALUES: Final = st.sampled_from(
    ["", "-1", "9" * 5000, "1e9", "NaN", "\u0663", "rtsp://a@b@c/", "rtsp://[::1", "\u009b31m"]
)
BUILT_RESPONSES: Final = st.builds(
    lambda old, new: ENVELOPE.format(PROFILE.replace(old, new)).encode(),
    st.sampled_from(["1920", "1080", "H264", "rtsp://10.0.0.9/main", "main", ">A<", "t:Width", "token"]),
    VALUES,
)


def check_shown(device: OnvifDevice) -> None:
    for line in _entry("gate", device, "viewer", None):
        assert replace_control_characters(line) == line
        assert "\n" not in line


def check_answer(data: bytes) -> None:
    devices = announced(parse_matches(data))
    assert len(devices) <= MAX_DEVICES
    for device in devices:
        assert device.device.startswith(("http://", "https://"))
        assert (device.name + device.device).isprintable()


def check_response(data: bytes) -> None:
    def post(*arguments: str, **_: object) -> tuple[int, bytes]:
        operation = arguments[3].rpartition("/")[2].strip('"')
        return 200, data.replace(b"t:Response", f"t:{operation}Response".encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpCameraClient, "post", post)
        device = OnvifDevice(device="http://10.0.0.9/", host="10.0.0.9", name="")
        check_shown(onvif_discovery.query(device, "viewer", Secret("canary")))


def test_answers_to_the_search(fuzz: Fuzz) -> None:
    fuzz(check_answer, samples=ANSWERS, built=BUILT_ANSWERS, tokens=XML_TOKENS)


def test_answers_to_queries(fuzz: Fuzz) -> None:
    fuzz(check_response, samples=RESPONSES, built=BUILT_RESPONSES, tokens=XML_TOKENS)

"""Devices that answer a search, before the first query."""

from __future__ import annotations

from onveef.wsdiscovery import DiscoveredDevice

from nvision_hub.cli.onvif_discovery import announced
from nvision_hub.config.url import MAX_URL_CHARACTERS


def answer(*xaddrs: str, name: str = "") -> DiscoveredDevice:
    return DiscoveredDevice(address="10.0.0.1", xaddrs=list(xaddrs), name=name)


def test_the_ipv4_address_is_preferred_and_devices_are_sorted() -> None:
    devices = announced(
        [
            answer("http://[fe80::2]/x", "http://10.0.0.20/x", name="Gate%201"),
            answer("http://10.0.0.3/x"),
            answer("ftp://h/"),
        ]
    )
    assert [(device.host, device.device, device.name) for device in devices] == [
        ("10.0.0.3", "http://10.0.0.3/x", ""),
        ("10.0.0.20", "http://10.0.0.20/x", "Gate 1"),
    ]


def test_an_address_that_becomes_too_long_when_it_is_escaped_does_not_end_the_search() -> None:
    long = "http://10.0.0.9/" + "\u00e9" * (MAX_URL_CHARACTERS // 3)
    devices = announced([answer(long), answer("http://10.0.0.3/")])
    assert [device.host for device in devices] == ["10.0.0.3", "10.0.0.9"]

"""SOAP messages of ONVIF devices: requests with a login, and the parser for responses. Performs no I/O.

A device is untrusted, so `parse` limits the size, the depth, the number of elements and the length of names. It rejects
document types, which could expand a small response to a huge one. SOAP forbids them anyway (SOAP 1.2, part 1, 5).
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET
from xml.parsers import expat
from xml.sax.saxutils import escape

from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RESPONSE_BYTES: Final = 2**20  # the profiles of a recorder with 64 channels need about half as many
_MAX_ELEMENTS: Final = 50_000
_MAX_DEPTH: Final = 64
_MAX_NAME_CHARACTERS: Final = 512  # including the namespace, which each element and attribute repeats in memory
_MAX_TEXT_CHARACTERS: Final = 80

_ENVELOPE: Final = "http://www.w3.org/2003/05/soap-envelope"
_SECURITY: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_UNAUTHORIZED: Final = frozenset({"NotAuthorized", "FailedAuthentication", "InvalidSecurity", "InvalidSecurityToken"})


class SoapSyntaxError(ValueError):
    """A response is not a SOAP message or exceeds a limit."""


class SoapFaultError(Exception):
    """A device refuses a request. `str` returns the reason as one printable line, which may be empty."""

    def __init__(self, reason: str, *, is_unauthorized: bool) -> None:
        super().__init__(reason)
        self.is_unauthorized = is_unauthorized


def request(body: str, *, header: str = "") -> bytes:
    """Return a request. `body` and `header` are XML with all their namespaces."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><s:Envelope xmlns:s="{_ENVELOPE}"><s:Header>{header}</s:Header>'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode("utf-8", "surrogateescape")


def username_token(username: str, password: str, *, created: str, nonce: bytes) -> str:
    """Return the header for a login by digest (WS-Security UsernameToken Profile 1.1, 3.1).

    `created` is the device's time in ISO 8601 with a Z. A device accepts it only for a few seconds.
    """
    digest = hashlib.sha1(nonce + created.encode() + password.encode("utf-8", "surrogateescape")).digest()  # noqa: S324 - the specification's hash
    word, encoding = f"{_SECURITY}username-token-profile-1.0", f"{_SECURITY}soap-message-security-1.0"
    return (
        f'<w:Security xmlns:w="{_SECURITY}wssecurity-secext-1.0.xsd" s:mustUnderstand="1"><w:UsernameToken>'
        f"<w:Username>{escape(username)}</w:Username>"
        f'<w:Password Type="{word}#PasswordDigest">{base64.b64encode(digest).decode()}</w:Password>'
        f'<w:Nonce EncodingType="{encoding}#Base64Binary">{base64.b64encode(nonce).decode()}</w:Nonce>'
        f'<u:Created xmlns:u="{_SECURITY}wssecurity-utility-1.0.xsd">{created}</u:Created>'
        "</w:UsernameToken></w:Security>"
    )


def parse(data: bytes) -> ET.Element:
    """Return the content of a response's body. Raises `SoapSyntaxError` or `SoapFaultError`."""
    root = _parse_xml(data)
    body = child(root, "Body")
    if local_name(root) != "Envelope" or body is None:
        raise SoapSyntaxError("is not a SOAP message")
    if (fault := child(body, "Fault")) is not None:
        codes = {text(code).rpartition(":")[2] for name in ("Value", "faultcode") for code in descendants(fault, name)}
        reason = text(fault, "Reason", "Text") or text(fault, "faultstring")
        raise SoapFaultError(line(reason), is_unauthorized=not codes.isdisjoint(_UNAUTHORIZED))
    content = next(iter(body), None)
    if content is None:
        raise SoapSyntaxError("has an empty body")
    return content


def local_name(element: ET.Element) -> str:
    """Return an element's name without its namespace, because devices use several versions of each namespace."""
    return element.tag.rpartition("}")[2]


def children(element: ET.Element | None, name: str) -> Iterator[ET.Element]:
    """Yield the children with this local name."""
    return (each for each in (() if element is None else element) if local_name(each) == name)


def child(element: ET.Element | None, *names: str) -> ET.Element | None:
    """Return the first element at a path of local names; None if no element is there."""
    for name in names:
        element = next(children(element, name), None)
    return element


def descendants(element: ET.Element, name: str) -> Iterator[ET.Element]:
    """Yield the elements with this local name at any depth."""
    return (each for each in element.iter() if local_name(each) == name)


def text(element: ET.Element | None, *names: str) -> str:
    """Return the text at a path without surrounding spaces; empty if there is no text."""
    found = child(element, *names)
    return "" if found is None else (found.text or "").strip()


def line(words: str) -> str:
    """Return a device's text as one short printable line."""
    return printable(" ".join(words.split()))[:_MAX_TEXT_CHARACTERS]


def number(written: str) -> float | None:
    """Parse a number above 0. Return None for any other text."""
    return (float(written) or None) if _NUMBER.fullmatch(written) else None


def _parse_xml(data: bytes) -> ET.Element:
    if len(data) > MAX_RESPONSE_BYTES:
        raise SoapSyntaxError("is too long")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.tree.data
    try:
        parser.Parse(data, True)  # noqa: FBT003 - the only form
        root: ET.Element = builder.tree.close()
    except SoapSyntaxError:
        raise
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:  # LookupError: an unknown encoding
        raise SoapSyntaxError("is not XML") from error
    return root


class _Builder:
    """Handlers that build a tree and enforce the limits. An exception in a handler stops the parser."""

    def __init__(self) -> None:
        self.tree = ET.TreeBuilder()
        self._depth = self._elements = 0

    def refuse(self, *_: object) -> None:
        raise SoapSyntaxError("contains a document type")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise SoapSyntaxError("has too many elements")
        if any(len(each) > _MAX_NAME_CHARACTERS for each in (name, *attributes)):
            raise SoapSyntaxError("contains a name that is too long")
        self.tree.start(_qualified(name), {_qualified(key): value for key, value in attributes.items()})

    def end(self, name: str) -> None:
        self._depth -= 1
        self.tree.end(_qualified(name))


def _qualified(name: str) -> str:
    return f"{{{name}" if "}" in name else name

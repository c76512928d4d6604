"""`discover`: ONVIF cameras on the network, as entries for cameras.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from nvision_hub.cli import password
from nvision_hub.cli.onvif import Search, identifier, interfaces
from nvision_hub.cli.options import json_option
from nvision_hub.cli.terminal import console
from nvision_hub.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nvision_hub.cli.onvif import Found, Stream

SECONDS: Final = 4.0


@click.command(
    epilog="""\b
Examples:
  nvision-hub discover
  nvision-hub discover --user admin             (asks for the password)
  nvision-hub discover --user admin --password-env CAMERAS >> cameras.yaml
  nvision-hub discover --interface 10.0.0.2 --json | jq '.cameras[].streams'
"""
)
@click.option("--user", metavar="NAME", help="The user name to ask cameras with; the same for all.")
@password.stdin_option
@password.env_option
@click.option("--interface", "chosen", metavar="ADDRESS", multiple=True,
              help="Ask from this address of this machine only; may be given more than once.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0.5, max=60), default=SECONDS, show_default=True,
              help="How long to wait for cameras to answer.")  # fmt: skip
@json_option
def discover(
    *, user: str | None, from_stdin: bool, variable: str | None, chosen: tuple[str, ...], seconds: float, as_json: bool
) -> int:
    """Look for ONVIF cameras on this machine's networks, and print them as entries for cameras.yaml.

    Passwords are not printed: each entry has a ${VARIABLE} in its place, which a start takes from the environment. The
    password is sent as a digest only. Exit code 1 where no camera answers.
    """
    if user is None and (from_stdin or variable is not None):
        raise click.UsageError("a password is of no use without --user")
    word = password.given(from_stdin=from_stdin, variable=variable)
    if user is not None and word is None:
        word = password.asked(user)
    search = Search(within_s=seconds, username=user, password=word, interfaces=chosen or interfaces())
    named = _named(search.run())
    if as_json:
        print(json.dumps({"cameras": [_facts(name, found) for name, found in named.items()]}, indent=2))
    else:
        out, err = console(), console(stderr=True)
        for name, found in named.items():
            for line in _entry(name, found, user, variable):
                out.print(line)
        err.print(_summary(named, search.interfaces), style="dim")
    return EXIT_OK if named else EXIT_FAILED


def _named(found: Sequence[Found]) -> dict[str, Found]:
    """Each with an id of its own."""
    named: dict[str, Found] = {}
    for each in found:
        named[identifier(each.name or each.maker or f"camera {each.host}", named)] = each
    return named


def _facts(name: str, found: Found) -> dict[str, Any]:
    return {"id": name, **asdict(found)}


def _entry(name: str, found: Found, user: str | None, variable: str | None) -> Iterator[str]:
    """The lines of one entry; comments only, where the camera gave no stream."""
    yield f"  # {' '.join(filter(None, (found.maker, found.host)))}"
    if found.error is not None:
        yield f"  # {found.name or name}: {found.error}"
        return
    first, *others = found.streams
    yield f"  - id: {name}"
    if found.name:
        yield f"    name: {json.dumps(found.name, ensure_ascii=False)}"
    yield f"    url: {json.dumps(first.url)}{_noted(first)}"
    for other in others:
        yield f"    # url: {json.dumps(other.url)}{_noted(other)}"
    if user is not None:
        yield f"    username: {json.dumps(user, ensure_ascii=False)}"
        yield f"    password: ${{{variable or _variable(name)}}}"
    yield "    fps: 1"


def _variable(name: str) -> str:
    word = re.sub("[^A-Z0-9]", "_", name.upper())
    return f"{'CAMERA_' if word[0].isdigit() else ''}{word}_PASSWORD"


def _noted(stream: Stream) -> str:
    size = None if stream.width is None or stream.height is None else f"{stream.width}x{stream.height}"
    told = [*filter(None, (stream.codec, size)), *([] if stream.fps is None else [f"{stream.fps} a second"])]
    return f"  # {', '.join(told)}" if told else ""


def _summary(named: Mapping[str, Found], asked: Sequence[str]) -> str:
    if not named:
        return (
            f"No camera answered on {', '.join(asked) or 'any network'}. ONVIF may be switched off in the cameras, or "
            "they are on a network that this machine is not; `nvision-hub probe rtsp://...` opens one by its address."
        )
    count = f"{len(named)} camera{'' if len(named) == 1 else 's'}"
    locked = sum(found.locked for found in named.values())
    hint = f", {locked} of them locked" if locked else ""
    return f"{count} found{hint}. `nvision-hub check --probe` opens what stands in cameras.yaml."

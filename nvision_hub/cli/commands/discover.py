"""`discover`: find ONVIF cameras on the network and print entries for cameras.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nvision_hub.cli.onvif_discovery import SENT_FPS, camera_id, interfaces, search
from nvision_hub.cli.onvif_streams import SECONDS_PER_DAY, suggestions
from nvision_hub.cli.options import command, json_option, password_options, prompt_password, read_password
from nvision_hub.cli.terminal import console, plural, print_json
from nvision_hub.errors import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nvision_hub.cli.onvif_discovery import OnvifDevice


@command(
    "nvision-hub discover",
    "nvision-hub discover --user admin             (asks for the password)",
    "nvision-hub discover --user admin --password-env CAMERAS >> cameras.yaml",
    "nvision-hub discover --interface 10.0.0.2 --json | jq '.cameras[].streams'",
)
@click.option("--user", metavar="NAME", help="The user name for all cameras.")
@password_options
@click.option("--interface", "chosen", metavar="ADDRESS", multiple=True,
              help="Search only from this local IP address; may be repeated.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0.5, max=60), default=4.0, show_default=True,
              help="How long to wait for cameras to respond.")  # fmt: skip
@json_option
def discover(
    *, user: str | None, from_stdin: bool, variable: str | None, chosen: tuple[str, ...], seconds: float, as_json: bool
) -> int:
    """Find ONVIF cameras on this machine's networks and print entries for cameras.yaml.

    With --user, each entry contains a ${VARIABLE} in place of the password. The hub reads the variable from the
    environment. Cameras receive the password only as a digest. The exit code is 1 if no camera responds.
    """
    if user is None and (from_stdin or variable is not None):
        raise click.UsageError("a password requires --user")
    password = read_password(from_stdin=from_stdin, variable=variable)
    if user is not None and password is None:
        password = prompt_password(user)
    addresses = chosen or interfaces()
    devices: dict[str, OnvifDevice] = {}
    for device in search(addresses, timeout_s=seconds, username=user, password=password):
        devices[camera_id(device.name or device.maker or f"camera {device.host}", devices)] = device
    if as_json:
        print_json({"cameras": [{"id": name, **asdict(device)} for name, device in devices.items()]})
    else:
        out, err = console(), console(stderr=True)
        for name, device in devices.items():
            for line in _entry(name, device, user, variable):
                out.print(line)
        err.print(_summary(devices, addresses), style="dim")
    return EXIT_OK if devices else EXIT_FAILED


def _entry(name: str, device: OnvifDevice, user: str | None, variable: str | None) -> Iterator[str]:
    """Yield the lines of one entry for cameras.yaml. A camera without a usable stream yields only comments."""
    yield f"  # {' '.join(filter(None, (device.maker, device.host)))}"
    if device.error is not None:
        yield f"  # {device.name or name}: {device.error}"
        return
    yield f"  - id: {name}"
    if device.name:
        yield f"    name: {json.dumps(device.name, ensure_ascii=False)}"
    if len({stream.video_source for stream in device.streams}) == 1:
        yield f"    url: {json.dumps(device.onvif_url)}  # chooses the stream that fits max_width and fps:"
        mark = "# url"
    else:
        yield "    # A recorder: add one entry per channel."
        mark = "url"
    for stream in device.streams:
        yield f"    {mark}: {json.dumps(stream.url)}  # {stream.shown}"
        mark = "# url"
    yield from (f"    # {sentence}" for sentence in suggestions(device.streams, sent_fps=SENT_FPS))
    if user is not None:
        yield f"    username: {json.dumps(user, ensure_ascii=False)}"
        word = re.sub("[^A-Z0-9]", "_", name.upper())
        prefix = "CAMERA_" if word[0].isdigit() else ""
        yield f"    password: ${{{variable or f'{prefix}{word}_PASSWORD'}}}"
    yield f"    fps: {SENT_FPS:g}  # {SENT_FPS * SECONDS_PER_DAY:,.0f} images per day"


def _summary(devices: Mapping[str, OnvifDevice], addresses: Sequence[str]) -> str:
    if not devices:
        return (
            f"No camera responded on {', '.join(addresses) or 'any network'}. ONVIF may be disabled in the cameras, or "
            "the cameras may be on another network. Open a camera by its address: nvision-hub probe rtsp://..."
        )
    locked = sum(device.locked for device in devices.values())
    hint = f"; {locked} of them refused access" if locked else ""
    return f"Found {plural(len(devices), 'camera')}{hint}. Test the cameras in cameras.yaml: nvision-hub check --probe"

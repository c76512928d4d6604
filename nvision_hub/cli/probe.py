"""`probe`: one camera opened as the hub opens it, and what it sends."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

import click
from setproctitle import setproctitle

from nvision_hub import costs
from nvision_hub.cli import password
from nvision_hub.cli.cameras_yaml import chosen, config_option
from nvision_hub.cli.look import dialled
from nvision_hub.cli.options import json_option
from nvision_hub.cli.survey import Survey, record, rounded, survey
from nvision_hub.cli.terminal import console
from nvision_hub.config import Camera, CameraAddress, load
from nvision_hub.config.secret import HIDDEN
from nvision_hub.errors import UnavailableError
from nvision_hub.hub import addresses_of
from workers.camera.source import SourceError, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config import Secret

SECONDS: Final = 8.0  # three or more keyframes of most cameras
LONG_GOP_S: Final = 4.0
LARGE_PIXELS: Final = 1920 * 1080


@click.command(
    epilog="""\b
Examples:
  nvision-hub probe rtsp://10.0.0.5/stream1
  nvision-hub probe rtsp://viewer@10.0.0.5/stream1   (asks for the password)
  nvision-hub probe rtsp://viewer@10.0.0.5/stream1 --password-stdin < secret
  nvision-hub probe http://10.0.0.8/mjpg/video.mjpg
  nvision-hub probe lobby                            (one of cameras.yaml)
"""
)
@click.argument("url_or_camera", metavar="URL|CAMERA")
@click.option("--username", metavar="NAME", help="The camera's user name.")
@password.stdin_option
@password.env_option
@click.option("--transport", type=click.Choice(["tcp", "udp"]), help="How RTSP media travels.  [default: tcp]")
@click.option(
    "--seconds", type=click.FloatRange(min=0.5, max=600), default=SECONDS, show_default=True, help="How long to read."
)
@config_option
@json_option
def probe(
    *,
    url_or_camera: str,
    username: str | None,
    from_stdin: bool,
    variable: str | None,
    transport: str | None,
    seconds: float,
    config_path: Path,
    as_json: bool,
) -> None:
    """Open one camera and tell what it sends and what it would cost.

    URL is rtsp://, rtsps://, http(s):// (MJPEG), snapshot+http(s)://, usb:0 or file:clip.mp4; CAMERA the id of one in
    cameras.yaml. Keep the password out of the URL, where others on this machine can see it: without one you are asked.
    """
    setproctitle("nvision-hub probe")  # a password in the URL would stand in the list of processes until the end
    known = ":" not in url_or_camera
    if known:
        if username is not None or from_stdin or variable is not None:
            raise click.UsageError("cameras.yaml has the user name and password of its cameras; correct them there")
        camera = chosen(load(config_path), [url_or_camera])[0]
    else:
        camera = _camera(url_or_camera, username, password.given(from_stdin=from_stdin, variable=variable))
    if transport is not None:
        camera = camera.model_copy(update={"transport": transport})
    found = _survey(_dialled(camera, config_path), seconds)
    if as_json:
        print(json.dumps({"url": camera.address.shown, **rounded(asdict(found))}, indent=2))
        return
    _show(camera, found)
    if not known:
        _show_entry(camera)


def _dialled(camera: Camera, config_path: Path) -> Camera:
    if camera.address.kind != "demo":
        return camera
    target = dialled(camera, addresses_of(load(config_path).state_dir))
    if target is None:
        raise UnavailableError("demo cameras are there only while a hub that has some runs: nvision-hub start")
    return target


def _camera(text: str, username: str | None, word: Secret | None) -> Camera:
    try:
        address = CameraAddress.parse(text)
    except ValueError as error:
        raise click.UsageError(f"the camera's address {error}") from error
    if address.url is None:
        if username is not None or word is not None:
            raise click.UsageError(f"a {address.kind} camera has no user name or password")
    else:
        if username is not None and address.username is not None:
            raise click.UsageError("the user name is in the address too; give it once")
        if word is not None and address.password:
            raise click.UsageError("the password is in the address too; give it once")
        user = address.username if username is None else username
        if user is not None and word is None and not address.password:
            word = password.asked(user)
    return Camera(id="camera-1", url=address, username=username, password=word)


def _survey(camera: Camera, seconds: float) -> Survey:
    began = time.monotonic()
    try:
        source = open_source(camera)
        try:
            return survey(record(source, began=began, seconds=seconds))
        finally:
            source.close()
    except SourceError as error:
        raise UnavailableError(str(error)) from error


def _show(camera: Camera, found: Survey) -> None:
    out = console()
    rows = [
        ("camera", camera.address.shown),
        ("video", _video(found)),
        ("rate", _rate(found)),
        ("keyframes", _keyframes(found)),
        ("bitrate", "not known" if found.bitrate_kbit_s is None else f"{found.bitrate_kbit_s:,.0f} kbit/s"),
        ("colour", _colour(found)),
        ("timestamps", _timestamps(found)),
        ("opened in", f"{found.opened_s:.2f} s{_first_picture(found)}"),
    ]
    if found.decode_ms is not None:
        rows.append(("decoding", f"{found.decode_ms:.2f} ms of one core per picture"))
    for name, text in rows:
        out.print(f"{name:<11} {text}")
    if found.decoded_per_s is not None and found.decode_ms is not None:
        out.print("\nWhat it would cost, decoding as measured here, all else reckoned:", style="bold")
        for fps, decoded in found.decoded_per_s.items():
            core = decoded * found.decode_ms / 10 + _other_percent(found, float(fps))
            out.print(
                f"  fps: {fps:<4} {decoded:5.1f} pictures decoded a second, {core:5.1f} % of a core; "
                f"{100 / core:.0f} such cameras a core"
            )
    for note in _notes(found):
        out.print(f"\n{note}", style="yellow")


def _other_percent(found: Survey, fps: float) -> float:
    """Of a core: all but decoding, for so many pictures sent a second in full size."""
    size = (found.width or costs.FULL_HD[0], found.height or costs.FULL_HD[1])
    picture_ms = costs.picture_ms(size, passed_on=(found.pixel_format or "").startswith("JPEG"))
    return (costs.PROCESS_MS_PER_S + fps * picture_ms) / 10


def _show_entry(camera: Camera) -> None:
    out, entry = console(), _entry(camera)
    out.print("\nIn cameras.yaml:", style="bold")
    out.print(entry)
    if HIDDEN in entry:
        out.print(f"({HIDDEN} stands for what you gave)", style="dim")


def _video(found: Survey) -> str:
    size = "size not known" if found.width is None else f"{found.width}x{found.height}"
    return f"{found.codec}, {size}{'' if found.pixel_format is None else f', {found.pixel_format}'}"


def _rate(found: Survey) -> str:
    measured = "not known" if found.fps is None else f"{found.fps:.2f} pictures a second"
    if found.fps_announced is None:
        return measured
    return f"{measured} (the camera announces {found.fps_announced:g})"


def _keyframes(found: Survey) -> str:
    if found.keyframe_interval_s is None:
        return f"fewer than two in {found.seconds:.0f} s; --seconds reads longer"
    return f"one every {found.keyframe_interval_s:.2f} s"


def _colour(found: Survey) -> str:
    match found.colour_range:
        case "limited":
            return "limited range; expanded before it is sent"
        case "full":
            return "full range"
        case "not told":
            return "the camera does not say its range; taken as limited"
        case _:
            return "not known"


def _timestamps(found: Survey) -> str:
    if found.timestamps_missing == found.packets:
        return "none; pictures count as taken when they arrive"
    missing = f", missing from {found.timestamps_missing} of {found.packets}" if found.timestamps_missing else ""
    return f"{f'{found.timestamp_jumps} jumps' if found.timestamp_jumps else 'steady'}{missing}"


def _first_picture(found: Survey) -> str:
    return "" if found.first_picture_s is None else f", first picture after {found.first_picture_s:.2f} s"


def _notes(found: Survey) -> list[str]:
    notes = []
    if found.decode_ms is None:
        notes.append("No picture could be decoded. Set the camera to H.264, H.265 or MJPEG, or try --transport tcp.")
    if found.keyframe_interval_s is not None and found.keyframe_interval_s > LONG_GOP_S:
        notes.append(
            "Keyframes every 1 to 2 s (the camera's I-frame interval) make low rates cheaper, and starts quicker."
        )
    if (found.width or 0) * (found.height or 0) > LARGE_PIXELS:
        notes.append("A sub-stream of the camera would do: larger pictures cost more than detection gains.")
    return notes


def _entry(camera: Camera) -> str:
    address, variable = camera.url, f"{re.sub('[^A-Z0-9]', '_', camera.id.upper())}_PASSWORD"
    lines = [f"  - id: {camera.id}"]
    if address.url is None:
        lines.append(f"    url: {json.dumps(address.shown)}")
    else:
        bare = replace(address, url=address.url._replace(username=None, password=None))
        lines.append(f"    url: {json.dumps(bare.shown)}")
        user = camera.address.username
        if user is not None:
            lines.append(f"    username: {json.dumps(user)}")
        if camera.address.password:
            lines.append(f"    password: ${{{variable}}}")
    if camera.transport != "tcp":
        lines.append(f"    transport: {camera.transport}")
    return "\n".join([*lines, "    fps: 1"])

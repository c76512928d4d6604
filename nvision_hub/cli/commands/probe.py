"""`probe`: open one camera as the hub does, and show its stream and CPU cost."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from setproctitle import setproctitle

from nvision_hub.cli.camera_probe import BASIC_WARNING, dialed, known_certificates, measure, rounded
from nvision_hub.cli.onvif_streams import SECONDS_PER_DAY, list_streams_of, suggestions
from nvision_hub.cli.options import (
    command,
    config_option,
    json_option,
    password_options,
    prompt_password,
    read_password,
    select_cameras,
)
from nvision_hub.cli.terminal import columns, console, print_json
from nvision_hub.cluster import cost_model
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.load import load
from nvision_hub.config.models import Camera
from nvision_hub.config.tls_policy import TlsPolicy
from nvision_hub.errors import UnavailableError
from nvision_hub.hub.state_dir import read_endpoints
from nvision_hub.media.sources import KnownCertificates, SourceError
from nvision_hub.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.cli.camera_probe import StreamReport
    from nvision_hub.cli.onvif_streams import OnvifStream
    from nvision_hub.config.models import Config
    from nvision_hub.config.value_types import Secret

SECONDS: Final = 8.0  # most cameras send at least three keyframes in this time
LONG_GOP_S: Final = 4.0
LARGE_PIXELS: Final = 1920 * 1080
_COLOR_RANGES: Final[dict[str | None, str]] = {
    "limited": "limited range; expanded to full range before encoding",
    "full": "full range",
    "unspecified": "range not signaled; treated as limited",
}


@command(
    "nvision-hub probe rtsp://10.0.0.5/stream1",
    "nvision-hub probe rtsp://viewer@10.0.0.5/stream1   (asks for the password)",
    "nvision-hub probe rtsp://viewer@10.0.0.5/stream1 --password-stdin < secret",
    "nvision-hub probe onvif://viewer@10.0.0.5                (lists all streams)",
    "nvision-hub probe http://10.0.0.8/mjpg/video.mjpg",
    "nvision-hub probe lobby                            (from cameras.yaml)",
)
@click.argument("url_or_camera", metavar="URL|CAMERA")
@click.option("--username", metavar="NAME", help="The camera's user name.")
@password_options
@click.option("--tls", metavar="POLICY", help="verify, insecure or fingerprint:<sha256>, as in cameras.yaml.")
@click.option("--transport", type=click.Choice(["auto", "tcp", "udp"]),
              help="The transport of RTSP media.  [default: auto]")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0.5, max=600), default=SECONDS, show_default=True,
              help="How long to read the stream.")  # fmt: skip
@config_option
@json_option
def probe(
    *,
    url_or_camera: str,
    username: str | None,
    from_stdin: bool,
    variable: str | None,
    tls: str | None,
    transport: str | None,
    seconds: float,
    config_path: Path,
    as_json: bool,
) -> None:
    """Open one camera, and show its stream and CPU cost.

    URL begins with rtsp://, rtsps://, onvif(s)://, http(s):// (MJPEG) or snapshot+http(s)://, or has the form usb:0
    or file:clip.mp4. CAMERA is an id in cameras.yaml. Leave the password out of the URL, because other users of this
    machine can read command lines. If the URL has a user name without a password, `probe` asks for the password.
    """
    setproctitle("nvision-hub probe")  # hides a password in the URL from process listings
    known = ":" not in url_or_camera
    if known:
        if username is not None or from_stdin or variable is not None:
            raise click.UsageError(
                "--username, --password-stdin and --password-env apply only to a URL; set this camera's user name and "
                "password in cameras.yaml"
            )
        camera = _known_camera(url_or_camera, load(config_path))
    else:
        camera = _camera(url_or_camera, username, read_password(from_stdin=from_stdin, variable=variable))
    if tls is not None:
        camera = camera.model_copy(update={"tls": _tls(tls)})
    if transport is not None:
        camera = camera.model_copy(update={"transport": transport})
    endpoints = read_endpoints(load(config_path).state_dir) if camera.address.kind == "demo" else None
    target = dialed(camera, endpoints)
    if target is None:
        raise UnavailableError("demo cameras run only as part of a hub; start one: nvision-hub start")
    try:
        certificates = known_certificates(load(config_path).state_dir) if known else KnownCertificates()
        streams = list_streams_of(target, certificates) if target.address.kind == "onvif" else []
        found = measure(target, seconds, certificates)
    except SourceError as error:
        raise UnavailableError(str(error)) from error
    if as_json:
        offered = {"streams": [asdict(stream) for stream in streams]} if streams else {}
        print_json({"url": camera.address.shown, **rounded(found), **offered})
        return
    _print_report(camera, found)
    _print_streams(camera, streams)
    if not known:
        suggested, condition = _configurable(camera, config_path.absolute().parent)
        out, entry = console(), _entry(suggested)
        out.print(f"\nIn cameras.yaml{condition}:", style="bold")
        out.print(entry)
        if HIDDEN in entry:
            out.print(f"({HIDDEN} stands for a hidden value)", style="dim")


def _known_camera(name: str, config: Config) -> Camera:
    if re.search("[./]", name):  # no id contains these characters
        raise click.UsageError(f"{name} is no camera; for a video file, write file:{name}")
    return select_cameras(config, [name])[0]


def _tls(text: str) -> TlsPolicy:
    try:
        return TlsPolicy.parse(text)
    except ValueError as error:
        raise click.UsageError(f"--tls {error}") from error


def _camera(text: str, username: str | None, password: Secret | None) -> Camera:
    try:
        address = CameraAddress.parse(text)
    except ValueError as error:
        raise click.UsageError(f"the camera's address {error}") from error
    if not address.host and (username is not None or password is not None):
        raise click.UsageError(f"a {address.kind} camera takes no user name or password; omit these options")
    if username is not None and address.username is not None:
        raise click.UsageError("the URL already contains a user name; give it once")
    if password is not None and address.password:
        raise click.UsageError("the URL already contains a password; give it once")
    user = address.username if username is None else username
    if user is not None and password is None and not address.password:
        password = prompt_password(user)
    return Camera(id="camera-1", url=address, username=username, password=password)


def _print_report(camera: Camera, found: StreamReport) -> None:
    out = console()
    size = "unknown size" if found.width is None else f"{found.width}x{found.height}"
    pixel_format = "" if found.pixel_format is None else f", {found.pixel_format}"
    measured = "unknown" if found.fps is None else f"{found.fps:.2f} fps"
    announced = "" if found.fps_announced is None else f" (the camera announces {found.fps_announced:g})"
    keyframes = f"fewer than two in {found.seconds:.0f} s; use --seconds to read longer"
    if found.keyframe_interval_s is not None:
        keyframes = f"one every {found.keyframe_interval_s:.2f} s"
    first_frame = "" if found.first_frame_s is None else f", first frame after {found.first_frame_s:.2f} s"
    rows = [
        ("camera", camera.address.shown),
        ("video", f"{found.codec}, {size}{pixel_format}"),
        *([] if found.profile is None else [("profile", found.profile)]),
        ("rate", measured + announced),
        ("keyframes", keyframes),
        ("bitrate", "unknown" if found.bitrate_kbit_s is None else f"{found.bitrate_kbit_s:,.0f} kbit/s"),
        ("color", _COLOR_RANGES.get(found.colour_range, "unknown")),
        ("timestamps", _timestamps(found)),
        ("opened in", f"{found.opened_s:.2f} s{first_frame}"),
    ]
    if found.certificate_sha256 is not None:
        rows.append(("certificate", f"SHA-256 {found.certificate_sha256}"))
    if found.decode_ms is not None:
        rows.append(("decoding", f"{found.decode_ms:.2f} ms of CPU time per frame"))
    out.print(*columns(rows), sep="\n")
    if found.decoded_per_s is not None and found.decode_ms is not None:
        out.print("\nCPU cost (decoding measured, the rest estimated):", style="bold")
        for fps, decoded in found.decoded_per_s.items():
            core = decoded * found.decode_ms / 10 + _other_percent(found, float(fps))
            out.print(
                f"  fps: {fps:<4} {decoded:5.1f} frames decoded per second, {core:5.1f} % of a core; "
                f"{100 / core:.0f} such cameras per core"
            )
    for note in _notes(found):
        out.print(f"\n{note}", style="yellow")


def _print_streams(camera: Camera, streams: Sequence[OnvifStream]) -> None:
    """Print the streams that an ONVIF camera offers."""
    if not streams:
        return
    out, images = console(), camera.fps * SECONDS_PER_DAY
    out.print(f"\nStreams of the camera, at {camera.fps:g} fps ({images:,.0f} images per day):", style="bold")
    for stream in streams:
        out.print(f"  {stream.shown}", highlight=False)
    for sentence in suggestions(streams, sent_fps=camera.fps):
        out.print(f"\n{sentence}", style="yellow")


def _timestamps(found: StreamReport) -> str:
    if found.timestamps_missing == found.packets:
        return "none; the hub uses the arrival time as the capture time"
    missing = f", absent in {found.timestamps_missing} of {found.packets} packets" if found.timestamps_missing else ""
    return f"{f'{found.timestamp_jumps} jumps' if found.timestamp_jumps else 'steady'}{missing}"


def _other_percent(found: StreamReport, fps: float) -> float:
    """Return the cost of sending `fps` full-size frames per second without decoding, as a percentage of one core."""
    size = (found.width or cost_model.FULL_HD[0], found.height or cost_model.FULL_HD[1])
    frame_ms = cost_model.frame_ms(size, passed_on=(found.pixel_format or "").startswith("JPEG"))
    return (cost_model.PROCESS_MS_PER_S + fps * frame_ms) / 10


def _notes(found: StreamReport) -> Iterator[str]:
    if found.decode_ms is None:
        yield "No frame could be decoded. Set the camera to H.264, H.265 or MJPEG, or try --transport tcp."
    if found.interlaced:
        yield "The camera sends interlaced video. The hub uses every second line, so set the camera to progressive."
    if found.sends_plain_password:
        yield BASIC_WARNING
    if found.keyframe_interval_s is not None and found.keyframe_interval_s > LONG_GOP_S:
        yield "Set the camera's I-frame interval to 1 or 2 s, so that low rates cost less CPU and streams start faster."
    if (found.width or 0) * (found.height or 0) > LARGE_PIXELS:
        yield "Use a sub-stream of the camera, because high resolution costs CPU time and rarely improves detection."


def _configurable(camera: Camera, folder: Path) -> tuple[Camera, str]:
    """Return the camera as a cameras.yaml in `folder` accepts it, and text that states the condition for this.

    cameras.yaml accepts video files only from its own folder, with paths relative to that folder.
    """
    if camera.address.kind != "file":
        return camera, ""
    path, condition = Path(camera.address.path).absolute(), ""
    if path.is_relative_to(folder):
        path = path.relative_to(folder)
    else:
        condition = f", once the file is in its folder (ln -s {shlex.quote(str(path))} {shlex.quote(str(folder))}/)"
        path = Path(path.name)
    return camera.model_copy(update={"url": replace(camera.address, path=str(path))}), condition


def _entry(camera: Camera) -> str:
    """Format a camera as an entry of cameras.yaml, with an environment variable for the password."""
    credentials, bare = camera.address, replace(camera.url, username=None, password=None)
    lines = [f"  - id: {camera.id}", f"    url: {json.dumps(bare.shown)}"]
    if credentials.username is not None:
        lines.append(f"    username: {json.dumps(credentials.username)}")
    if credentials.password:
        lines.append("    password: ${CAMERA_1_PASSWORD}")
    if camera.tls is not None:
        lines.append(f"    tls: {camera.tls.shown}")
    if camera.transport != "auto":
        lines.append(f"    transport: {camera.transport}")
    return "\n".join([*lines, "    fps: 1"])

"""`service`: the local Nvision-compatible service in the foreground, without a hub."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvision_hub import logs
from nvision_hub.cli.options import log_format_option, log_level_option
from nvision_hub.config import Listen
from nvision_hub.errors import EXIT_INTERRUPTED, EXIT_OK
from nvision_hub.link import Link
from workers.service.service import ServiceSettings, run

if TYPE_CHECKING:
    from nvision_hub.logs import Form


class _ListenAt(click.ParamType[Listen]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Listen:
        if isinstance(value, Listen):
            return value
        try:
            return Listen.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_MODEL = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    epilog="""\b
Examples:
  nvision-hub service
  NVISION_STREAMING_KEYS=trial nvision-hub service --listen 0.0.0.0:8090
  nvision-hub service --model yolo11n.onnx --callback http://127.0.0.1:3000/
  nvision-hub service --latency 0.125 --rate-limit 20

\b
In cameras.yaml of a hub elsewhere:
  nvision: {url: "ws://10.0.0.9:8090/api", streaming_key: trial}
"""
)
@click.option("--listen", type=_ListenAt(), default="127.0.0.1:8090", show_default=True, help="Where to listen.")
@click.option("--model", type=_MODEL, help="A YOLO-family ONNX model; without one, moving objects are found.")
@click.option("--face-model", type=_MODEL, help="A YuNet ONNX model for face detection.")
@click.option("--callback", metavar="URL", help="Post results there instead of returning them on the stream.")
@click.option(
    "--key",
    "keys",
    metavar="KEY",
    multiple=True,
    envvar="NVISION_STREAMING_KEYS",
    help="A streaming key that opens it; without any, every key does. What stands on a command line can be seen by "
    "others on this machine: NVISION_STREAMING_KEYS, separated by spaces, cannot.",
)
@click.option(
    "--latency", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0, help="Answer this late, for trials."
)
@click.option(
    "--rate-limit",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="Refuse more than N requests a second of one key, for trials.",
)
@log_level_option
@log_format_option
def service(
    *,
    listen: Listen,
    model: Path | None,
    face_model: Path | None,
    callback: str | None,
    keys: tuple[str, ...],
    latency: float,
    rate_limit: float | None,
    log_level: int,
    log_format: Form,
) -> int:
    """Run the local Nvision-compatible service alone, until Ctrl-C.

    It speaks Nvision's WebSocket and REST interfaces, for object and face detection, so that cameras and the official
    SDKs work without an account or a network.
    """
    logs.set_up(log_level, form=log_format)
    settings = ServiceSettings(
        host=listen.host,
        port=listen.port,
        streaming_keys=keys,
        model=model,
        face_model=face_model,
        callback_url=callback,
        latency_s=latency,
        rate_limit_per_s=rate_limit,
    )
    link = Link(None)
    run(settings, link)
    return EXIT_INTERRUPTED if link.ended_by is signal.SIGINT else EXIT_OK

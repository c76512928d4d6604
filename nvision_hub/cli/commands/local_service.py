"""`service`: run the local Nvision-compatible service in the foreground, without a hub."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvision_hub.cli.options import log_options
from nvision_hub.config.server_addresses import ListenAddress
from nvision_hub.errors import EXIT_INTERRUPTED, EXIT_OK
from nvision_hub.hub.standalone_service import LocalServiceSettings, run_local_service
from nvision_hub.logs.setup import set_up

if TYPE_CHECKING:
    from nvision_hub.logs.formatters import LogFormat


def _listen_address(_ctx: click.Context, _param: click.Parameter, value: str) -> ListenAddress:
    try:
        return ListenAddress.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class _Model(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "moving" else super().convert(value, param, ctx)


@click.command(
    "service",
    epilog="""\b
Examples:
  nvision-hub service
  NVISION_STREAMING_KEYS=trial nvision-hub service --listen 0.0.0.0:8090
  nvision-hub service --model yolo11n.onnx --callback http://127.0.0.1:3000/
  nvision-hub service --latency 0.125 --rate-limit 20

\b
In cameras.yaml of a hub on another machine:
  nvision: {url: "ws://10.0.0.9:8090/api", streaming_key: trial}
""",
)
@click.option("--listen", metavar="HOST:PORT", callback=_listen_address, default="127.0.0.1:8090", show_default=True,
              help="The address to listen on.")  # fmt: skip
@click.option("--model", type=_Model(path_type=Path, exists=True, dir_okay=False),
              help="A YOLO-family ONNX model, or `moving` to report what moves.  "
                   "[default: SSD MobileNet V2, included]")  # fmt: skip
@click.option(
    "--labels",
    type=_FILE,
    help="A text file with the class names of --model, one per line.  [default: the names in the model, or COCO's]",
)
@click.option("--face-model", type=_FILE, help="A YuNet ONNX model for face detection.")
@click.option("--callback", "callback_url", metavar="URL",
              help="POST results to this URL instead of returning them on the stream.")  # fmt: skip
@click.option(
    "--key",
    "streaming_keys",
    metavar="KEY",
    multiple=True,
    envvar="NVISION_STREAMING_KEYS",
    help="A streaming key to accept; may be repeated. Without keys, the service accepts any key. Other users of this "
    "machine can read command lines, so prefer NVISION_STREAMING_KEYS (keys separated by spaces).",
)
@click.option("--latency", "latency_s", metavar="SECONDS", type=click.FloatRange(min=0), default=0.0,
              help="Delay each response, for tests.")  # fmt: skip
@click.option("--rate-limit", "rate_limit_per_s", metavar="N", type=click.FloatRange(min=0, min_open=True),
              help="Refuse more than N requests per second with the same key, for tests.")  # fmt: skip
@log_options
def local_service(*, listen: ListenAddress, log_level: int, log_format: LogFormat, **settings: Any) -> int:
    """Run only the local Nvision-compatible service, until Ctrl-C.

    The service implements Nvision's WebSocket and REST interfaces for object and face detection. Hubs and the official
    SDKs can use it without an Nvision account or Internet access.
    """
    set_up(log_level, form=log_format)
    ended_by = run_local_service(LocalServiceSettings(host=listen.host, port=listen.port, **settings))
    return EXIT_INTERRUPTED if ended_by is signal.SIGINT else EXIT_OK

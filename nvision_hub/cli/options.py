"""Arguments and options that several commands share: configuration, cameras, webhooks, passwords and logs."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

import click

from nvision_hub.cli import HELP_SETTINGS
from nvision_hub.config.load import as_written, load, state_dir
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.config.models import Camera, Config, Webhook
    from nvision_hub.logs.formatters import LogFormat

F = TypeVar("F", bound="Callable[..., Any]")

DEFAULT_CONFIG: Final = "cameras.yaml"
CONFIG_VARIABLE: Final = "NVISION_HUB_CONFIG"
_UNITS: Final = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


def examples(*lines: str) -> str:
    """Return the end of a command's help: examples for the user to copy, one per line."""
    return "\n  ".join(("\b\nExamples:" if len(lines) > 1 else "\b\nExample:", *lines))


def command(*example_lines: str, **options: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a command whose help ends with these examples. Passes `options` to click."""
    return click.command(epilog=examples(*example_lines), context_settings=HELP_SETTINGS, **options)


def _combined(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Combine the decorators of several options, given in the order of the help text."""
    return lambda function: reduce(lambda decorated, decorator: decorator(decorated), reversed(decorators), function)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")

config_argument = click.argument("config_path", metavar="[CONFIG]", type=click.Path(path_type=Path),
                                 default=DEFAULT_CONFIG, envvar=CONFIG_VARIABLE)  # fmt: skip
config_option = click.option(
    "--config", "config_path", metavar="FILE", type=click.Path(path_type=Path), default=DEFAULT_CONFIG,
    envvar=CONFIG_VARIABLE, help=f"The configuration file.  [default: {DEFAULT_CONFIG}; env: {CONFIG_VARIABLE}]",
)  # fmt: skip


def configured_state_dir(path: Path) -> Path:
    """Return the state directory of a cameras.yaml.

    Raises `ConfigError` if the file is invalid. A missing gateway token is not an error here, because operators create
    tokens in this directory.
    """
    try:
        return load(path).state_dir
    except ConfigError as error:
        if any(found.code != "token_required" for found in error.diagnostics):
            raise
        return state_dir(path)


def start_command(path: Path) -> str:
    """Return the command that starts a hub with this configuration, for the user to copy."""
    return "nvision-hub start" if str(path) == DEFAULT_CONFIG else f"nvision-hub start {path}"


def subscribe_command(url: str, prefix: str) -> str:
    """Return the command that prints all results as they arrive, for the user to copy.

    The command passes the password in the environment, because every user of the machine can read the arguments of a
    process. If the URL has a user name but no password, redis-cli prompts for the password. The command does not use
    `-u` for unix:// and IPv6 addresses, which this option does not accept.
    """
    if "+sentinel://" in url:  # redis-cli does not ask Sentinels for the master
        return "nvision-hub tail"
    words = []
    if "+cluster://" in url:  # redis-cli needs the address of one node
        url = url.replace("+cluster://", "://", 1).partition(",")[0]
        words.append("-c")
    try:
        found, port = urlsplit(url), urlsplit(url).port
    except ValueError:  # a damaged hub.json may lack a valid address
        return "nvision-hub tail"
    if found.scheme == "unix":
        words += ["-s", unquote(found.path)]
    else:
        is_default = found.hostname in {None, "127.0.0.1"}
        words += [] if is_default else ["-h", str(found.hostname)]
        words += ["-p", str(port or RedisAddress.schemes["redis"])]
        words += ["--tls"] if found.scheme == "rediss" else []
        database = found.path.strip("/")
        words += ["-n", database] if database.isdecimal() and database != "0" else []
    password = ""
    if found.password is not None:
        password = f"REDISCLI_AUTH={found.password} "
        words += ["--user", str(found.username)]
    elif found.username is not None:
        words.append("--askpass")
    return f"{password}redis-cli {shlex.join(words)} psubscribe '{prefix}:results:*'"


def complete_camera(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the camera ids that start with `incomplete`, for shell completion.

    The environment variables in the file need not be set. For an unreadable file, the function returns no ids.
    """
    path = Path(context.params.get("config_path") or os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    try:
        cameras = as_written(path)[0].plain().get("cameras")
    except ConfigError:
        return []
    entries = cameras if isinstance(cameras, list) else []
    ids = [str(entry.get("id")) for entry in entries if isinstance(entry, dict)]
    return [camera_id for camera_id in ids if camera_id.startswith(incomplete)]


only_option = click.option(
    "--only", metavar="ID", multiple=True, shell_complete=complete_camera, help="Use only this camera; may be repeated."
)


def unknown_name(sentence: str, wrong: str, known: Sequence[str]) -> click.UsageError:
    """Return an error with `sentence` and the known name nearest to `wrong`; with all names if none is near."""
    choices = f"; choose from {', '.join(known)}" if known else "; there are none"
    return click.UsageError(sentence + (did_you_mean(wrong, known) or choices))


def select_cameras(config: Config, only: Iterable[str]) -> list[Camera]:
    """Return the cameras with these ids; all cameras if `only` is empty. Raises `UsageError` for an unknown id."""
    known = [camera.id for camera in config.cameras]
    wanted = set(only)
    for camera_id in sorted(wanted - set(known)):
        raise unknown_name(f"{config.path.name} has no camera {camera_id!r}", camera_id, known)
    return [camera for camera in config.cameras if not wanted or camera.id in wanted]


def select_webhook(config: Config, webhook_id: str) -> Webhook:
    """Return the webhook with this id. Raises `UsageError` for an unknown id."""
    webhooks = {webhook.id: webhook for webhook in config.webhooks}
    if webhook_id not in webhooks:
        raise unknown_name(f"{config.path.name} has no webhook {webhook_id!r}", webhook_id, [*webhooks])
    return webhooks[webhook_id]


# No option contains the password itself, because every user of the machine can read command lines.
password_options = _combined(
    click.option(
        "--password-stdin", "from_stdin", is_flag=True, help="Read the password from the first line of stdin."
    ),
    click.option(
        "--password-env", "variable", metavar="VARIABLE", help="Read the password from this environment variable."
    ),
)


def read_password(*, from_stdin: bool, variable: str | None) -> Secret | None:
    """Return the password from the source that the options select; None without these options. Raises `UsageError`."""
    if from_stdin and variable is not None:
        raise click.UsageError("--password-stdin and --password-env exclude each other; use one of them")
    if from_stdin:
        return Secret(sys.stdin.readline().rstrip("\r\n"))
    if variable is None:
        return None
    if variable not in os.environ:
        raise click.UsageError(f"the environment variable {variable} is not set; set it with `export {variable}=...`")
    return Secret(os.environ[variable])


def prompt_password(user: str) -> Secret | None:
    """Prompt for the password of `user`; return None if stdin is not a terminal."""
    if not sys.stdin.isatty():
        return None
    return Secret(click.prompt(f"Password of {user}", hide_input=True, default="", show_default=False, err=True))


class SinceParam(click.ParamType[datetime]):
    """Point in time: an ISO 8601 date or time, or an age such as `90s`. A time without a time zone is local time."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        text = str(value)
        try:
            if found := re.fullmatch(r"(\d{1,9})\s*(s|m|min|h|d)", text.strip()):
                return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is not a time; use an age such as 90s, 15min, 1h or 2d, or a time such as "
                      "2026-11-22T14:00", param, ctx)  # fmt: skip


def _log_format(_ctx: click.Context, _param: click.Parameter, value: str) -> LogFormat:
    return "json" if value == "json" or (value == "auto" and not sys.stderr.isatty()) else "text"


log_options = _combined(
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        callback=lambda _ctx, _param, value: logging.getLevelNamesMapping()[value.upper()],
        help="Show log lines of this level and above.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["auto", "text", "json"]),
        default="auto",
        show_default=True,
        envvar="NVISION_HUB_LOG_FORMAT",
        callback=_log_format,
        help="Format of log lines; auto is text on a terminal and JSON elsewhere.  [env: NVISION_HUB_LOG_FORMAT]",
    ),
)

"""The `nvision-hub` command line: the list of commands, and the exit code and message of each error.

The program imports each command only when it is called, so `--help` loads neither codecs nor pydantic. Data goes to
stdout. Logs and errors go to stderr. Only the package `cli` prints.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import shell_complete

from nvision_hub.control_characters import replace_control_characters
from nvision_hub.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, ConfigError, HubError
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "nvision-hub"
COMPLETE_VARIABLE: Final = "_NVISION_HUB_COMPLETE"  # the shell sets this variable to request completions

# Each command needs these names, because a test may call a command without a parent context that supplies them.
HELP_SETTINGS: Final = {"help_option_names": ["-h", "--help"]}

# Each command is in the module of the same name unless `_MODULES` names another module.
COMMANDS: Final = {
    "start": "Run the hub with the cameras in cameras.yaml.",
    "check": "Validate cameras.yaml and show what would run.",
    "doctor": "Check this machine and cameras.yaml, and suggest fixes.",
    "init": "Write a first cameras.yaml.",
    "schema": "Print the JSON Schema of cameras.yaml, for editors.",
    "discover": "Find ONVIF cameras and print entries for cameras.yaml.",
    "probe": "Open one camera, and show its stream and CPU cost.",
    "status": "Show the cameras of the running hub.",
    "explain": "Explain why a camera sends at its current rate.",
    "ps": "List the hubs that run on this machine.",
    "usage": "Show how many images the cameras have sent, and their cost.",
    "tail": "Show results or events of tracks as they arrive.",
    "tracks": "List the tracks of objects, with their zones.",
    "logs": "Show the log of a camera or another process.",
    "pause": "Pause cameras of the running hub.",
    "resume": "Resume paused cameras.",
    "restart": "Restart camera processes.",
    "set": "Change settings of a camera while it runs.",
    "replay": "Deliver results to a webhook again.",
    "dead-letters": "List webhook deliveries that failed permanently.",
    "token": "Create, list and revoke tokens for the page and the API.",
    "audit": "Show who changed the hub or was refused.",
    "backup": "Write the state of a hub to a file.",
    "restore": "Restore the state of a hub from a file.",
    "service": "Run only the local Nvision-compatible service.",
    "models": "Show the detection models of the local service.",
    "render": "Write files for Kubernetes, systemd or Compose.",
    "completion": "Print a shell completion script.",
    "version": "Show the versions of the hub and its dependencies.",
}
_MODULES: Final = {
    "backup": ("backup", "restore"),
    "control": ("pause", "resume", "restart", "set"),
    "local_service": ("service",),
    "init": ("init", "schema", "completion", "version"),
    "status": ("status", "ps"),
    "webhooks": ("replay", "dead-letters"),
}


class _LazyGroup(click.Group):
    """Group that imports a command's module only when the command is called."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = next((module for module, names in _MODULES.items() if cmd_name in names), cmd_name)
        module = importlib.import_module(f"{__name__}.commands.{name}")
        return next(it for it in vars(module).values() if isinstance(it, click.Command) and it.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    commands=[click.Command(name) for name in COMMANDS],  # the names serve completion and suggestions
    context_settings=HELP_SETTINGS,
    epilog="Start with `nvision-hub init`, then `nvision-hub start`. Run `nvision-hub COMMAND --help` for details.",
)
@click.option(
    "--debug",
    is_flag=True,
    envvar="NVISION_HUB_DEBUG",
    help="Show the traceback of an internal error.  [env: NVISION_HUB_DEBUG]",
)
@click.pass_obj
def root(invocation: SimpleNamespace, *, debug: bool) -> None:
    """Stream CCTV cameras to the Nvision vision service and publish the results on Redis."""
    invocation.debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `arguments` default to `sys.argv[1:]`."""
    invocation = SimpleNamespace(debug=False, is_program=arguments is None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # the terminal's encoding may lack some characters
    try:
        code = _invoke(sys.argv[1:] if arguments is None else arguments, invocation)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        # The reader of stdout closed the pipe, as `head` does. Without this redirection, the interpreter would fail
        # when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        print(replace_control_characters(text.getvalue()), file=sys.stderr, end="")
        return error.exit_code
    except HubError as error:
        # A diagnostic has no prefix, because editors and terminals turn a leading file:line:column into a link.
        prefix = "" if isinstance(error, ConfigError) else f"{PROGRAM}: "
        print(replace_control_characters(f"{prefix}{redact(str(error))}"), file=sys.stderr)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - otherwise a user would see a traceback
        return _print_internal_error(error, debug=invocation.debug)
    return code if isinstance(code, int) else EXIT_OK


def _invoke(arguments: Sequence[str], invocation: SimpleNamespace) -> object:
    # click's own `main` fails when the reader of stdout closes the pipe.
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(root, {}, PROGRAM, COMPLETE_VARIABLE, instruction)
    with root.make_context(PROGRAM, list(arguments), obj=invocation) as context:
        return root.invoke(context)


def _print_internal_error(error: Exception, *, debug: bool) -> int:
    if debug:
        text = redact("".join(traceback.format_exception(error)))
        print(replace_control_characters(text), file=sys.stderr, end="")
    first_line = replace_control_characters((str(error).splitlines() or [""])[0])
    summary = redact(f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__)
    attachment = "the traceback above" if debug else f"the output of `{PROGRAM} --debug COMMAND`"
    print(f"{PROGRAM}: internal error ({summary}); please report it with {attachment}", file=sys.stderr)
    return EXIT_FAILED

"""The command line: the verbs, and the one place where an error becomes its sentence and its exit code.

One file per verb, imported only when that verb is called: `--help` loads neither codecs nor pydantic. Data goes to
stdout, logs and errors to stderr. Nothing below this package prints.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import shell_complete

from nvision_hub.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, ConfigError, HubError, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "nvision-hub"
COMPLETE: Final = "_NVISION_HUB_COMPLETE"  # set by the shell's completion, as click prescribes

# What `--help` lists. Each verb's own help is with its command, in the module of its name unless `_ELSEWHERE` says so.
VERBS: Final = {
    "start": "Run the hub: every camera of a cameras.yaml, until Ctrl-C.",
    "check": "Tell all that is wrong with a cameras.yaml, or what would run.",
    "doctor": "Check everything that a start needs, and say how to mend it.",
    "init": "Write a cameras.yaml to start from.",
    "schema": "Print the JSON Schema of cameras.yaml, for editors.",
    "discover": "Find ONVIF cameras, as entries for cameras.yaml.",
    "probe": "Open one camera: what it sends, and what it would cost.",
    "status": "Show the cameras of a running hub.",
    "tail": "Show the results of a running hub as they arrive.",
    "logs": "Show what was logged of one camera.",
    "pause": "Pause cameras of a running hub.",
    "resume": "Let paused cameras go on.",
    "restart": "Start the processes of cameras anew.",
    "set": "Change settings of a camera while it runs.",
    "replay": "Deliver results to a webhook again.",
    "dead-letters": "Show the webhook deliveries that were given up on.",
    "service": "Run the local Nvision-compatible service alone.",
    "render": "Write what runs it on Kubernetes, systemd or Compose.",
    "completion": "Print what makes a shell complete verbs and cameras.",
    "version": "Tell the version, and of what it stands on.",
}
_ELSEWHERE: Final = {
    "dead-letters": "dead_letters",
    "pause": "control",
    "resume": "control",
    "restart": "control",
    "set": "control",
}


@dataclass(kw_only=True)
class Invocation:
    """What of one call its error handler has to know."""

    debug: bool = False


class _Verbs(click.Group):
    """The verbs, each loaded when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"{__name__}.{_ELSEWHERE.get(cmd_name, cmd_name)}")
        return next(it for it in vars(module).values() if isinstance(it, click.Command) and it.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=VERBS, ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with `nvision-hub init`, then `nvision-hub start`. Each verb has a --help of its own.",
)
@click.option(
    "--debug",
    is_flag=True,
    envvar="NVISION_HUB_DEBUG",
    help="Show a traceback where the program itself fails.  [env: NVISION_HUB_DEBUG]",
)
@click.pass_obj
def verbs(invocation: Invocation, *, debug: bool) -> None:
    """Stream CCTV cameras to the Nvision vision service; read what it sees on Redis."""
    invocation.debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; its exit code. `arguments` are those of the process where None."""
    invocation = Invocation()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal's encoding lacks is no reason to fail
    try:
        code = _invoke(sys.argv[1:] if arguments is None else arguments, invocation)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `head` has. The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HubError as error:
        return _tell(error)
    except Exception as error:  # noqa: BLE001 - the last place before a user would see a traceback
        return _apologise(error, debug=invocation.debug)
    return code if isinstance(code, int) else EXIT_OK


def _invoke(arguments: Sequence[str], invocation: Invocation) -> object:
    # Not through click's own `main`, which calls it a failure when the reader of stdout has gone.
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(verbs, {}, PROGRAM, COMPLETE, instruction)
    with verbs.make_context(PROGRAM, list(arguments), obj=invocation) as context:
        return verbs.invoke(context)


def _tell(error: HubError) -> int:
    # A problem of cameras.yaml begins with file:line:column, which editors and terminals make a link of.
    prefix = "" if isinstance(error, ConfigError) else f"{PROGRAM}: "
    print(f"{prefix}{redact(str(error))}", file=sys.stderr)
    return error.exit_code


def _apologise(error: Exception, *, debug: bool) -> int:
    if debug:
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    more = "the traceback above" if debug else f"what `{PROGRAM} --debug` and the same verb print"
    print(
        f"{PROGRAM}: this is a fault of the program, not yours ({_summary(error)}); please report it with {more}",
        file=sys.stderr,
    )
    return EXIT_FAILED


def _summary(error: Exception) -> str:
    first, *_ = [*str(error).splitlines(), ""]
    return redact(f"{type(error).__name__}: {first}" if first else type(error).__name__)

"""How verbs are given a camera's password: never on the command line, where others on this machine can see it."""

from __future__ import annotations

import os
import sys

import click

from nvision_hub.config import Secret

stdin_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from the first line of stdin."
)
env_option = click.option(
    "--password-env", "variable", metavar="VARIABLE", help="Take the password from this variable of the environment."
)


def given(*, from_stdin: bool, variable: str | None) -> Secret | None:
    """The password as the options have it; None where they have none. Raises `UsageError`."""
    if from_stdin and variable is not None:
        raise click.UsageError("--password-stdin and --password-env exclude each other")
    if from_stdin:
        return Secret(sys.stdin.readline().rstrip("\r\n"))
    if variable is not None:
        if variable not in os.environ:
            raise click.UsageError(f"the environment has no variable {variable}; `export {variable}=...` sets it")
        return Secret(os.environ[variable])
    return None


def asked(user: str) -> Secret | None:
    """The password as somebody types it; None where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        return None
    return Secret(click.prompt(f"Password of {user}", hide_input=True, default="", show_default=False, err=True))

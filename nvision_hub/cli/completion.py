"""`completion`: what makes a shell complete verbs, options and the ids of cameras."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from nvision_hub.cli import COMPLETE, PROGRAM

_SHELLS: Final = ("bash", "zsh", "fish")


@click.command(
    epilog="""\b
Examples:
  eval "$(nvision-hub completion bash)"          (in ~/.bashrc)
  nvision-hub completion zsh > "${fpath[1]}/_nvision-hub"
  nvision-hub completion fish > ~/.config/fish/completions/nvision-hub.fish
"""
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete verbs, options and the cameras of cameras.yaml.

    SHELL is bash (4.4 or newer), zsh or fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows these three
    print(kind(context.find_root().command, {}, PROGRAM, COMPLETE).source())

"""`schema`: the JSON Schema of cameras.yaml."""

from __future__ import annotations

import click

from nvision_hub.config import schema_text


@click.command(
    epilog="""\b
Example:
  nvision-hub schema > cameras.schema.json
"""
)
def schema() -> None:
    """Print the JSON Schema (2020-12) of cameras.yaml.

    Saved beside the file, it lets an editor complete keys and underline mistakes: the first line that `nvision-hub
    init` writes names it.
    """
    print(schema_text(), end="")

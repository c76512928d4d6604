"""`models`: show the detection models that come with nvision-hub."""

from __future__ import annotations

from typing import Any

import click

from nvision_hub.cli.options import examples, json_option
from nvision_hub.cli.terminal import columns, print_json
from nvision_hub.hub.standalone_service import MODELS, PackagedModel


@click.group(
    epilog=examples(
        "nvision-hub models list",
        "nvision-hub models show objects",
        "nvision-hub models list --json",
    )
)
def models() -> None:
    """Show the detection models that come with nvision-hub.

    The local service uses them unless cameras.yaml or `service --model` names another file.
    """


@models.command("list")
@json_option
def list_models(*, as_json: bool) -> None:
    """List the models by what they detect, with license and size."""
    found = [_facts(key, model) for key, model in MODELS.items()]
    if as_json:
        print_json(found)
        return
    rows = [(facts["detects"], facts["name"], facts["license"], _size(facts["size_bytes"])) for facts in found]
    print(*columns([("detects", "model", "license", "size"), *rows]), sep="\n")


@models.command("show")
@click.argument("detects", type=click.Choice(sorted(MODELS)))
@json_option
def show_model(detects: str, *, as_json: bool) -> None:
    """Show the model that detects DETECTS: its origin, its file and the hash of its file."""
    facts = _facts(detects, MODELS[detects])
    if as_json:
        print_json(facts)
    else:
        facts["size"] = _size(facts.pop("size_bytes"))
        print(*columns(facts.items()), sep="\n")


def _facts(detects: str, model: PackagedModel) -> dict[str, Any]:
    """Return the facts about a model. `size_bytes` is None if this build of nvision-hub does not contain the model."""
    return {
        "detects": detects,
        "name": model.name,
        "license": model.license,
        "package": model.package,
        "size_bytes": model.path.stat().st_size if model.is_installed else None,
        "sha256": model.sha256,
        "path": str(model.path),
    }


def _size(size_bytes: int | None) -> str:
    return "not installed" if size_bytes is None else f"{size_bytes / 1e6:.1f} MB"

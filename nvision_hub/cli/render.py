"""`render`: the files that put a cameras.yaml to work elsewhere. What is rendered goes to stdout, or into a folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from nvision_hub import __version__, grouping
from nvision_hub.cli.cameras_yaml import config_argument
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.render import compose as compose_file
from nvision_hub.render import kubernetes as manifests
from nvision_hub.render import manuscript, pods
from nvision_hub.render import systemd as unit
from nvision_hub.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nvision_hub.grouping import Group

IMAGE: Final = f"nvision-hub:{__version__}"
image_option = click.option("--image", default=IMAGE, show_default=True, help="The image that runs the hub.")


@click.group(
    epilog="""\b
Examples:
  nvision-hub render kubernetes | kubectl apply -f -
  nvision-hub render systemd --help
"""
)
def render() -> None:
    """Write the files that run a CONFIG (cameras.yaml) on Kubernetes, under systemd or with Compose.

    None holds a secret. What the files need besides is told on stderr.
    """


@render.command(
    epilog="""\b
Examples:
  nvision-hub render kubernetes | kubectl apply -f -
  nvision-hub render kubernetes cameras.yaml --namespace cctv --output manifests
  kubectl apply -k manifests
"""
)
@config_argument
@image_option
@click.option("--namespace", metavar="NAME", help="The namespace of all objects; that of kubectl where left out.")
@click.option(
    "--metrics-from",
    metavar="NAMESPACE",
    default="monitoring",
    show_default=True,
    help="The namespace whose pods may read metrics, besides the hub's own.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write one file a group and a kustomization.yaml there, instead of everything to stdout.",
)
def kubernetes(config_path: Path, image: str, namespace: str | None, metrics_from: str, output: Path | None) -> None:
    """A Deployment for each group of cameras, and what they share.

    Which camera is in which group is kept in a file beside CONFIG (cameras.groups.json), so that a camera that is added
    later moves no other. Keep it with CONFIG; delete it to group anew.
    """
    source = manuscript.read(config_path)
    kept = config_path.with_suffix(".groups.json")
    former = _former(kept)
    groups = grouping.group(source.config.cameras, former=former)
    options = pods.Options(image=image, namespace=namespace, metrics_from=metrics_from)
    rendered = manifests.render(source, groups, options)
    if output is None:
        print(yaml_text([it for objects in rendered.documents.values() for it in objects]), end="")
    else:
        files = {f"{name}.yaml": yaml_text(objects) for name, objects in rendered.documents.items()}
        _write(output, {**files, "kustomization.yaml": yaml_text([manifests.kustomization([*files], options)])})
    _keep(kept, grouping.written(groups))
    _tell([*rendered.notes, *_about(groups, former)])


@render.command(
    epilog="""\b
Example:
  nvision-hub render systemd /etc/nvision-hub/cameras.yaml > /etc/systemd/system/nvision-hub.service
"""
)
@config_argument
@click.option(
    "--program",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The nvision-hub that the unit runs; this one where left out.",
)
def systemd(config_path: Path, program: Path | None) -> None:
    """A unit for this machine: watched, and shut off from all that a hub does not need."""
    rendered = unit.render(manuscript.read(config_path), (program or _program()).absolute())
    print(rendered.text, end="")
    _tell(rendered.notes)


@render.command(
    epilog="""\b
Example:
  nvision-hub render compose cameras.yaml > compose.yaml
"""
)
@config_argument
@image_option
def compose(config_path: Path, image: str) -> None:
    """A Compose file for the hub, and for a broker where redis.url names the host `redis`."""
    print(yaml_text([compose_file.render(manuscript.read(config_path), image)]), end="")


def _program() -> Path:
    found = shutil.which(sys.argv[0])
    if found is None or os.path.basename(found) != "nvision-hub":  # noqa: PTH119 - a name, not a place
        found = shutil.which("nvision-hub")
    if found is None:
        raise UnavailableError(
            "the nvision-hub command is not on the PATH; name it: --program /opt/nvision-hub/bin/nvision-hub"
        )
    return Path(found)


def _former(kept: Path) -> Mapping[str, str]:
    try:
        return grouping.read(kept.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise HubError(f"{kept} cannot be read ({error}); mend its rights") from error
    except HubError as error:
        raise HubError(f"{kept}: {error}") from error


def _keep(kept: Path, text: str) -> None:
    try:
        if not kept.exists() or kept.read_text(encoding="utf-8") != text:
            kept.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HubError(
            f"{kept} cannot be written ({error.strerror}); without it the next rendering may move cameras from group "
            "to group: render from a folder that is yours"
        ) from error


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise HubError(f"{folder} cannot be written ({error.strerror}); name a folder that is yours") from error


def _about(groups: Sequence[Group], former: Mapping[str, str]) -> Iterable[str]:
    yield f"{len(groups)} group{'' if len(groups) == 1 else 's'}: " + ", ".join(
        f"{it.name} ({len(it.cameras)} cameras, {it.millicores / 1000:.1f} cores)" for it in groups
    )
    for it in groups:
        if it.millicores > grouping.MOST_MILLICORES and len(it.cameras) > 1:
            yield f"{it.name} has outgrown {grouping.MOST_MILLICORES / 1000:g} cores; it stays whole, and asks for more"
    gone = sorted(set(former.values()) - {it.name for it in groups})
    for name in gone:
        yield f"kubectl delete deployment,configmap {pods.APP}-{name}   # its last camera has gone"


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"# {note}", file=sys.stderr)

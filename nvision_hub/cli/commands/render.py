"""`render`: write deployment files for a cameras.yaml to stdout or into a folder."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvision_hub import __version__
from nvision_hub.cli import PROGRAM
from nvision_hub.cli.options import config_argument, examples
from nvision_hub.cli.terminal import plural
from nvision_hub.cluster import placement
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.export import compose as compose_file
from nvision_hub.export import kubernetes as manifests
from nvision_hub.export import source_config
from nvision_hub.export import systemd as unit
from nvision_hub.export.yaml_writer import yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nvision_hub.cluster.placement import CameraGroup

image_option = click.option(
    "--image", default=f"nvision-hub:{__version__}", show_default=True, help="The container image of the hub."
)


@click.group(epilog=examples("nvision-hub render kubernetes | kubectl apply -f -", "nvision-hub render systemd --help"))
def render() -> None:
    """Write the files for running CONFIG (cameras.yaml) on Kubernetes, under systemd or with Compose.

    The files contain no secrets. `render` prints further steps, such as creating the secrets, on stderr.
    """


@render.command(
    short_help="A Deployment for each group of cameras.",
    epilog="""\b
Examples:
  nvision-hub render kubernetes | kubectl apply -f -
  nvision-hub render kubernetes cameras.yaml --namespace cctv --output manifests
  kubectl apply -k manifests
""",
)
@config_argument
@image_option
@click.option("--namespace", metavar="NAME", help="The namespace of all objects.  [default: kubectl's]")
@click.option(
    "--metrics-from",
    metavar="NAMESPACE",
    default="monitoring",
    show_default=True,
    help="A namespace whose pods may read metrics, in addition to the hub's namespace.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write shared.yaml, kustomization.yaml and one file per group to this folder instead of stdout.",
)
def kubernetes(config_path: Path, image: str, namespace: str | None, metrics_from: str, output: Path | None) -> None:
    """Write one Deployment per group of cameras, and the objects that all groups share.

    The file cameras.groups.json next to CONFIG records the group of each camera, so that a new camera does not move
    existing cameras to other groups. Keep this file with CONFIG. Delete this file to regroup all cameras.
    """
    source = source_config.read(config_path)
    groups_path = config_path.with_suffix(".groups.json")
    former = _read_groups(groups_path)
    groups = placement.group_cameras(source.config.cameras, previous=former)
    options = manifests.PodOptions(image=image, namespace=namespace, metrics_from=metrics_from)
    documents, notes = manifests.render(source, groups, options)
    if output is None:
        print(yaml_text([it for objects in documents.values() for it in objects]), end="")
    else:
        files = {f"{name}.yaml": yaml_text(objects) for name, objects in documents.items()}
        _write(output, {**files, "kustomization.yaml": yaml_text([manifests.kustomization([*files], options)])})
    _write_groups(groups_path, placement.format_assignment(groups))
    _print_notes(*notes, *_group_notes(groups, former))


@render.command(
    short_help="A systemd unit for this machine.",
    epilog="""\b
Example:
  nvision-hub render systemd /etc/nvision-hub/cameras.yaml > /etc/systemd/system/nvision-hub.service
""",
)
@config_argument
@click.option(
    "--program",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The nvision-hub program that the unit runs.  [default: this program]",
)
def systemd(config_path: Path, program: Path | None) -> None:
    """Write a unit for this machine, with a watchdog and a restrictive sandbox."""
    text, notes = unit.render(source_config.read(config_path), (program or _program()).absolute())
    print(text, end="")
    _print_notes(*notes)


@render.command(
    short_help="A Compose file for the hub and its broker.",
    epilog=examples("nvision-hub render compose cameras.yaml > compose.yaml"),
)
@config_argument
@image_option
def compose(config_path: Path, image: str) -> None:
    """Write a Compose file for the hub, and for a broker if the host in redis.url is `redis`."""
    print(yaml_text([compose_file.render(source_config.read(config_path), image)]), end="")


def _program() -> Path:
    for name in (sys.argv[0], PROGRAM):
        if (found := shutil.which(name)) is not None and Path(found).name == PROGRAM:
            return Path(found)
    raise UnavailableError(
        "the nvision-hub command is not on the PATH; give its path: --program /opt/nvision-hub/bin/nvision-hub"
    )


def _read_groups(path: Path) -> Mapping[str, str]:
    try:
        return placement.parse_assignment(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise HubError(f"cannot read {path} ({error}); correct the file or its permissions") from error
    except HubError as error:
        raise HubError(f"{path}: {error}") from error


def _write_groups(path: Path, text: str) -> None:
    try:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HubError(
            f"cannot write {path} ({error.strerror}); without this file, the next rendering may move cameras to other "
            "groups. Copy the configuration to a writable folder and render it there"
        ) from error


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise HubError(f"cannot write {folder} ({error.strerror}); name a writable folder") from error


def _group_notes(groups: Sequence[CameraGroup], former: Mapping[str, str]) -> Iterable[str]:
    yield f"{plural(len(groups), 'group')}: " + ", ".join(
        f"{it.name} ({plural(len(it.cameras), 'camera')}, {it.millicores / 1000:.1f} cores)" for it in groups
    )
    for it in groups:
        if it.millicores > placement.MAX_MILLICORES and len(it.cameras) > 1:
            yield f"{it.name} needs more than {placement.MAX_MILLICORES / 1000:g} cores, but remains one group"
    for name in sorted(set(former.values()) - {it.name for it in groups}):
        yield f"kubectl delete deployment,configmap {manifests.APP}-{name}   # the group's last camera was removed"


def _print_notes(*notes: str) -> None:
    for note in notes:
        print(f"# {note}", file=sys.stderr)

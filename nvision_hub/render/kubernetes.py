"""Kubernetes manifests for a cameras.yaml: its groups, what they share, and what has to be there before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.tree import Scalar
from nvision_hub.config.url import parse
from nvision_hub.config.variables import REFERENCE
from nvision_hub.errors import ConfigError
from nvision_hub.render.egress import Egress
from nvision_hub.render.pods import (
    APP,
    FILES_SECRET,
    PORT,
    VARIABLES_SECRET,
    labels,
    metadata,
    node_labels,
    objects,
    token_of,
    tree_of,
)
from nvision_hub.render.references import file_keys, references

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.grouping import Group
    from nvision_hub.render.manuscript import Manuscript
    from nvision_hub.render.pods import Options

SHARED: Final = "shared"
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """`documents` by the name of the file that each set may go to; `notes` are sentences for whoever renders."""

    documents: dict[str, list[Any]]
    notes: tuple[str, ...]


def render(manuscript: Manuscript, groups: Sequence[Group], options: Options) -> Rendered:
    """Everything but the Secrets, whose values are nobody's to print.

    Raises `ConfigError` for what cannot run in a pod.
    """
    _check(manuscript)
    trees = [tree_of(manuscript, group, groups) for group in groups]
    egress = Egress.of(manuscript)
    shared = [_monitor(token_of(trees[0]), manuscript, options), _budget(options), _policy(egress, options)]
    documents = {group.name: objects(manuscript, group, groups, options) for group in groups}
    return Rendered(
        documents={SHARED: shared, **documents},
        notes=(*_secrets(manuscript, groups, options), *egress.notes(), *_placements(groups)),
    )


def kustomization(files: Sequence[str], options: Options) -> dict[str, Any]:
    """What makes a folder of those files one thing to `kubectl apply -k`."""
    place = {} if options.namespace is None else {"namespace": options.namespace}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **place,
        "resources": list(files),
    }


def _check(manuscript: Manuscript) -> None:
    config, file = manuscript.config, manuscript.path.name
    problems = []
    redis = manuscript.tree.at(("redis", "url"))
    written = redis.text if isinstance(redis, Scalar) else None
    if config.redis.url.embedded:
        problems.append(
            f"{file}: redis.url: `embedded` is a broker inside of one hub, and the groups need one that they share; "
            "give the address of a Redis or Valkey, such as redis://redis:6379"
        )
    elif config.redis.url.kind == "unix" or (
        written and "://" in written and parse(REFERENCE.sub("x", written)).host in _HERE
    ):
        problems.append(f"{file}: redis.url: inside of a pod this is the pod itself; give the address of a Redis")
    problems += [
        f"{file}: camera {camera.id}: a {camera.url.kind} camera belongs to one machine, and a pod runs on any; "
        "run it with `nvision-hub start` there, and remove it here"
        for camera in config.cameras
        if camera.url.kind in ("usb", "file")
    ]
    if problems:
        raise ConfigError(problems)


def _monitor(token: str, manuscript: Manuscript, options: Options) -> dict[str, Any]:
    found = REFERENCE.fullmatch(token)
    assert found is not None  # noqa: S101 - `token_of` gives one reference
    key = {"name": VARIABLES_SECRET, "key": found["name"]}
    if found["file"]:
        key = {"name": FILES_SECRET, "key": file_keys(references(manuscript.tree).files)[found["file"]]}
    endpoint = {"port": "http", "path": "/metrics", "interval": "15s", "authorization": {"credentials": key}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata(APP, options),
        "spec": {"selector": {"matchLabels": labels()}, "podMetricsEndpoints": [endpoint]},
    }


def _budget(options: Options) -> dict[str, Any]:
    """Nodes are drained one group at a time. A budget for each group, of one pod, would let no node be drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(APP, options),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels()}},
    }


def _policy(egress: Egress, options: Options) -> dict[str, Any]:
    theirs = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": options.metrics_from}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(APP, options),
        "spec": {
            "podSelector": {"matchLabels": labels()},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}, theirs], "ports": [{"protocol": "TCP", "port": PORT}]}],
            "egress": egress.rules(),
        },
    }


def _secrets(manuscript: Manuscript, groups: Sequence[Group], options: Options) -> Iterator[str]:
    """How to make what the pods will ask for. Values from files: an argument would be seen by every `ps`."""
    asked = [references(tree_of(manuscript, group, groups)) for group in groups]
    required: dict[str, bool] = {}
    for each in asked:
        for name, must in each.variables.items():
            required[name] = required.get(name, False) or must
    keys = file_keys(references(manuscript.tree).files)
    files = {file: keys[file] for file in keys if any(file in each.files for each in asked)}
    place = f" --namespace {options.namespace}" if options.namespace else ""
    origin = {literal.name: f" ({literal.key}, {literal.where})" for literal in manuscript.literals}
    names = [
        f"{name}{origin.get(name, '' if must else ' (may be left out)')}" for name, must in sorted(required.items())
    ]
    yield (
        f"kubectl create secret generic {VARIABLES_SECRET}{place} --from-env-file=hub.env   "
        f"# once, hub.env a file of mode 0600 with a line NAME=value for each of: {', '.join(names)}"
    )
    if files:
        given = " ".join(f"--from-file={key}={file}" for file, key in files.items())
        yield f"kubectl create secret generic {FILES_SECRET}{place} {given}"


def _placements(groups: Sequence[Group]) -> Iterator[str]:
    wanted = {f"{key}={value}" for group in groups for key, value in node_labels(group).items()}
    if wanted:
        yield f"nodes with these labels are preferred (kubectl label node NODE ...): {', '.join(sorted(wanted))}"
    for placement in {group.placement: None for group in groups}:
        found = [group for group in groups if group.placement == placement]
        if len(node_labels(found[0])) < len(placement):
            yield f"of the placement {dict(placement)} of {found[0].name}, what no node's label can hold is passed over"

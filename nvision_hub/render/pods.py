"""One group of cameras as Kubernetes runs it: a Deployment and the ConfigMap with its cameras.yaml.

Pure: a manuscript and a group in, plain objects out. What all groups share is in `kubernetes.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.problem import WHOLE_FILE
from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence
from nvision_hub.config.variables import REFERENCE
from nvision_hub.render.references import References, file_keys, references, with_files_at
from nvision_hub.render.yaml_text import plain, yaml_text

if TYPE_CHECKING:
    from collections.abc import Sequence as AbstractSequence

    from nvision_hub.grouping import Group
    from nvision_hub.render.manuscript import Manuscript

APP: Final = "nvision-hub"
PORT: Final = 8080
TOKEN: Final = "NVISION_HUB_TOKEN"  # noqa: S105 - a variable's name
VARIABLES_SECRET: Final = "nvision-hub"  # noqa: S105 - an object's name
FILES_SECRET: Final = "nvision-hub-files"  # noqa: S105 - an object's name
CONFIG_DIR: Final = "/etc/nvision-hub"
SECRETS_DIR: Final = "/run/secrets/nvision-hub"
VOLUME: Final = "/var/lib/nvision-hub"
STATE_DIR: Final = f"{VOLUME}/state"  # the volume itself is open to its group, and the hub wants one that is its own
USER: Final = 10001  # as in the image
GRACE_S: Final = 30  # the hub needs 8.5 s at most; the node may be slow
_CARRIED: Final = ("webhooks", "mqtt")  # read the results of all cameras: one hub does it for all

# Beyond the cameras' own, in thousandths of a core and MiB: supervisor and gateway, and the local service.
_HUB_MILLICORES, _HUB_MIB = 200, 256
_SERVICE_MILLICORES, _SERVICE_MIB = 1000, 512
_CAMERA_MIB: Final = 48  # 22 measured at 720p, more with larger pictures
_SPIKE_MIB: Final = 1024  # what one camera may take beyond, before it alone is refused more
_LOGS_MIB: Final = 32  # of each camera's, on disk
_WELL_KNOWN: Final = {"zone": "topology.kubernetes.io/zone", "region": "topology.kubernetes.io/region"}
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What whoever renders may choose."""

    image: str
    namespace: str | None = None  # None: whichever the objects are applied to
    metrics_from: str = "monitoring"  # the namespace whose pods may read metrics


def metadata(name: str, options: Options, group: str | None = None) -> dict[str, Any]:
    """Name, namespace and labels of an object."""
    place = {} if options.namespace is None else {"namespace": options.namespace}
    return {"name": name, **place, "labels": labels(group)}


def labels(group: str | None = None) -> dict[str, str]:
    """By which pods are found: those of one group, or all of them."""
    return {"app.kubernetes.io/name": APP, **({} if group is None else {"app.kubernetes.io/instance": group})}


def tree_of(manuscript: Manuscript, group: Group, groups: AbstractSequence[Group]) -> Mapping:
    """cameras.yaml as this group runs it. The first group carries what is done once for all."""
    tree = manuscript.tree
    ids = {camera.id: index for index, camera in enumerate(manuscript.config.cameras)}
    written = tree.child("cameras")
    assert isinstance(written, Sequence)  # noqa: S101 - the configuration demands it
    values = {key: value for key, value in tree.values.items() if key not in (*_CARRIED, "elsewhere")}
    values["state_dir"] = _scalar(STATE_DIR)
    values["gateway"] = _gateway(tree)
    theirs = [written.items[index] for camera, index in ids.items() if camera in group.cameras]
    values["cameras"] = _sequence([_placed_already(camera) for camera in theirs])
    if "defaults" in values:
        values["defaults"] = _placed_already(values["defaults"])
    if group is groups[0]:
        values |= {key: tree.values[key] for key in _CARRIED if key in tree.values}
        named = {camera for webhook in manuscript.config.webhooks for camera in webhook.cameras or ()}
        if others := sorted(named - {*group.cameras}):
            values["elsewhere"] = _sequence([_scalar(camera) for camera in others])
    return Mapping(place=WHOLE_FILE, values=values)


def _placed_already(settings: Node) -> Node:
    """Without the labels that have led here."""
    if not isinstance(settings, Mapping):
        return settings
    return replace(settings, values={key: value for key, value in settings.values.items() if key != "placement"})


def token_of(tree: Mapping) -> str:
    """The gateway's token as a group's cameras.yaml writes it: one reference."""
    node = tree.at(("gateway", "token"))
    assert isinstance(node, Scalar)  # noqa: S101 - `tree_of` wrote it
    assert node.text is not None  # noqa: S101 - as above
    return node.text


def _gateway(tree: Mapping) -> Mapping:
    """Reachable from outside of the pod, and so always under a token."""
    given = tree.child("gateway")
    values = dict(given.values) if isinstance(given, Mapping) else {}
    token = values.get("token")
    text = token.text if isinstance(token, Scalar) else None
    found = REFERENCE.fullmatch(text or "")
    if found is None or found["name"]:
        text = f"${{{found['name'] if found else TOKEN}}}"  # without a default: it has to be there
    values |= {"listen": _scalar(f"0.0.0.0:{PORT}"), "token": _scalar(text)}
    return Mapping(place=WHOLE_FILE, values=values)


def objects(manuscript: Manuscript, group: Group, groups: AbstractSequence[Group], options: Options) -> list[Any]:
    """The ConfigMap and the Deployment of one group."""
    tree = tree_of(manuscript, group, groups)
    asked = references(tree)
    keys = file_keys(references(manuscript.tree).files)
    tree = with_files_at(tree, {file: f"{SECRETS_DIR}/{key}" for file, key in keys.items()})
    name = f"{APP}-{group.name}"
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, options, group.name),
        "data": {"cameras.yaml": yaml_text([plain(tree)])},
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_placed(group),
        "containers": [_container(manuscript, group, asked, options)],
        "volumes": _volumes(manuscript, group, name, {file: keys[file] for file in asked.files}),
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, options, group.name),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two at once would stream each camera twice
            "selector": {"matchLabels": labels(group.name)},
            "template": {"metadata": {"labels": labels(group.name)}, "spec": pod},
        },
    }
    return [config, deployment]


def _container(manuscript: Manuscript, group: Group, asked: References, options: Options) -> dict[str, Any]:
    mounts = [
        {"name": "config", "mountPath": CONFIG_DIR, "readOnly": True},
        {"name": "state", "mountPath": VOLUME},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the container
    ]
    if asked.files:
        mounts.append({"name": "secrets", "mountPath": SECRETS_DIR, "readOnly": True})
    return {
        "name": "hub",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["start", f"{CONFIG_DIR}/cameras.yaml"],
        "env": [_variable(name, required=required) for name, required in asked.variables.items()],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe("/healthz", every_s=2, failures=30),
        "livenessProbe": _probe("/healthz", every_s=10, failures=6),
        "readinessProbe": _probe("/readyz", every_s=10, failures=3),
        "resources": _resources(manuscript, group),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _variable(name: str, *, required: bool) -> dict[str, Any]:
    key = {"name": VARIABLES_SECRET, "key": name, **({} if required else {"optional": True})}
    return {"name": name, "valueFrom": {"secretKeyRef": key}}


def _probe(path: str, *, every_s: int, failures: int) -> dict[str, Any]:
    asked = {"path": path, "port": "http"}
    return {"httpGet": asked, "periodSeconds": every_s, "timeoutSeconds": 5, "failureThreshold": failures}


def _volumes(manuscript: Manuscript, group: Group, config_map: str, files: dict[str, str]) -> list[dict[str, Any]]:
    spool_mib = manuscript.config.redis.spool_max_bytes // 2**20
    disk_mib = len(group.cameras) * (spool_mib + _LOGS_MIB) + _HUB_MIB
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": config_map}},
        {"name": "state", "emptyDir": {"sizeLimit": f"{disk_mib}Mi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]
    if files:
        items = [{"key": key, "path": key} for key in files.values()]
        volumes.append(
            {"name": "secrets", "secret": {"secretName": FILES_SECRET, "items": items, "defaultMode": 0o440}}
        )
    return volumes


def _resources(manuscript: Manuscript, group: Group) -> dict[str, Any]:
    """No limit on the processor: a hub that is throttled sends old pictures, one that has to share does not."""
    local = any(manuscript.config.camera(camera).nvision.url.local for camera in group.cameras)
    cpu = group.millicores + _HUB_MILLICORES + (_SERVICE_MILLICORES if local else 0)
    mib = len(group.cameras) * _CAMERA_MIB + _HUB_MIB + (_SERVICE_MIB if local else 0)
    return {"requests": {"cpu": f"{cpu}m", "memory": f"{mib}Mi"}, "limits": {"memory": f"{2 * mib + _SPIKE_MIB}Mi"}}


def node_labels(group: Group) -> dict[str, str]:
    """The labels of the nodes that a group would rather run on; without those that no node can have."""
    wanted = {_WELL_KNOWN.get(key, f"{APP}/{key}"): value for key, value in sorted(group.placement.items())}
    fit = {key: value for key, value in wanted.items() if _LABEL_VALUE.fullmatch(key.rpartition("/")[2])}
    return {key: value for key, value in fit.items() if _LABEL_VALUE.fullmatch(value)}


def _placed(group: Group) -> dict[str, Any]:
    """On nodes with the labels of its placement where there are any with room, and beside few other groups."""
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels()},
    }
    wanted = node_labels(group)
    placed: dict[str, Any] = {"topologySpreadConstraints": [spread]}
    if wanted:
        matches = [{"key": key, "operator": "In", "values": [value]} for key, value in wanted.items()]
        rather = [{"weight": 100, "preference": {"matchExpressions": matches}}]
        placed["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": rather}}
    return placed


def _scalar(text: str | None) -> Scalar:
    return Scalar(place=WHOLE_FILE, text=text)


def _sequence(items: list[Any]) -> Sequence:
    return Sequence(place=WHOLE_FILE, items=items)

"""Kubernetes manifests for a cameras.yaml: a Deployment and a ConfigMap per group, shared objects, and notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.cluster.group_config import (
    SHARED_SECTIONS,
    group_config,
    hub_millicores,
    node_labels,
    uses_local_service,
)
from nvision_hub.config.variables import REFERENCE
from nvision_hub.errors import ConfigError
from nvision_hub.export import templates
from nvision_hub.export.network_policy import egress
from nvision_hub.export.variable_refs import file_keys, references, with_file_paths
from nvision_hub.export.yaml_writer import yaml_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nvision_hub.cluster.placement import CameraGroup
    from nvision_hub.errors import Diagnostic
    from nvision_hub.export.source_config import SourceConfig
    from nvision_hub.export.variable_refs import SecretRefs

APP: Final = "nvision-hub"
SECRETS_DIR: Final = "/run/secrets/nvision-hub"
SHARED: Final = "shared"
_TOKEN: Final = "NVISION_HUB_TOKEN"  # noqa: S105 - the name of a variable
_VARIABLES_SECRET: Final = "nvision-hub"  # noqa: S105 - the name of an object
_FILES_SECRET: Final = "nvision-hub-files"  # noqa: S105 - the name of an object
# fsGroup makes the volume /var/lib/nvision-hub group-writable, but the hub needs a folder that only it can access.
_STATE_DIR: Final = "/var/lib/nvision-hub/state"
_INSECURE_REASON: Final = "TLS ends at the ingress; the network policy admits only this namespace and Prometheus"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_HUB_MIB: Final = 256  # for the supervisor and the gateway
_SERVICE_MIB: Final = 512
_CAMERA_MIB: Final = 48  # measured: 22 at 720p; larger frames need more
_SPIKE_MIB: Final = 1024  # one camera may exceed its share by this amount before its own memory limit applies
_LOGS_MIB: Final = 32  # per camera, on disk
_WELL_KNOWN: Final = {"zone": "topology.kubernetes.io/zone", "region": "topology.kubernetes.io/region"}


@dataclass(frozen=True, kw_only=True)
class PodOptions:
    """Options of `render kubernetes`."""

    image: str
    namespace: str | None = None  # None selects the namespace that kubectl uses
    metrics_from: str = "monitoring"  # namespace whose pods may read metrics


def render(
    source: SourceConfig, groups: Sequence[CameraGroup], options: PodOptions
) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the documents by file name (without the suffix), and notes for the user.

    The documents contain no Secrets, because `render` must not print secret values. Raises `ConfigError` for settings
    that cannot work in a pod.
    """
    if diagnostics := [*_problems(source)]:
        raise ConfigError(diagnostics)
    keys = file_keys(references(source.data).files)
    configs = {group.name: _config_data(source, group, groups) for group in groups}
    token = _metrics_token(configs[groups[0].name]["gateway"])  # contains at least one reference
    egress_rules, egress_notes = egress(source)
    shared = templates.documents(
        "shared.yaml",
        namespace=options.namespace,
        credentials={"name": _FILES_SECRET, "key": keys[token.files[0]]}
        if token.files
        else {"name": _VARIABLES_SECRET, "key": next(iter(token.variables))},
        metrics_from=options.metrics_from,
        egress=egress_rules,
    )
    documents = {group.name: _objects(source, group, configs[group.name], keys, options) for group in groups}
    notes = [*_secrets(source, configs.values(), keys, options), *egress_notes, *_files(source), *_placements(groups)]
    return {SHARED: shared, **documents}, notes


def kustomization(files: Sequence[str], options: PodOptions) -> dict[str, Any]:
    """Return the kustomization.yaml for a folder with these files, for `kubectl apply -k`."""
    (document,) = templates.documents("kustomization.yaml", namespace=options.namespace, files=list(files))
    return document


def _problems(source: SourceConfig) -> Iterator[Diagnostic]:
    config = source.config
    if not config.cameras:
        message = "no file that `include` names contains a camera, so there is no pod to run"
        yield source.diagnostic(message, "add a camera", "cameras")
    if config.redis.url.embedded:
        message = "`embedded` is a broker inside one hub, but the groups need a shared broker"
        fix = "give the address of a Redis or Valkey, such as redis://redis:6379"
        yield source.diagnostic(message, fix, "redis", "url")
    elif config.redis.url.scheme == "unix" or source.redis_host in _LOOPBACK:
        message = "inside a pod, this address refers to the pod itself"
        yield source.diagnostic(message, "give the address of a Redis server", "redis", "url")
    for camera in config.cameras:
        if camera.url.kind in ("usb", "file"):
            message = f"camera {camera.id}: a {camera.url.kind} camera belongs to one machine, but pods run on any node"
            fix = "run the camera with `nvision-hub start` on its machine, and remove it from this file"
            yield source.diagnostic(message, fix)


def _config_data(source: SourceConfig, group: CameraGroup, groups: Sequence[CameraGroup]) -> dict[str, Any]:
    """Return the cameras.yaml of a group as plain data. The first group runs webhooks and MQTT for all groups."""
    data = source.data
    values = group_config(data, source.config, group)
    values["state_dir"] = _STATE_DIR
    values["gateway"] = _gateway(data.get("gateway"))
    if group is groups[0]:
        values |= {key: data[key] for key in SHARED_SECTIONS if key in data}
        named = {camera for webhook in source.config.webhooks for camera in webhook.cameras or ()}
        if others := sorted(named - {*group.cameras}):
            values["elsewhere"] = others
    return values


def _gateway(section: Any) -> dict[str, Any]:
    """Return the gateway section for a pod.

    The gateway always requires a token, because other pods can reach it. An ingress or a service mesh provides TLS,
    because neither the kubelet's probes nor the pods have a certificate.
    """
    values = dict(section) if isinstance(section, dict) else {}
    values.pop("tls", None)
    token = str(values.get("token") or "")
    found = REFERENCE.fullmatch(token)
    if found is None or found["name"]:
        token = f"${{{found['name'] if found else _TOKEN}}}"  # the reference has no default, so the token is required
    listeners = {"listen": "0.0.0.0:8080", "health_listen": "0.0.0.0:8081"}
    return values | listeners | {"insecure": True, "token": token}


def _metrics_token(gateway: Mapping[str, Any]) -> SecretRefs:
    """Return the reference to a token for Prometheus, preferably a token that allows only reading the metrics."""
    tokens = gateway.get("tokens")
    for entry in tokens.values() if isinstance(tokens, dict) else ():
        found = references(entry)
        if isinstance(entry, dict) and entry.get("role") == "metrics" and (found.files or found.variables):
            return found
    return references(gateway["token"])


def _objects(
    source: SourceConfig, group: CameraGroup, data: dict[str, Any], keys: Mapping[str, str], options: PodOptions
) -> list[Any]:
    """Return the ConfigMap and the Deployment of a group. `data` is the cameras.yaml of the group."""
    needed = references(data)
    cameras, config = len(group.cameras), source.config
    mib = cameras * _CAMERA_MIB + _HUB_MIB + (_SERVICE_MIB if uses_local_service(config, group) else 0)
    disk_mib = cameras * (config.redis.spool_max_bytes // 2**20 + _LOGS_MIB) + _HUB_MIB
    secret = {
        "secretName": _FILES_SECRET,
        "items": [{"key": keys[file], "path": keys[file]} for file in needed.files],
        "defaultMode": 0o440,
    }
    mount = {"name": "secrets", "mountPath": SECRETS_DIR, "readOnly": True}
    return templates.documents(
        "group.yaml",
        name=f"{APP}-{group.name}",
        namespace=options.namespace,
        group=group.name,
        cameras_yaml=_cameras_yaml(data, keys),
        affinity=_affinity(group),
        image=options.image,
        env=[_variable(name, required=required) for name, required in needed.variables.items()],
        cpu=f"{hub_millicores(config, group)}m",
        memory=f"{mib}Mi",
        memory_limit=f"{2 * mib + _SPIKE_MIB}Mi",
        disk=f"{disk_mib}Mi",
        secrets_mount=mount if needed.files else None,
        secrets_volume={"name": "secrets", "secret": secret} if needed.files else None,
    )


def _cameras_yaml(data: dict[str, Any], keys: Mapping[str, str]) -> str:
    text = yaml_text([with_file_paths(data, {file: f"{SECRETS_DIR}/{key}" for file, key in keys.items()})])
    return text.replace("  insecure: true\n", f"  insecure: true  # {_INSECURE_REASON}\n", 1)


def _variable(name: str, *, required: bool) -> dict[str, Any]:
    key = {"name": _VARIABLES_SECRET, "key": name, **({} if required else {"optional": True})}
    return {"name": name, "valueFrom": {"secretKeyRef": key}}


def _affinity(group: CameraGroup) -> dict[str, Any] | None:
    labels = _preferred_node_labels(group)
    matches = [{"key": key, "operator": "In", "values": [value]} for key, value in labels.items()]
    preference = {"weight": 100, "preference": {"matchExpressions": matches}}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}} if matches else None


def _preferred_node_labels(group: CameraGroup) -> dict[str, str]:
    return {_WELL_KNOWN.get(key, f"{APP}/{key}"): value for key, value in node_labels(group.placement).items()}


def _secrets(
    source: SourceConfig, configs: Iterable[dict[str, Any]], keys: Mapping[str, str], options: PodOptions
) -> Iterator[str]:
    """Yield the commands that create the Secrets.

    Values come from files, because `ps` shows all users the arguments.
    """
    needed = references(list(configs))
    namespace = f" --namespace {options.namespace}" if options.namespace else ""
    origin = {literal.name: f" ({literal.key}, {literal.where})" for literal in source.literals}
    names = [f"{name}{origin.get(name, '' if must else ' (optional)')}" for name, must in needed.variables.items()]
    yield (
        f"kubectl create secret generic {_VARIABLES_SECRET}{namespace} --from-env-file=hub.env   "
        f"# run once; hub.env (mode 0600) contains a line NAME=value for each of: {', '.join(names)}"
    )
    if needed.files:
        arguments = " ".join(f"--from-file={keys[file]}={file}" for file in needed.files)
        yield f"kubectl create secret generic {_FILES_SECRET}{namespace} {arguments}"


def _files(source: SourceConfig) -> Iterator[str]:
    """If pods need files that no Secret contains, yield a note about these files."""
    tls = source.tree.at(("redis", "tls"))
    paths = [] if tls is None else [scalar.text for _, scalar in tls.scalars() if scalar.text]
    if paths:
        yield f"mount the files of redis.tls into every pod, at these absolute paths: {', '.join(paths)}"


def _placements(groups: Sequence[CameraGroup]) -> Iterator[str]:
    wanted = {f"{key}={value}" for group in groups for key, value in _preferred_node_labels(group).items()}
    if wanted:
        yield f"pods prefer nodes with these labels (kubectl label node NODE ...): {', '.join(sorted(wanted))}"
    for placement, group in {group.placement: group for group in reversed(groups)}.items():
        if len(_preferred_node_labels(group)) < len(placement):
            yield f"placement {dict(placement)} of {group.name}: labels that no node can have are ignored"

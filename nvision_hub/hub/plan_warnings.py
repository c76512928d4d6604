"""Warnings about a valid configuration: settings that have no effect, weak protection, and active overrides."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.cluster.fleet_key import missing_fleet_key
from nvision_hub.config.include_pattern import matching_files
from nvision_hub.config.url import is_ip
from nvision_hub.hub.gateway_access import access_warnings
from nvision_hub.hub.ledger_plan import has_limits
from workers.webhooks.ssrf import is_public

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.models import Camera, Config
    from nvision_hub.hub.runtime_overrides import Overrides


IMAGE_BYTES: Final = 100_000  # size of an image in a result: the JPEG of a busy 1280x720 frame (70 kB) in base64
# Minimum time for which results should be kept; consumers can then catch up after an outage of this length.
MIN_KEPT_S: Final = 3600.0


def plan_warnings(
    config: Config, cameras: Sequence[Camera], overrides: Overrides, identity: HubIdentity | None
) -> list[str]:
    """Return the warnings that `check`, `start` and a reload print."""
    warnings = []
    no_key = missing_fleet_key(config, is_in_fleet=identity is not None)
    if no_key is not None and identity is not None:
        warnings.append(f"{config.path.name}: {no_key}")
    if placed := ", ".join(camera.id for camera in cameras if camera.placement):
        warnings.append(
            f"{config.path.name}: placement (camera {placed}): this `start` runs all cameras on this machine; "
            "`start --engine ray` and `render kubernetes` use the placement"
            + (f". {no_key}" if no_key is not None and identity is None else "")
        )
    warnings += access_warnings(config)
    warnings += [f"{config.path.name}: {text}" for text in include_warnings(config)]
    warnings += [f"{config.path.name}: {text}" for text in _ineffective(config, cameras)]
    if config.redis.url.embedded and config.redis.embedded_open:
        warnings.append(
            f"{config.path.name}: redis.embedded_open: every user of this machine can read, forge and delete results; "
            "remove this setting, and connect with the address that `nvision-hub status` shows"
        )
    warnings += [
        f"{config.path.name}: camera {camera.id}: {text}" for camera in cameras if (text := tls_warning(camera))
    ]
    if (no_login := login_warning(config, cameras, overrides)) is not None:
        warnings.append(no_login)
    if overrides:
        warnings.append(f"run-time overrides still in effect: {overrides.summary()}")
    if (invalid := overrides.set_aside) is not None:
        warnings.append(
            f"stored run-time changes without effect, because they are invalid: "
            f"{', '.join(dict.fromkeys([*invalid.settings, *invalid.added]))}; correct cameras.yaml, or make these "
            "changes again"
        )
    return warnings


def include_warnings(config: Config) -> Iterator[str]:
    """Yield a warning for each pattern of `include` that matches no file."""
    for pattern in config.include:
        with contextlib.suppress(OSError):  # the next reload reports it
            if not matching_files(config.path.parent, [pattern]):
                yield f"include: no file matches {pattern}, so it adds no camera"


def _ineffective(config: Config, cameras: Sequence[Camera]) -> Iterator[str]:
    """Yield a message for each camera, webhook or limit that cannot work as configured."""
    for camera in cameras:
        if camera.address.kind == "file" and not Path(camera.address.path).is_file():
            yield f"camera {camera.id}: the file {camera.address.path} does not exist; correct its `url`"
    for webhook in config.webhooks:
        if not webhook.allow_private and _is_private(webhook.url.host):
            yield (
                f"webhook {webhook.id}: {webhook.url.host} is not a public address, so no delivery will succeed; set "
                "allow_private: true on this webhook"
            )
    if config.budget.price_per_image is not None and not has_limits(config, cameras):
        yield (
            "budget.price_per_image has no effect, because the hub counts images only with a limit; add one, such as "
            "images_per_month"
        )
    with_images = [
        camera for camera in cameras if camera.nvision.output_cropped_image or camera.nvision.output_visualized_image
    ]
    if rate := sum(camera.fps for camera in with_images):
        kept_s = config.redis.stream_max_bytes / (rate * IMAGE_BYTES)
        if kept_s < MIN_KEPT_S:
            yield (
                f"cameras {', '.join(camera.id for camera in with_images)} return images, so redis.stream_max_bytes "
                f"keeps only about the last {kept_s / 60:.0f} min of results; raise it, or remove "
                "nvision.output_cropped_image and nvision.output_visualized_image"
            )


def _is_private(host: str) -> bool:
    """Return whether a host is an address of this machine or its network. Performs no name lookup."""
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    return is_ip(host) and not is_public(host)


def login_warning(config: Config, cameras: Sequence[Camera], overrides: Overrides) -> str | None:
    """Return a warning if cameras added at run time have no login although `defaults` has one."""
    if config.defaults.username is None and config.defaults.password is None:
        return None
    added = [camera for camera in cameras if camera.id in overrides.added]
    names = ", ".join(each.id for each in added if each.address.host and each.address.username is None)
    if not names:
        return None
    return (
        f"cameras added at run time ({names}) do not receive the user name and password of `defaults`; to change this, "
        "add their hosts to `gateway.camera_hosts`"
    )


def tls_warning(camera: Camera) -> str | None:
    """Return a warning if the camera uses TLS but the hub does not verify the camera's identity."""
    if camera.tls is None or camera.tls.mode != "insecure" or not camera.address.is_encrypted:
        return None
    return (
        "tls: insecure: the hub sends the password to any device that answers at this camera's address; set "
        f"`tls: fingerprint:<sha256>` (`nvision-hub probe {camera.id}` shows the fingerprint)"
    )

"""The sections `budget` of the site and of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.budget.allocator import SiteBudget
from nvision_hub.budget.periods import Period
from nvision_hub.cluster.identity import HubIdentity
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError
from nvision_hub.hub.composition import plan
from nvision_hub.hub.resources import HubResources

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config


def loaded(folder: Path, budget: str, camera: str = "") -> Config:
    file = folder / "cameras.yaml"
    file.write_text(
        f"gateway: {{listen: none}}\nbudget: {budget}\ncameras: [{{id: a, url: 'rtsp://10.0.0.5/'{camera}}}]\n"
    )
    return load(file, environ={})


def names(config: Config) -> list[str]:
    return [spec.name for spec in plan(config).children]


def test_the_limits_of_a_site_and_a_camera(tmp_path: Path) -> None:
    text = "{images_per_second: 20, images_per_day: 200000, time_zone: Asia/Bangkok, pacing: none}"
    config = loaded(tmp_path, text, ", priority: high, budget: {images_per_hour: 100}")
    assert config.budget.site == SiteBudget(
        per_second={"all": 20}, per_period={Period.DAY: 200_000}, time_zone="Asia/Bangkok", is_even=False
    )
    assert config.cameras[0].budget.per_period == {Period.HOUR: 100}
    assert config.cameras[0].priority == "high"


def test_each_service_may_have_a_rate(tmp_path: Path) -> None:
    config = loaded(tmp_path, "{images_per_second: {object-detection: 20, face-detection: 5}}")
    assert config.budget.site.per_second == {"object-detection": 20, "face-detection": 5}


@pytest.mark.parametrize(
    "budget", ["{}", "{time_zone: UTC, pacing: even}", "{images_per_day: }", "{images_per_second: }"]
)
def test_without_a_limit_there_is_no_ledger(tmp_path: Path, budget: str) -> None:
    assert "ledger" not in names(loaded(tmp_path, budget))


def test_a_limit_of_a_camera_needs_the_ledger(tmp_path: Path) -> None:
    config = loaded(tmp_path, "{}", ", budget: {images_per_month: 5}")
    assert "ledger" in names(config)
    camera: Any = plan(config).children[-1]
    assert camera.settings.ledger.wanted.per_period == {Period.MONTH: 5}


def test_a_hub_of_a_fleet_rejects_limits(tmp_path: Path) -> None:
    config = loaded(tmp_path, "{images_per_day: 5}")
    identity = HubIdentity(group="0", holder="0-a")
    with pytest.raises(ConfigError, match="budget: limits are not supported with several hubs yet"):
        plan(config, resources=HubResources(identity=identity))


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{images_per_second: 0}", "budget.images_per_second: must be a whole number from 1 to 10000"),
        ("{images_per_second: {faces: 5}}", "budget.images_per_second.faces: unknown key"),
        ("{images_per_day: many}", "budget.images_per_day: must be a whole number from 1 to 1000000000000"),
        ("{pacing: evn}", "budget.pacing: must be `even` or `none`; did you mean `even`?"),
    ],
)
def test_an_invalid_budget_is_an_error_with_its_place(tmp_path: Path, section: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, section)
    assert problem in str(caught.value)


def test_a_price_without_a_limit_is_a_warning(tmp_path: Path) -> None:
    text = "price_per_image: 0.0004, currency: USD"
    assert any(
        "budget.price_per_image has no effect" in each for each in plan(loaded(tmp_path, f"{{{text}}}")).warnings
    )
    limited = plan(loaded(tmp_path, f"{{{text}, images_per_day: 5}}"))
    assert not any("price_per_image" in each for each in limited.warnings)
    gateway: Any = next(spec.settings for spec in limited.children if spec.name == "gateway")
    assert (gateway.usage.price_per_image, gateway.usage.currency) == (0.0004, "USD")

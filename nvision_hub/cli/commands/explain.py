"""`explain`: show why a camera of the running hub sends at its current rate."""

from __future__ import annotations

from dataclasses import asdict

import click

from nvision_hub.cli.api_client import LABEL, ApiClient
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import command, complete_camera, json_option
from nvision_hub.cli.rate_explanation import RateExplanation, explain_rate
from nvision_hub.cli.terminal import columns, print_json
from nvision_hub.control_characters import printable
from nvision_hub.errors import HubError


@command(
    "nvision-hub explain lobby",
    "nvision-hub explain label:floor=1",
    "nvision-hub explain lobby --json | jq -r '.limits[].sentence'",
)
@click.argument("camera", shell_complete=complete_camera)
@hub_options
@json_option
def explain(camera: str, chosen: HubOptions, *, as_json: bool) -> None:
    """Explain why CAMERA sends at its current rate.

    CAMERA is the id of a camera, or label:NAME=VALUE for all cameras with this label.

    The command lists each limit that applies now, in the order in which the limits apply to a frame: configuration,
    pause, schedule, state of the camera, motion, the camera's own rate, budget, rate of the account, service and
    machine. Rates are averages of the last ten seconds.
    """
    with ApiClient(chosen) as api:
        explained = [_explained(api, each["id"]) for each in api.select([camera])]
    if as_json:
        listed = [asdict(each) for each in explained]
        print_json({"cameras": listed} if camera.startswith(LABEL) else listed[0])
        return
    for each in explained:
        for line in _lines(each):
            print(printable(line))


def _explained(api: ApiClient, camera: str) -> RateExplanation:
    facts, history = api.call("GET", f"/cameras/{camera}"), api.call("GET", f"/cameras/{camera}/history")
    try:
        return explain_rate(facts, history)
    except KeyError as error:  # a hub that has run since before an upgrade reports fewer facts
        raise HubError(f"the hub runs an older version, which does not report {error}; restart the hub") from error


def _lines(explained: RateExplanation) -> list[str]:
    target = "" if explained.fps is None else f" of {explained.fps:g}"
    rows = [(f"  {limit.limit.replace('_', ' ')}", limit.sentence) for limit in explained.limits]
    return [f"{explained.camera} sends {explained.rate_out:g}{target} frames per second", *columns(rows)]

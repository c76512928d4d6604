"""The hub: composed from its configuration, checked against its machine, run, and renewed while it runs."""

from nvision_hub.hub.addresses import Addresses, addresses_of
from nvision_hub.hub.composition import STAGE_BROKER, STAGE_CAMERAS, STAGE_PEERS, Places, Plan, cache_dir, plan
from nvision_hub.hub.run import start
from nvision_hub.hub.run_time import RunTime, read
from nvision_hub.hub.surroundings import ask_redis, check_surroundings

__all__ = [
    "STAGE_BROKER",
    "STAGE_CAMERAS",
    "STAGE_PEERS",
    "Addresses",
    "Places",
    "Plan",
    "RunTime",
    "addresses_of",
    "ask_redis",
    "cache_dir",
    "check_surroundings",
    "plan",
    "read",
    "start",
]

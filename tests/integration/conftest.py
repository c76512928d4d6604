"""Fixtures of the integration tests. They are defined in tests/support, one file per server that tests talk to."""

from __future__ import annotations

from tests.support.browser import browser, demo_hub, open_page
from tests.support.camera_programs import camera_programs
from tests.support.camera_worker import start_worker
from tests.support.command import broken_opencv, start_command
from tests.support.datagram_camera import datagram_camera
from tests.support.dispatching import dispatch
from tests.support.examples import start_example
from tests.support.fleet import start_fleet
from tests.support.gateway import start_gateway
from tests.support.home_assistant import home_assistant
from tests.support.http_camera import http_camera
from tests.support.hub import start_hub
from tests.support.hubs import hubs
from tests.support.line import line
from tests.support.local_service import local_service
from tests.support.mosquitto import mosquitto, subscribe
from tests.support.onvif_camera import onvif_network
from tests.support.onvif_device import onvif_device
from tests.support.other_user import open_folder
from tests.support.prometheus import prometheus
from tests.support.ray_cluster import ray_cluster
from tests.support.receiver import receiver
from tests.support.recorder import recorder
from tests.support.redis_server import debian_redis, kept_valkey, redis_server
from tests.support.redis_topologies import redis_cluster, sentinel_set
from tests.support.rtsp import demo_server, gst_camera
from tests.support.scripted_camera import scripted_camera
from tests.support.slow_link import slow_link
from tests.support.unknown_codec import unknown_codec
from tests.support.watching import watch

__all__ = [
    "broken_opencv",
    "browser",
    "camera_programs",
    "datagram_camera",
    "debian_redis",
    "demo_hub",
    "demo_server",
    "dispatch",
    "gst_camera",
    "home_assistant",
    "http_camera",
    "hubs",
    "kept_valkey",
    "line",
    "local_service",
    "mosquitto",
    "onvif_device",
    "onvif_network",
    "open_folder",
    "open_page",
    "prometheus",
    "ray_cluster",
    "receiver",
    "recorder",
    "redis_cluster",
    "redis_server",
    "scripted_camera",
    "sentinel_set",
    "slow_link",
    "start_command",
    "start_example",
    "start_fleet",
    "start_gateway",
    "start_hub",
    "start_worker",
    "subscribe",
    "unknown_codec",
    "watch",
]

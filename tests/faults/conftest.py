"""Fixtures of the fault tests. They are defined in tests/support, one file per server or tool that the tests use."""

from __future__ import annotations

from tests.support.cable import cable
from tests.support.command import start_command
from tests.support.dispatching import dispatch
from tests.support.fleet import start_fleet
from tests.support.gateway import start_gateway
from tests.support.http_camera import http_camera
from tests.support.hub import start_hub
from tests.support.hubs import hubs
from tests.support.line import line
from tests.support.local_service import local_service
from tests.support.onvif_camera import onvif_network
from tests.support.receiver import receiver
from tests.support.recorder import recorder
from tests.support.redis_server import debian_redis, kept_valkey
from tests.support.redis_topologies import redis_cluster, sentinel_set
from tests.support.rtsp import gst_camera
from tests.support.scripted_camera import scripted_camera
from tests.support.tls_front import tls_front
from tests.support.watching import watch

__all__ = [
    "cable",
    "debian_redis",
    "dispatch",
    "gst_camera",
    "http_camera",
    "hubs",
    "kept_valkey",
    "line",
    "local_service",
    "onvif_network",
    "receiver",
    "recorder",
    "redis_cluster",
    "scripted_camera",
    "sentinel_set",
    "start_command",
    "start_fleet",
    "start_gateway",
    "start_hub",
    "tls_front",
    "watch",
]

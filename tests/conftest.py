"""Fixtures for all tests live in tests/support, one file per peer that tests talk to."""

import os

from hypothesis import settings

settings.register_profile("hub", deadline=None)  # machines are shared: a slow example is no failure
settings.register_profile("ci", deadline=None, derandomize=True)  # a new example is found at a desk, not in a build
settings.load_profile("ci" if os.environ.get("CI") else "hub")

pytest_plugins = [
    "tests.support.command",
    "tests.support.rtsp",
    "tests.support.line",
    "tests.support.watching",
    "tests.support.cable",
    "tests.support.http_camera",
    "tests.support.onvif_camera",
    "tests.support.recorder",
    "tests.support.hub",
    "tests.support.browser",
    "tests.support.fleet",
    "tests.support.redis_server",
    "tests.support.service",
    "tests.support.unknown_codec",
    "tests.support.gateway",
    "tests.support.camera_worker",
    "tests.support.examples",
    "tests.support.mosquitto",
    "tests.support.prometheus",
    "tests.support.receiver",
    "tests.support.dispatching",
    "tests.support.ray_cluster",
]

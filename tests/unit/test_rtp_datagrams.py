"""Sockets of a track over UDP."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from nvision_hub.media.sources import SourceError
from nvision_hub.media.sources.rtp_datagrams import DatagramTrack


def test_the_error_names_the_cause_on_this_machine() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as camera:
        free = os.dup(camera.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(SourceError, match=r"this machine cannot open UDP ports .*Too many open files"):
                DatagramTrack(camera, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

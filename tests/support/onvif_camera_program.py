"""A virtual ONVIF camera: its settings are JSON on the command line; it says `up` once it listens, until stdin ends.

Of the whole camera of `ipycam` only what speaks ONVIF: its streams want a program that is not on every machine.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from types import SimpleNamespace

from ipycam.camera import ReusableThreadingTCPServer
from ipycam.config import CameraConfig
from ipycam.discovery import WSDiscoveryServer
from ipycam.http import IPCameraHTTPHandler
from ipycam.onvif import ONVIFService


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where it may write its settings
        config = CameraConfig(local_ip="127.0.0.1", **json.loads(sys.argv[1]))
        service = ONVIFService(config)
        IPCameraHTTPHandler.camera = SimpleNamespace(config=config, onvif=service)
        server = ReusableThreadingTCPServer(("", config.onvif_port), IPCameraHTTPHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        WSDiscoveryServer(service).start()
        print("up", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""Virtual ONVIF camera.

The settings are JSON on the command line: fields of `ipycam.CameraConfig`, and `xaddrs` for a hostile camera. A hostile
camera announces this text as its addresses. The program prints `up` when it listens, and exits when stdin closes.

The program runs only the ONVIF part of `ipycam`. The video part needs a program that is missing on some machines.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from types import SimpleNamespace
from typing import Final

from ipycam.camera import ReusableThreadingTCPServer
from ipycam.config import CameraConfig
from ipycam.discovery import WSDiscoveryServer
from ipycam.http import IPCameraHTTPHandler
from ipycam.onvif import ONVIFService

_XADDRS: Final = re.compile("(XAddrs>)[^<]+<")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # `ipycam` writes its settings here
        settings = json.loads(sys.argv[1])
        xaddrs = settings.pop("xaddrs", None)
        config = CameraConfig(local_ip="127.0.0.1", **settings)
        service = ONVIFService(config)
        if xaddrs is not None:
            respond = service.create_probe_match
            service.create_probe_match = lambda *arguments: _XADDRS.sub(
                lambda found: f"{found[1]}{xaddrs}<", respond(*arguments)
            )
        IPCameraHTTPHandler.camera = SimpleNamespace(config=config, onvif=service)
        server = ReusableThreadingTCPServer(("", config.onvif_port), IPCameraHTTPHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        WSDiscoveryServer(service).start()
        print("up", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

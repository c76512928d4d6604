"""The cameras.yaml that `nvision-hub init` writes: runs as it is, and shows what else there is."""

from __future__ import annotations

from typing import Final

template: Final = """\
# yaml-language-server: $schema=./cameras.schema.json
#
# The cameras of one nvision-hub. It runs as it is: `nvision-hub start cameras.yaml` shows a demo camera.
# `nvision-hub check cameras.yaml` tells everything that is wrong with it, `nvision-hub schema > cameras.schema.json`
# lets your editor complete it. Secrets need not stand here: ${VAR}, ${VAR:-default} and ${file:PATH} work everywhere.

version: 1
site: my-site                      # names this installation in events and metrics

nvision:
  url: local                       # the detector that comes with nvision-hub: no account, no network
  # With an Nvision account, take these two lines in its place:
  # url: wss://nvision.nipa.cloud/api
  # streaming_key: ${NVISION_STREAMING_KEY}
  service: object-detection        # or face-detection
  confidence_threshold: 0.3        # detections less certain than this are left out

defaults:                          # for every camera that does not say otherwise
  fps: 1                           # pictures per second sent; each is one request to the service
  jpeg_quality: 85
  max_width: 1280                  # wider pictures are scaled down; null sends them as they are

cameras:
  - id: demo                       # a street that nvision-hub draws itself; remove it when yours work
    url: demo://street

  # - id: lobby                    # lower-case letters, digits, - and _
  #   name: Lobby, north door
  #   url: rtsp://10.0.0.5/stream1 # `nvision-hub probe rtsp://...` tells what a camera sends
  #   username: viewer             # any character may stand in these two
  #   password: ${LOBBY_PASSWORD}
  #   fps: 5

# The page, the API and the metrics are at http://127.0.0.1:8080, or the next free port. For other machines too:
# gateway:
#   listen: 0.0.0.0:8080
#   token: ${file:hub_token}       # make one: openssl rand -hex 32 > hub_token

# Results are published on Redis; `nvision-hub tail` shows them. Posted to a program of yours:
# webhooks:
#   - id: alarms
#     url: https://example.com/hook
#     secret: ${ALARM_SECRET}      # make one: echo whsec_$(openssl rand -base64 32)
#     classes: [person]
#     min_confidence: 0.6

# Passed on to an MQTT broker, with the cameras in Home Assistant (pip install 'nvision-hub[mqtt]'):
# mqtt:
#   url: mqtt://10.0.0.3:1883
#   username: hub
#   password: ${MQTT_PASSWORD}
#   discovery: homeassistant
"""

"""Application of the official Python SDK: it reads requests from standard input and writes results to standard output.

The input is {service, key, requests}. Each request holds arguments for the SDK's `predict`. The environment variable
URL, which the SDK reads when it is imported, is the address that the SDK dials.
"""

import json
import sys

import nvision

asked = json.load(sys.stdin)
services = {"object-detection": nvision.ObjectDetection, "face-detection": nvision.FaceDetection}
model = services[asked["service"]](api_key=asked["key"])
answers = [model.predict(**request) for request in asked["requests"]]
json.dump([{"status": answer.status_code} | answer.json() for answer in answers], sys.stdout)

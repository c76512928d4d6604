"""An application of the official Python SDK: requests on standard input, what came back for each on standard output.

Input: {service, key, requests}; each request holds arguments of the SDK's `predict`. The environment's URL is the
address it dials, which the SDK reads when it is imported.
"""

import json
import sys

import nvision

asked = json.load(sys.stdin)
services = {"object-detection": nvision.ObjectDetection, "face-detection": nvision.FaceDetection}
model = services[asked["service"]](api_key=asked["key"])
answers = [model.predict(**request) for request in asked["requests"]]
json.dump([{"status": answer.status_code} | answer.json() for answer in answers], sys.stdout)

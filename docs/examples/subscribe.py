"""Prints results as they come; those that come while it is not connected are not for it.

    pip install redis
    REDIS_URL=redis://127.0.0.1:6379 python subscribe.py

One camera's alone are on the channel nvision:results:<camera>.
"""

import json
import os
import time

import redis

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")


def listen(client: redis.Redis) -> None:
    results = client.pubsub()
    results.psubscribe("nvision:results:*")
    while True:
        message = results.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is not None:
            event = json.loads(message["data"])
            found = [*event["detected_objects"], *event.get("detected_faces", [])]
            names = ", ".join(f"{one['name']} {one['confidence']:.2f}" for one in found)
            print(event["hub"]["camera"], event["hub"]["captured_at"], names or "nothing", flush=True)


while True:
    try:
        # The health check notices a connection that has died without a word.
        with redis.Redis.from_url(URL, health_check_interval=10) as client:
            listen(client)
    except redis.ConnectionError as error:
        print(f"no Redis: {error}; trying again", flush=True)
        time.sleep(1)

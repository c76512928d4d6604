"""Print results as they arrive. Results that arrive while the program is not connected are missed.

    pip install redis
    REDIS_URL=redis://reader:PASSWORD@127.0.0.1:6379 python subscribe.py

The channel nvision:results:<camera> has the results of one camera.
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
        # The health check detects a dead connection.
        with redis.Redis.from_url(URL, health_check_interval=10) as client:
            listen(client)
    except redis.ConnectionError as error:
        print(f"Redis unavailable: {error}; retrying", flush=True)
        time.sleep(1)

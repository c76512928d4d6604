"""Store every result in a database exactly once, including results that arrived while the program was not running.

    pip install redis
    REDIS_URL=redis://consumer:PASSWORD@127.0.0.1:6379 python consume.py results.db archive worker-1

`archive` is the consumer group and `worker-1` one of its consumers: Redis distributes the results among the consumers
of a group. Programs that each need all results use different groups.
"""

import json
import os
import sqlite3
import sys
import time

import redis

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
STREAM = "nvision:results"
ABANDONED_MS = 60_000  # an entry pending for this long belongs to a consumer that has died

file, group, consumer = sys.argv[1:]
database = sqlite3.connect(file, isolation_level=None)  # each statement is a transaction
database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT PRIMARY KEY, camera TEXT, captured_at TEXT, event TEXT)")


def handle(text: str) -> None:
    """Store one result. A repeated result has the same id and changes nothing."""
    event = json.loads(text)
    row = (event["hub"]["id"], event["hub"]["camera"], event["hub"]["captured_at"], text)
    if database.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)", row).rowcount:
        print(event["hub"]["camera"], len(event["detected_objects"]), flush=True)


def work(client: redis.Redis, entries: list) -> None:
    """Handle, then acknowledge: after a crash in between, Redis delivers the entry again."""
    for entry, fields in entries:
        if fields:  # none if Redis trimmed the entry while it was pending: the result is lost
            handle(fields["event"])
        client.xack(STREAM, group, entry)


def join(client: redis.Redis) -> None:
    """Create the group if it is missing: "0" starts with the oldest result, "$" with the next one."""
    try:
        client.xgroup_create(STREAM, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def read(client: redis.Redis, after: str) -> list:
    """Read this consumer's pending entries (`after="0"`) or new ones (`after=">"`, waits up to 5 s)."""
    answer = client.xreadgroup(group, consumer, {STREAM: after}, count=100, block=5000)
    return answer[0][1] if answer else []


def consume(client: redis.Redis) -> None:
    join(client)
    while entries := read(client, "0"):  # entries left over from the last run come first
        work(client, entries)
    claimed = 0.0
    while True:
        work(client, read(client, ">"))
        if time.monotonic() - claimed > ABANDONED_MS / 1000:
            claimed = time.monotonic()
            _, entries, _ = client.xautoclaim(STREAM, group, consumer, min_idle_time=ABANDONED_MS)
            work(client, entries)


while True:
    try:
        # A read blocks for up to 5 s, so the socket timeout must be longer.
        with redis.Redis.from_url(URL, decode_responses=True, socket_timeout=15) as client:
            consume(client)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        print(f"Redis unavailable: {error}; retrying", flush=True)
        time.sleep(1)
    except redis.ResponseError as error:
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):  # both mean that the broker lost its data
            raise

"""Keeps every result in a database, also those that came while it was not running. Each is there once.

    pip install redis
    REDIS_URL=redis://127.0.0.1:6379 python consume.py results.db archive worker-1

`archive` is the consumer group: the results are shared out among its consumers, of which `worker-1` is one. Programs
that each want all results use groups of different names.
"""

import json
import os
import sqlite3
import sys
import time

import redis

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
STREAM = "nvision:results"
ABANDONED_MS = 60_000  # what another consumer has held for so long, it will not finish

file, group, consumer = sys.argv[1:]
database = sqlite3.connect(file, isolation_level=None)  # each statement is a transaction
database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT PRIMARY KEY, camera TEXT, captured_at TEXT, event TEXT)")


def handle(text: str) -> None:
    """The work. A result that comes again has the id that it had, and so changes nothing."""
    event = json.loads(text)
    row = (event["hub"]["id"], event["hub"]["camera"], event["hub"]["captured_at"], text)
    if database.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)", row).rowcount:
        print(event["hub"]["camera"], len(event["detected_objects"]), flush=True)


def work(client: redis.Redis, entries: list) -> None:
    """Handle, then acknowledge: whoever dies in between is given the entry again."""
    for entry, fields in entries:
        if fields:  # none where it was trimmed while this group held it: lost, and not to be asked for again
            handle(fields["event"])
        client.xack(STREAM, group, entry)


def join(client: redis.Redis) -> None:
    """Make the group where there is none: "0" begins with the oldest result there is, "$" with the next to come."""
    try:
        client.xgroup_create(STREAM, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def read(client: redis.Redis, after: str) -> list:
    """Entries of our own that were not acknowledged for `after="0"`, new ones for ">"; waits a while for those."""
    answer = client.xreadgroup(group, consumer, {STREAM: after}, count=100, block=5000)
    return answer[0][1] if answer else []


def consume(client: redis.Redis) -> None:
    join(client)
    while entries := read(client, "0"):  # what was begun before the last end comes first
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
        # A read waits up to 5 s by itself, so the socket is given longer.
        with redis.Redis.from_url(URL, decode_responses=True, socket_timeout=15) as client:
            consume(client)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        print(f"no Redis: {error}; trying again", flush=True)
        time.sleep(1)
    except redis.ResponseError as error:
        if not str(error).startswith(("NOGROUP", "UNBLOCKED")):  # either means that the broker was emptied
            raise

// Print every result, including those that arrived while the program was not running. A crash may repeat some.
//
//   npm install ioredis
//   REDIS_URL=redis://consumer:PASSWORD@127.0.0.1:6379 node consume.mjs archive worker-1
//
// `archive` is the consumer group and `worker-1` one of its consumers: Redis distributes the results among a group's consumers.

import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';

const [group, consumer] = process.argv.slice(2);
const stream = 'nvision:results';
// A read blocks for up to 5 s, so the socket timeout must be longer.
const redis = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { socketTimeout: 15_000 });
redis.on('error', (error) => console.log(`Redis unavailable: ${error.message}; retrying`)); // ioredis reconnects automatically

async function handle(event) {
  console.log(event.hub.id, event.hub.camera, event.detected_objects.length);
}

// Handle, then acknowledge: after a crash in between, Redis delivers the entry again.
async function work(entries) {
  for (const [id, fields] of entries) {
    // No fields if Redis trimmed the entry while it was pending: the result is lost.
    if (fields?.length) await handle(JSON.parse(fields[fields.indexOf('event') + 1]));
    await redis.xack(stream, group, id);
  }
}

// Create the group if it is missing: 0 starts with the oldest result, $ with the next one.
async function join() {
  try {
    await redis.xgroup('CREATE', stream, group, '0', 'MKSTREAM');
  } catch (error) {
    if (!error.message.startsWith('BUSYGROUP')) throw error;
  }
}

// Read pending entries (0) or new ones (>, waits up to 5 s).
async function read(after) {
  const call = ['GROUP', group, consumer, 'COUNT', 100, 'BLOCK', 5000, 'STREAMS', stream, after];
  const [[, entries] = [null, []]] = (await redis.xreadgroup(...call)) ?? [];
  return entries;
}

for (;;) {
  try {
    await join();
    for (let own; (own = await read('0')).length; ) await work(own); // entries left over from the last run come first
    for (;;) await work(await read('>'));
  } catch (error) {
    console.log(`${error.message}; starting over`); // such as NOGROUP after the broker lost its data
    await sleep(1000);
  }
}

// Prints every result, also those that came while it was not running; after a crash, some of them again.
//
//   npm install ioredis
//   REDIS_URL=redis://127.0.0.1:6379 node consume.mjs archive worker-1
//
// `archive` is the consumer group: the results are shared out among its consumers, of which `worker-1` is one.

import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';

const [group, consumer] = process.argv.slice(2);
const stream = 'nvision:results';
// A read waits up to 5 s by itself, so the socket is given longer.
const redis = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { socketTimeout: 15_000 });
redis.on('error', (error) => console.log(`no Redis: ${error.message}; trying again`)); // it does so by itself

async function handle(event) {
  console.log(event.hub.id, event.hub.camera, event.detected_objects.length);
}

// Handle, then acknowledge: whoever dies in between is given the entry again.
async function work(entries) {
  for (const [id, fields] of entries) {
    // No fields where it was trimmed while this group held it: lost, and not to be asked for again.
    if (fields?.length) await handle(JSON.parse(fields[fields.indexOf('event') + 1]));
    await redis.xack(stream, group, id);
  }
}

// Make the group where there is none: 0 begins with the oldest result there is, $ with the next to come.
async function join() {
  try {
    await redis.xgroup('CREATE', stream, group, '0', 'MKSTREAM');
  } catch (error) {
    if (!error.message.startsWith('BUSYGROUP')) throw error;
  }
}

// Entries of our own that were not acknowledged for 0, new ones for >; waits a while for those.
async function read(after) {
  const call = ['GROUP', group, consumer, 'COUNT', 100, 'BLOCK', 5000, 'STREAMS', stream, after];
  const [[, entries] = [null, []]] = (await redis.xreadgroup(...call)) ?? [];
  return entries;
}

for (;;) {
  try {
    await join();
    for (let own; (own = await read('0')).length; ) await work(own); // what was begun before the last end comes first
    for (;;) await work(await read('>'));
  } catch (error) {
    console.log(`${error.message}; beginning anew`); // such as NOGROUP, where the broker came back empty
    await sleep(1000);
  }
}

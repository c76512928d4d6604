// Prints results as they come; those that come while it is not connected are not for it.
//
//   npm install ioredis
//   REDIS_URL=redis://127.0.0.1:6379 node subscribe.mjs

import { Redis } from 'ioredis';

// Keep-alive notices a connection that has died without a word.
const results = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { keepAlive: 10_000 });
results.on('error', (error) => console.log(`no Redis: ${error.message}; trying again`)); // it does so by itself

results.on('pmessage', (pattern, channel, message) => {
  const { hub, detected_objects: objects, detected_faces: faces = [] } = JSON.parse(message);
  const names = [...objects, ...faces].map(({ name, confidence }) => `${name} ${confidence.toFixed(2)}`);
  console.log(hub.camera, hub.captured_at, names.join(', ') || 'nothing');
});
await results.psubscribe('nvision:results:*'); // after a lost connection it subscribes again

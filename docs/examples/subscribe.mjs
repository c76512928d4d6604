// Print results as they arrive. Results that arrive while the program is not connected are missed.
//
//   npm install ioredis
//   REDIS_URL=redis://reader:PASSWORD@127.0.0.1:6379 node subscribe.mjs

import { Redis } from 'ioredis';

// Keep-alive detects a dead connection.
const results = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { keepAlive: 10_000 });
results.on('error', (error) => console.log(`Redis unavailable: ${error.message}; retrying`)); // ioredis reconnects automatically

results.on('pmessage', (pattern, channel, message) => {
  const { hub, detected_objects: objects, detected_faces: faces = [] } = JSON.parse(message);
  const names = [...objects, ...faces].map(({ name, confidence }) => `${name} ${confidence.toFixed(2)}`);
  console.log(hub.camera, hub.captured_at, names.join(', ') || 'nothing');
});
await results.psubscribe('nvision:results:*'); // after a lost connection it subscribes again

// The same, for what really comes from the hub only, and each result once.
//
//   npm install koa koa-bodyparser standardwebhooks
//   WEBHOOK_SECRET=whsec_... PORT=3000 node receive_signed.mjs

import Koa from 'koa';
import bodyParser from 'koa-bodyparser';
import { Webhook } from 'standardwebhooks';

const webhook = new Webhook(process.env.WEBHOOK_SECRET); // the `secret` of this webhook in cameras.yaml
const seen = new Set(); // a real one remembers in a database, for at least as long as deliveries are tried again

const app = new Koa();
app.use(bodyParser({ jsonLimit: '16mb' })); // pictures of detections, where they are asked for, exceed its 1 MB
app.use((ctx) => {
  try {
    webhook.verify(ctx.request.rawBody, ctx.headers); // the bytes as they came: JSON written anew may differ
  } catch {
    ctx.throw(401);
  }
  ctx.status = 204;
  const id = ctx.get('webhook-id');
  if (seen.has(id)) return; // delivered before, and our answer was lost
  seen.add(id);
  const { hub, detected_objects: objects, detected_faces: faces = [] } = ctx.request.body;
  console.log(id, hub.camera, [...objects, ...faces].map(({ name }) => name).join(', '));
});
app.silent = true; // a refused delivery is no error of ours
const server = app.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(`port ${server.address().port}`));

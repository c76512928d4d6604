// The same receiver, but it accepts only signed deliveries and handles each result once.
//
//   npm install koa koa-bodyparser standardwebhooks
//   WEBHOOK_SECRET=whsec_... PORT=3000 node receive_signed.mjs

import Koa from 'koa';
import bodyParser from 'koa-bodyparser';
import { Webhook } from 'standardwebhooks';

const webhook = new Webhook(process.env.WEBHOOK_SECRET); // the `secret` of this webhook in cameras.yaml
const seen = new Set(); // in production, use a database and keep ids for as long as the hub retries

const app = new Koa();
app.use(bodyParser({ jsonLimit: '16mb' })); // images in events, if requested, exceed the default of 1 MB
app.use((ctx) => {
  try {
    webhook.verify(ctx.request.rawBody, ctx.headers); // the bytes as received: re-encoded JSON may differ
  } catch {
    ctx.throw(401);
  }
  ctx.status = 204;
  const id = ctx.get('webhook-id');
  if (seen.has(id)) return; // delivered before, but our response was lost
  seen.add(id);
  const { hub, detected_objects: objects, detected_faces: faces = [] } = ctx.request.body;
  console.log(id, hub.camera, [...objects, ...faces].map(({ name }) => name).join(', '));
});
app.silent = true; // a rejected delivery is not an error of this server
const server = app.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(`port ${server.address().port}`));

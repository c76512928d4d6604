// The receiver of the Nvision documentation. It works for a hub's webhook as it does for Nvision's own callback.
//
//   npm install koa koa-bodyparser
//   PORT=3000 node receive.mjs

import Koa from 'koa';
import bodyParser from 'koa-bodyparser';

const app = new Koa();
app.use(bodyParser());
app.use((ctx) => {
  for (const { confidence, parent, bounding_box: box, name } of ctx.request.body.detected_objects) {
    console.log(name, parent, confidence, box.left, box.top, box.right, box.bottom);
  }
  ctx.status = 204; // any 2xx marks the delivery as done
});
const server = app.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(`port ${server.address().port}`));

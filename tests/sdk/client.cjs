// Application of the official JavaScript SDK. Standard input: {interface, service, key, requests}. Each request is an
// argument for the SDK's predict, with rawData in base64. Standard output: the results as a JSON array.
'use strict';

const fs = require('node:fs');
const nvision = require('@nipacloud/nvision');

const asked = JSON.parse(fs.readFileSync(0, 'utf8'));

const base64 = (bytes) => (bytes === undefined ? undefined : Buffer.from(bytes).toString('base64'));

const shown = (result) => ({
  ...result,
  raw_data: base64(result.raw_data),
  detected_objects: result.detected_objects?.map((found) => ({ ...found, cropped_image: base64(found.cropped_image) })),
  detected_faces: result.detected_faces?.map((found) => ({ ...found, cropped_image: base64(found.cropped_image) })),
});

async function overStream(open) {
  const stream = open({ streamingKey: asked.key }).stream();
  await stream.connect();
  let resolved;
  stream.on('message', (result) => resolved(result)); // the SDK's `once` calls its listener without the result
  const results = [];
  for (const request of asked.requests) {
    const result = new Promise((resolve) => {
      resolved = resolve;
    });
    await stream.predict({ ...request, rawData: new Uint8Array(Buffer.from(request.rawData, 'base64')) });
    results.push(shown(await result));
  }
  return results;
}

async function overRest(open) {
  const service = open({ apiKey: asked.key });
  const results = [];
  for (const request of asked.requests) {
    try {
      results.push(await service.predict(request));
    } catch (error) {
      results.push({ status: error.response.status, ...error.response.data });
    }
  }
  return results;
}

(async () => {
  const open = asked.service === 'face-detection' ? nvision.faceDetection : nvision.objectDetection;
  const results = await (asked.interface === 'stream' ? overStream(open) : overRest(open));
  fs.writeSync(1, JSON.stringify(results));
  process.exit(0); // the SDK cannot close its stream
})();

// Replace the address that the SDK dials, and nothing else in the SDK's code. `node --require` loads this file before
// the SDK. NVISION_BASE is the new address: 127.0.0.1:PORT/api.
'use strict';

const fs = require('node:fs');
const Module = require('node:module');

const base = process.env.NVISION_BASE;
const ordinary = Module._extensions['.js'];

Module._extensions['.js'] = (module, filename) => {
  if (!filename.endsWith('/@nipacloud/nvision/dist/nvision.js')) {
    ordinary(module, filename);
    return;
  }
  const source = fs
    .readFileSync(filename, 'utf8')
    .replaceAll('https://nvision.nipa.cloud/api', `http://${base}`)
    .replaceAll('wss://nvision.nipa.cloud/api', `ws://${base}`);
  module._compile(source, filename);
};

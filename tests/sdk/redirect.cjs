// Loaded before the SDK (node --require): the SDK's code with the one address in it that it dials replaced, and
// nothing else. NVISION_BASE is where to: 127.0.0.1:PORT/api.
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

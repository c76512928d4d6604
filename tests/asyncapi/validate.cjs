// What the reference parser has to say of the AsyncAPI document on standard input, as a JSON array; empty where it is right.
'use strict';

const fs = require('node:fs');
const { Parser } = require('@asyncapi/parser');

new Parser().validate(fs.readFileSync(0, 'utf8')).then((diagnostics) => {
  const told = diagnostics.map(({ code, message, path, severity }) => ({ code, message, path, severity }));
  fs.writeSync(1, JSON.stringify(told));
});

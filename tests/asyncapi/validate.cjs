// Read an AsyncAPI document from standard input. Print the reference parser's diagnostics as a JSON array, which is
// empty if the document is valid.
'use strict';

const fs = require('node:fs');
const { Parser } = require('@asyncapi/parser');

new Parser().validate(fs.readFileSync(0, 'utf8')).then((diagnostics) => {
  const found = diagnostics.map(({ code, message, path, severity }) => ({ code, message, path, severity }));
  fs.writeSync(1, JSON.stringify(found));
});

// SPDX-License-Identifier: MIT
// ajv.js SCHEMA FILE: the same as schema.c, by ajv, which compiles a schema to JavaScript. Debian's
// knows draft-07, whose keywords are those of the schema that is validated by; $ref finds $defs too.
// Prints "name value": the first time, and the best of those that follow.
"use strict";
const Ajv = require("ajv");
const fs = require("fs");

const [schema, data] = process.argv.slice(2, 4).map((path) => JSON.parse(fs.readFileSync(path)));
delete schema.$schema;
const validate = new Ajv({ schemaId: "auto" }).compile(schema);
let first, best = 1e9;
for (let round = 0; round < 30; round++) {
  const began = process.hrtime.bigint();
  if (!validate(data)) throw new Error(JSON.stringify(validate.errors));
  const ms = Number(process.hrtime.bigint() - began) / 1e6;
  if (first === undefined) first = ms;
  else best = Math.min(best, ms);
}
console.log(`first ${first.toFixed(4)}\nbest ${best.toFixed(4)}`);

-- SPDX-License-Identifier: MIT
-- Schemas for specs: compile a text, validate a text by it.
local borrowed = require "spec.support.borrowed"
local C = require "spec.support.c"
local ffi = C.ffi

local M = {}
local next_id = 1000

--- A parsed document that may be any JSON value. Text that starts with "yaml:" is YAML.
function M.document(text, name)
  next_id = next_id + 1
  local yaml = text:match("^yaml:\n?(.*)$")
  local data, len = C.bytes(yaml or text)
  local out, err = ffi.new("segue__document *[1]"), C.error()
  C.check(C.segue__document_new(out, next_id, "", name, yaml and C.SEGUE__YAML or C.SEGUE__JSON,
    data, len))
  local doc = borrowed.keep(ffi.gc(out[0], C.segue__document_unref))
  doc.foreign = true
  C.check(C.segue__document_parse(doc, nil, nil, nil, err), err)
  return doc
end

local function texts(list)
  local lines = {}
  for i = 0, tonumber(list.count) - 1 do lines[#lines + 1] = C.text(list.items + i) end
  return lines
end

--- Compiles: the schema and the warnings, or nil and the errors. options: formats, bundle (texts).
function M.compile(text, options)
  options = options or {}
  local doc = M.document(text, "schema")
  local bundle = {}
  for name, more in pairs(options.bundle or {}) do bundle[#bundle + 1] = M.document(more, name) end
  local list = ffi.new("segue__document *[?]", #bundle + 1, bundle)
  local errors, warnings = ffi.new("segue__errors[1]"), ffi.new("segue__errors[1]")
  local o = ffi.new("segue__schema_options[1]", { {
    size = ffi.sizeof("segue__schema_options"), formats = options.formats or false,
    bundle = list, bundle_count = #bundle, warnings = warnings } })
  local out = ffi.new("segue__schema *[1]")
  local rc = C.segue__schema_new(out, doc, o, errors)
  local reported, warned, total = texts(errors[0]), texts(warnings[0]), tonumber(errors[0].total)
  C.segue__errors_deinit(errors)
  C.segue__errors_deinit(warnings)
  if rc == 0 then
    assert(total == 0, "a schema that compiles has no errors")
    return borrowed.keep(ffi.gc(out[0], C.segue__schema_unref)), warned
  end
  assert(total > 0 and out[0] == nil, "a refusal says why")
  return nil, reported, C.name(rc)
end

--- Validates a text: "valid", or the name of the code, and the findings as tables. options: steps,
--- time_ms, mask, and those of compile.
function M.validate(schema, text, options)
  options = options or {}
  if type(schema) == "string" then
    local compiled, errors = M.compile(schema, options)
    if not compiled then error("refused: " .. table.concat(errors, "; "), 2) end
    schema = compiled
  end
  local doc = type(text) == "string" and M.document(text, "file") or text
  local o = ffi.new("segue__validate_options[1]", { {
    size = ffi.sizeof("segue__validate_options"), document = doc,
    steps = options.steps or 0, time_ms = options.time_ms or 0, mask = options.mask } })
  local findings = ffi.new("segue__findings[1]")
  local rc = C.segue__schema_validate(schema, doc.root, findings, o)
  assert(C.segue__schema_validate(schema, doc.root, nil, o) == rc, "the verdict is the same untold")
  local list = { total = tonumber(findings[0].total) }
  for i = 0, tonumber(findings[0].count) - 1 do
    local f = findings[0].items[i]
    list[#list + 1] = { text = C.text(f.error), keyword = C.str(f.keyword),
      pointer = C.str(f.pointer), schema_path = C.str(f.schema_path),
      schema_file = C.str(f.schema_file), schema_line = f.schema_line,
      schema_column = f.schema_column }
  end
  C.segue__findings_deinit(findings)
  assert((rc == 0) == (list.total == 0), "a verdict and its findings agree")
  return rc == 0 and "valid" or C.name(rc), list
end

--- The findings as one text, a line each; "" is valid.
function M.reported(schema, text, options)
  local _, list = M.validate(schema, text, options)
  local lines = {}
  for i, f in ipairs(list) do lines[i] = f.text end
  return table.concat(lines, "\n")
end

--- Is a value valid?
function M.fits(schema, text, options)
  return (M.validate(schema, text, options)) == "valid"
end

return M

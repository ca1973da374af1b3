-- SPDX-License-Identifier: MIT
-- Cases for `segue render --batch`:
--   local template = require "spec.support.template"
--   template.render { { template = "{{.a}}", data = { a = 1 } } }[1].output
-- data may be a text of JSON: { json = '{"a":1.0}' }, where Lua would lose the kind of a number.
local cjson = require "cjson"
local segue = require "spec.support.segue"

local M = {}

local function encode(case, id)
  local out = {}
  for key, v in pairs(case) do
    if key ~= "json" then out[#out + 1] = cjson.encode(key) .. ":" .. cjson.encode(v) end
  end
  if case.json then out[#out + 1] = '"data":' .. case.json end
  if not case.id then out[#out + 1] = '"id":' .. id end
  return "{" .. table.concat(out, ",") .. "}"
end

--- Renders cases in one process; returns the answers in their order.
---@param cases table[]
---@return table[]
---@param env? table
function M.render(cases, env)
  local lines = {}
  for i, case in ipairs(cases) do lines[i] = encode(case, i) end
  local p = segue.cli({ "render", "--batch" },
    { stdin = table.concat(lines, "\n") .. "\n", env = env, deadline_ms = 60000 })
  assert(p.code == 0, p:describe())
  local answers = {}
  for line in p.stdout:gmatch "[^\n]+" do answers[#answers + 1] = cjson.decode(line) end
  assert(#cases == #answers, p:describe())
  return answers
end

--- Renders { template, JSON of the data, expected output } rows; an expected { "text" } is a part
--- of the error message.
function M.check(rows, options)
  local cases = {}
  for i, row in ipairs(rows) do
    cases[i] = { name = "t", template = row[1], json = row[2] or "{}" }
    for key, v in pairs(options or {}) do cases[i][key] = v end
  end
  for i, answer in ipairs(M.render(cases)) do
    local expected, got = rows[i][3], answer.output or answer.error
    if type(expected) == "table" then
      assert(not answer.ok, ("%s is no error: %s"):format(rows[i][1], tostring(got)))
      assert(got:find(expected[1], 1, true), ("%s\nexpected: %s\nis: %s"):format(rows[i][1],
        expected[1], got))
    else
      assert(answer.ok and got == expected, ("%s\nexpected: %s\nis: %s"):format(rows[i][1],
        expected,
        tostring(got)))
    end
  end
end

return M

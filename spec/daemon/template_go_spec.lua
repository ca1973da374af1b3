-- SPDX-License-Identifier: MIT
-- Random templates over random data, rendered by Segue and by Go: the same bytes, the same errors
-- at the same places. SEGUE_TEMPLATE_CASES: how many, 10,000 by default; SEGUE_TEMPLATE_SEED: the
-- first seed.
local cases = require "spec.support.template_cases"
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local PART = 5000 -- cases of one seed

local function build_reference(dir)
  local program = dir.path .. "/go_template"
  local p = process.run { "go", "build", "-o", program, "spec/support/go_template.go",
    deadline_ms = 120000,
    env = { GOCACHE = dir.path .. "/cache", GO111MODULE = "off",
      GOTOOLCHAIN = "local" } }
  assert(p.code == 0, p:describe())
  return program
end

local function answers_of(output)
  local answers = {}
  for line in output:gmatch "[^\n]+" do answers[#answers + 1] = cjson.decode(line) end
  return answers
end

-- Newer versions of Go differ from Debian's here: returns true where a case proves nothing.
-- nothing.
local function differs_by_version(go, ours)
  if not go.error then return false end
  -- Newer Go counts up to an integer.
  if go.error:find "range can't iterate over %-?%d+$" then return true end
  -- It has {{else with}}.
  if go.error:find("unexpected <with> in else", 1, true) then return true end
  -- It finds a closing parenthesis too many in the lexer, at its own line.
  if go.error:find('unexpected ")" in ', 1, true) then
    return ours.error ~= nil and ours.error:find("unexpected right paren", 1, true) ~= nil
  end
  return false
end

-- Messages that newer Go words better: the types that do not compare, and assignments.
local function plain(message)
  if not message then return nil end
  message = message:gsub("(incompatible types for comparison): .*$", "%1")
  message = message:gsub(" %(it is a function of [%a -]+%)$", "") -- ours is a hint more
  return (message:gsub("(%$%w+) := ", "%1 = "))
end

local function same(go, ours)
  return go.ok == ours.ok and (go.output or "") == (ours.output or "")
    and plain(go.error) == plain(ours.error)
end

describe("random templates", function()
  it("render as Go renders them", function()
    local dir = tempdir.new()
    local reference = build_reference(dir)
    local count = tonumber(os.getenv "SEGUE_TEMPLATE_CASES") or 10000
    local seed = tonumber(os.getenv "SEGUE_TEMPLATE_SEED") or 1
    local compared, errors = 0, 0
    for first = 1, count, PART do
      math.randomseed(seed + first)
      local lines, texts = {}, {}
      for i = 1, math.min(PART, count - first + 1) do lines[i], texts[i] = cases.one(first + i) end
      local input = table.concat(lines, "\n") .. "\n"
      local go = process.run { reference, stdin = input, deadline_ms = 60000 }
      local ours = segue.cli({ "render", "--batch" }, { stdin = input, deadline_ms = 60000 })
      assert(go.code == 0 and ours.code == 0, ours:describe())
      go, ours = answers_of(go.stdout), answers_of(ours.stdout)
      assert.equal(#lines, #go)
      assert.equal(#lines, #ours)
      for i, answer in ipairs(go) do
        if not differs_by_version(answer, ours[i]) then
          compared = compared + 1
          if answer.error then errors = errors + 1 end
          assert(same(answer, ours[i]), ("%s\n%s\nGo:   %s\nours: %s"):format(texts[i], lines[i],
            answer.output or answer.error, ours[i].output or ours[i].error))
        end
      end
    end
    -- The generator makes what it should: good templates, and bad ones, and few that are left out.
    assert.is_true(compared > count * 0.97)
    assert.is_true(errors > compared * 0.2 and errors < compared * 0.8)
  end)
end)

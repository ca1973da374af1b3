-- SPDX-License-Identifier: MIT
-- Random templates over random data, rendered by Segue and by Go: the same bytes, the same errors
-- at the same places; the language, and the functions of sprig. SEGUE_TEMPLATE_CASES: how many,
-- 10,000 by default; SEGUE_TEMPLATE_SEED: the first seed.
local cjson = require "cjson"
local go = require "spec.support.go"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local sprig_cases = require "spec.support.sprig_cases"
local tempdir = require "spec.support.tempdir"
local template_cases = require "spec.support.template_cases"

local PART = 5000 -- cases of one seed

local function answers_of(output)
  local answers = {}
  for line in output:gmatch "[^\n]+" do answers[#answers + 1] = cjson.decode(line) end
  return answers
end

-- Newer versions of Go differ from Debian's here: returns true where a case proves nothing.
local function differs_by_version(theirs, ours)
  if not theirs.error then return false end
  -- Templates that were changed may call one another without end.
  if theirs.error:find("the output is too large", 1, true) then return ours.error ~= nil end
  -- Newer Go counts up to an integer.
  if theirs.error:find "range can't iterate over %-?%d+$" then return true end
  -- It has {{else with}}.
  if theirs.error:find("unexpected <with> in else", 1, true) then return true end
  -- It finds a closing parenthesis too many in the lexer, at its own line.
  if theirs.error:find('unexpected ")" in ', 1, true) then
    return ours.error ~= nil and (ours.error:find("unexpected right paren", 1, true) ~= nil
      or ours.error:find("range can only initialize variables", 1, true) ~= nil)
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

local function same(theirs, ours)
  return theirs.ok == ours.ok and (theirs.output or "") == (ours.output or "")
    and plain(theirs.error) == plain(ours.error)
end

-- Differences by design (lua/segue/template/rows.lua), or in the words of PCRE2 alone. A text that
-- was cut inside of a character is none for PCRE2.
local function differs_from_sprig(theirs, ours, line)
  local message = ours.error or ""
  if message:find("the data cannot be changed", 1, true)
    or message:find("slice index out of bounds", 1, true)
    or message:find("error parsing regexp: ", 1, true)
    or message:find("UTF-8 error", 1, true) then
    return true
  end
  -- Merged maps are copies here: none contains itself, and none of the others changes.
  local why = (theirs.error or ""):match "calling %a*[mM]erge%a*: (.*)$"
  if why == "the map would contain itself" or why == "a map that is merged has changed" then
    return true
  end
  if (line:find("initials", 1, true) or line:find("nospace", 1, true))
    and line:find "[^%z\1-\127]" then
    return true
  end
  return (theirs.error or ""):find("calling mustFromJson: ", 1, true) ~= nil
    and message:find("calling mustFromJson: ", 1, true) ~= nil
end

-- Returns how many were compared, and how many of them are errors.
local function compare(cases, reference, differs)
  local count = tonumber(os.getenv "SEGUE_TEMPLATE_CASES") or 10000
  local seed = tonumber(os.getenv "SEGUE_TEMPLATE_SEED") or 1
  local compared, errors = 0, 0
  for first = 1, count, PART do
    math.randomseed(seed + first)
    local lines, texts = {}, {}
    for i = 1, math.min(PART, count - first + 1) do lines[i], texts[i] = cases.one(first + i) end
    local input = table.concat(lines, "\n") .. "\n"
    local theirs = process.run { reference, stdin = input, deadline_ms = 200000 }
    local ours = segue.cli({ "render", "--batch" }, { stdin = input, deadline_ms = 200000 })
    for _, p in ipairs { theirs, ours } do assert(p.code == 0 and p.signal == 0, p:describe()) end
    theirs, ours = answers_of(theirs.stdout), answers_of(ours.stdout)
    assert.equal(#lines, #theirs)
    assert.equal(#lines, #ours)
    for i, answer in ipairs(theirs) do
      if not differs(answer, ours[i], lines[i]) then
        compared = compared + 1
        if answer.error then errors = errors + 1 end
        assert(same(answer, ours[i]), ("%s\n%s\nGo:   %s\nours: %s"):format(texts[i], lines[i],
          answer.output or answer.error, ours[i].output or ours[i].error))
      end
    end
  end
  return compared / count, errors / compared
end

-- The generators make what they should: good templates, and bad ones, and few that are left out.
describe("random templates", function()
  it("render as Go renders them", function()
    local reference = go.build(tempdir.new(), "spec/support/go_template.go")
    local compared, errors = compare(template_cases, reference, differs_by_version)
    assert.is_true(compared > 0.97)
    assert.is_true(errors > 0.2 and errors < 0.8)
  end)

  it("call functions as sprig has them", function()
    local reference = go.build(tempdir.new(), "spec/support/go_template.go",
      "spec/support/go_sprig.go")
    local compared, errors = compare(sprig_cases, reference, differs_from_sprig)
    assert.is_true(compared > 0.95)
    assert.is_true(errors > 0.05 and errors < 0.5)
  end)
end)

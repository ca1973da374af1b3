-- SPDX-License-Identifier: MIT
-- Keys and values of a policy: each mistake is reported at its place.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local head = 'local segue = require "segue"\n'
local b
fresh(bind.open, function(opened) b = opened end)

local function returns(body) return head .. "return {\n" .. body .. "\n}\n" end
local function with(body) return returns("sources = { segue.value { a = 1 } },\n" .. body) end

describe("keys and values", function()
  local cases = {
    { "an unknown key", "debounse = { min = '1s' },",
      'debounse is not a known key here: did you mean "debounce"?', 4 },
    { "an unknown key far from all", "zzzzzz = 1,", "zzzzzz is not a known key here: known", 4 },
    { "a schema without a file", "schema = {},", "schema.path is missing: path =", 4 },
    { "a schema that is a number", "schema = 7,", "schema must be the path of a file or a", 4 },
    { "a wrong way with formats", "schema = { path = 's.json', formats = 'no' },",
      'schema.formats must be "assert" or "ignore", not "no"', 4 },
    { "a key of a later version", 'dashboard = "x",', "dashboard is not a known key here:", 4 },
    { "a number as key", "[1] = 2,", "[1] is not known here: an option is written as name =" },
    { "an unknown key below", "debounce = { mim = '1s' },",
      'debounce.mim is not a known key here: did you mean "min"?', 4 },
    { "a wrong type", "check = 7,", "check must be a function, not 7", 4 },
    { "a wrong name", "name = {},", "name must be a text, not a table", 4 },
    { "a wrong duration", "min_interval = 'soon',", "min_interval must be a duration such as", 4 },
    { "a negative duration", "min_interval = -1,", "min_interval must be at least 0s, not -1", 4 },
    { "no unit", "min_interval = '10',", "min_interval must be a duration such as 500ms, 10s", 4 },
    { "debounce upside down", "debounce = { min = '2s', max = '1s' },",
      "debounce.min must not be longer than max, which is 1s", 4 },
    { "a trigger among the sources", "triggers = { segue.file 'x' },",
      "triggers[1] must be a trigger such as segue.signal \"HUP\", not a source", 4 },
    { "a constructor not called", "triggers = { segue.watch },", "a function that was not called",
      4 },
    { "triggers not in a list", "triggers = segue.watch(),", "triggers must be a list", 4 },
    { "confirm without a probe", "confirm = { within = '1s' },",
      "confirm.probe is missing: give a function that returns whether all is well, or by =", 4 },
    { "a probe of another kind", "confirm = { probe = 'x' },", "probe must be a function", 4 },
    { "hold beyond within", "confirm = { hold = '9s', within = '5s', probe = print },",
      "hold must be shorter", 4 },
    { "a zero timeout", "timeouts = { check = 0 },", "check must be longer than 0", 4 },
    { "modules that are none", "modules = { 1 },", "modules must be a table of modules, not", 4 },
    { "a module of an unknown kind", "modules = { web = { kind = 'rust' } },",
      'modules.web.kind must be "c", not "rust"', 4 },
    { "a C module that is not registered", "modules = { web = { kind = 'c' } },",
      "there is no C module 'web'", 4 },
    { "an unknown key of a module", "modules = { web = { kind = 'c', drian = '1s' } },",
      'modules.web.drian is not a known key here: did you mean "drain"?', 4 },
    { "a wrong strategy", "modules = { web = { kind = 'c', replace = 'x' } },",
      'modules.web.replace must be "swap", "handover" or "restart", not "x"', 4 },
    { "an unknown key of a buffer", "modules = { web = { kind = 'c', buffer = { itms = 1 } } },",
      'modules.web.buffer.itms is not a known key here: did you mean "items"?', 4 },
    { "a buffer that is no table", "modules = { web = { kind = 'c', buffer = 5 } },",
      "modules.web.buffer must be a table, not 5", 4 },
    { "a buffer without an age", "modules = { web = { kind = 'c', buffer = { age = 'x' } } },",
      'modules.web.buffer.age must be a duration such as 500ms, 10s or 1h30m, not "x"', 4 },
    { "listen that is no text", "modules = { web = { kind = 'c', listen = 5 } },",
      "modules.web.listen must be a text or a list of texts, not 5", 5 },
    { "listen that is empty", "modules = { web = { kind = 'c', listen = {} } },",
      'modules.web.listen must not be empty: listen = "http://HOST:PORT"', 5 },
    { "listen with what is no text", "modules = { web = { kind = 'c', listen = { 5 } } },",
      "modules.web.listen[1] must be a text, not 5", 5 },
    { "an unknown limit", "modules = { web = { kind = 'c', listen = 'x', limits = { hed = 1 } } },",
      'modules.web.limits.hed is not a known key here: did you mean "head"?', 5 },
    { "a limit that is no size",
      "modules = { web = { kind = 'c', listen = 'x', limits = { body = 'big' } } },",
      'modules.web.limits.body must be a size such as 16MiB, not "big"', 5 },
    { "limits without listen", "modules = { web = { kind = 'c', limits = { head = 1 } } },",
      'modules.web.limits is for modules that listen: give it listen = "http://HOST:PORT"', 5 },
    { "generation_header without listen",
      "modules = { web = { kind = 'c', generation_header = true } },",
      "modules.web.generation_header is for modules that listen: give it listen =", 5 },
    { "no threads", "threads = 0,", "threads must be between 1 and 256, not 0" },
    { "too many threads", "threads = 300,", "threads must be between 1 and 256, not 300", 5 },
    { "needs that is no list", "modules = { web = { kind = 'c', needs = 'b' } },",
      "needs must be a list of texts", 4 },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is refused, with the line", function()
      local e = b:refused(with("\n" .. case[2]))
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal("reload.lua", e.file)
      if case[4] then assert.equal(5, e.line, e.text) end
    end)
  end

  it("are all checked: several faults are all reported", function()
    local _, errs = b:refused(with "nmae = 1, check = 2,\n min_interval = 'x',")
    assert.equal(3, #errs)
  end)

  -- text, the key that is wrong, its line
  local placed = {
    { "a namesake in a function", "debounse = 1,\ncheck = function() return { debounse = 2 } end,",
      'debounse is not a known key here: did you mean "debounce"?', 4 },
    { "a key of a table, named like one above it",
      "check = function()\nend,\ntimeouts = {\ncheck = 'soon' },",
      "timeouts.check must be a duration", 7 },
    { "the same, the other way round", "timeouts = { check = '1s' },\ncheck = 'soon',",
      "check must be", 5 },
    { "a namesake in a source", "name = 'x',\nmodules = { a = { kind = 'c',\nneeds = 1 },\n"
      .. "b = { kind = 'c', needs = {} } },", "needs must be a list", 6 },
    { "two modules with the same key", "modules = {\na = { kind = 'c', drain = '1s' },\n"
      .. "b = {\nkind = 'c',\ndrain = 'soon' } },", "modules.b.drain must be a duration such", 8 },
    { "keys in brackets", "['timeouts'] = {\n['check'] = 'soon' }, check = nil,",
      "timeouts.check must be a duration such as 500ms", 5 },
    { "comments and texts with braces",
      "-- } timeouts = { check = 1\n--[==[ {\n]] ]==]\nname = '}',"
      .. "schema = [[\n}]],\ntimeouts = {\ncheck = 'soon' }, check = nil,",
      "timeouts.check must be a duration", 10 },
    { "blocks in functions",
      "check = function()\nfor i = 1, 2 do if i then repeat until i end end\n"
      .. "local timeouts = { check = 1 }\nend,\ntimeouts = {\ncheck = 'soon' },",
      "timeouts.check must be a duration such as 500ms", 9 },
    { "a key with a table that is one elsewhere", "last_good = { max_age = '1s' },\ntimeouts = {\n"
      .. "[ 'check' ] = 'soon' }, check = nil,", "timeouts.check must be a duration", 5 },
  }
  for _, case in ipairs(placed) do
    it("are reported with their line beside " .. case[1], function()
      local e = b:refused(with(case[2]))
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal(case[4], e.line, e.text)
    end)
  end

  local shapes = {
    { "in a variable", [[
local segue = require "segue"
local helper = function() return { timeouts = { check = 1 } } end
local policy = { name = "x", sources = { segue.value {} }, check = function() end,
  timeouts = {
    check = "soon" } }
return policy
]], 5 },
    { "key by key", [[
local segue = require "segue"
local policy = { sources = { segue.value {} }, check = function() end }
policy.timeouts = {}
if segue then
  policy.timeouts.check = "soon"
end
return policy
]], 5 },
    { "table by table", [[
local segue = require "segue"
local policy = { sources = { segue.value {} }, check = function() end }
policy.timeouts = {
  check = "soon" }
return policy
]], 4 },
    { "out of parts", [[
local segue = require "segue"
local timeouts = {
  check = "soon" }
return { sources = { segue.value {} }, check = function() end, timeouts = timeouts }
]], 3 },
    { "by a function", [[
local segue = require "segue"
local function complete(policy) policy.name = "x" return policy end
return complete {
  sources = { segue.value {} }, check = function() end,
  timeouts = { check = "soon" } }
]], 5 },
    { "of what cannot be seen", [[
local segue = require "segue"
local key = "check"
local timeouts = { [key] = "soon" }
return {
  sources = { segue.value {} }, check = function() end,
  timeouts = timeouts }
]], 6 },
  }
  for _, shape in ipairs(shapes) do
    it("are found in a policy that is made " .. shape[1], function()
      local e = b:refused(shape[2])
      assert.truthy(e.message:find("timeouts.check must be a duration", 1, true), e.text)
      assert.equal(shape[3], e.line, e.text)
    end)
  end

  it("do not guess a line where one key of one table stands twice", function()
    local e = b:refused([[
local segue = require "segue"
local policy = { sources = { segue.value {} } }
if segue then policy.name = 5 else
  policy.name = 6 end
return policy
]])
    assert.equal(0, e.line)
    assert.equal("reload.lua", e.file)
  end)
end)

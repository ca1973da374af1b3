-- SPDX-License-Identifier: MIT
-- Modules of the kind files whose templates use Lua code of the policy: functions of a file, and
-- templates in Lua.
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local function policy(o)
  local files = {}
  for i, file in ipairs(o.options) do
    files[i] = ('{ to = "out/%d.conf", template = "%d.tmpl", %s }'):format(i, i, file)
  end
  return ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { %s },
  secrets = { "**.password" },
  modules = { web = { kind = "files", config = "web", files = { %s },
    wait = "50ms", apply = "echo run >> runs" } },
}]]):format(o.triggers or [[segue.signal "HUP"]], table.concat(files, ",\n"))
end

-- o: options and templates of each file, functions, config
local function files_of(o)
  local files = { ["a.yaml"] = o.config, ["f.lua"] = o.functions }
  for i, text in ipairs(o.templates) do files[i .. ".tmpl"] = text end
  return { policy = policy(o), files = files, env = o.env }
end

local function start(o) return segue.start(files_of(o)) end

local function put(d, config)
  d.dir:save("a.yaml", config)
  return d:reload()
end

local function count(d, name)
  local text = d:control { path = "/metrics" }.body
  return tonumber(text:match("segue_templates_" .. name .. '_total{module="web"} (%d+)'))
end

local HELPERS = [[helpers = "f.lua"]]
local ETLUA = [[language = "etlua"]]

describe("a file of a template with functions of the policy", function()
  after_each(segue.cleanup)

  it("is rendered again where the functions change, and no other file is", function()
    local d = start { options = { HELPERS, HELPERS, "" }, config = "web: { x: 1 }\n",
      functions = "return { my = function(x) return 'first ' .. x end }",
      templates = { "{{my .x}}\n", "b {{my .x}}\n", "c {{.x}}\n" },
      triggers = [[segue.watch()]] }
    assert.equal("first 1\n", d.dir:read "out/1.conf")
    assert.equal(3, count(d, "rendered"))
    d.dir:save("f.lua", "return { my = function(x) return 'second ' .. x end }")
    -- The counters of a module of a new policy begin at 0.
    wait.until_true(function() return count(d, "rendered") == 2 end, nil,
      function() return d:log() end)
    assert.equal(1, count(d, "unchanged"))
    assert.equal("second 1\n", d.dir:read "out/1.conf")
    assert.equal("b second 1\n", d.dir:read "out/2.conf")
    assert.equal("run\nrun\n", d.dir:read "runs")
    -- A rollback renders with the functions that the generation had.
    local result = d:cli("rollback", "1")
    assert.equal(0, result.code, result:describe())
    assert.equal("first 1\n", d.dir:read "out/1.conf")
  end)

  it("is not rendered again where nothing changed that its Lua code was given or asked", function()
    local d = start { options = { HELPERS, ETLUA, ETLUA }, functions = [[
return { my = function(x) return x .. key "app/port" end }]],
      config = "web: { x: 1, y: 1, z: 1 }\napp: { port: 80, other: 1 }\n",
      templates = { "{{my .x}}", "<%= config.y %>",
        "<% for k in pairs(config) do write(k) end %>" } }
    assert.equal("180", d.dir:read "out/1.conf")
    assert.equal("1", d.dir:read "out/2.conf")
    assert.equal(200, (put(d, "web: { x: 1, y: 1, z: 2 }\napp: { port: 80, other: 2 }\n")))
    assert.equal(4, count(d, "rendered")) -- the third has read all of its data
    assert.equal(200, (put(d, "web: { x: 1, y: 1, z: 2 }\napp: { port: 81, other: 2 }\n")))
    assert.equal("181", d.dir:read "out/1.conf")
    assert.equal(5, count(d, "rendered"))
    assert.equal(200, (put(d, "web: { x: 1, y: 2, z: 2 }\napp: { port: 81, other: 2 }\n")))
    assert.equal("2", d.dir:read "out/2.conf")
    assert.equal(7, count(d, "rendered"))
  end)

  it("is held while a value is missing that its Lua code requests by name", function()
    local config = "web: { x: 1 }\nservices: { api: [{ ID: one }] }\n"
    for options, text in pairs { [HELPERS] = "{{range my}}{{.ID}}{{end}}",
      [ETLUA] = [[<% for _, s in ipairs(service "api") do write(s.ID) end %>]] } do
      local d = start { options = { options }, config = config, templates = { text },
        functions = [[return { my = function() return service "api" end }]] }
      assert.equal("one", d.dir:read "out/1.conf")
      local _, answer = put(d, "web: { x: 2 }\n")
      assert.equal("held", answer.outcome)
      assert.matches("services/api", answer.errors[1].message)
      assert.equal("one", d.dir:read "out/1.conf")
    end
  end)

  it("rejects a reload where they fail, with both places", function()
    local d = start { options = { HELPERS, ETLUA }, config = "web: { x: { y: 1 } }\n",
      functions = "return { my = function(x)\n  return x.y + 1\nend }",
      templates = { "\n{{my .x}}", "\n\n<%= config.x.y %>" } }
    assert.equal("\n2", d.dir:read "out/1.conf")
    local status, answer = put(d, "web: { x: 1 }\n")
    assert.equal(422, status)
    local e = answer.errors[1]
    assert.matches('template: 1.tmpl:2:2: executing "1.tmpl" at <my .x>: error calling my: '
      .. "f.lua:2: attempt to index local 'x' (a number value)", e.message, 1, true)
    assert.matches("/1%.tmpl$", e.file)
    assert.equal(2, e.line)
    d.dir:save("1.tmpl", "fine")
    status, answer = d:reload()
    assert.equal(422, status)
    e = answer.errors[1]
    assert.matches("template: 2.tmpl:3: attempt to index field 'x' (a number value)", e.message, 1,
      true)
    assert.matches("/2%.tmpl$", e.file)
    assert.equal(3, e.line)
    assert.equal("\n2", d.dir:read "out/1.conf")
    d.dir:save("f.lua", "return {")
    status, answer = put(d, "web: { x: { y: 1 } }\n")
    assert.equal(422, status)
    assert.matches("template: 1.tmpl: f.lua:1: ", answer.errors[1].message, 1, true)
  end)

  it("does not show a secret in the message of its error", function()
    local d = start { options = { HELPERS }, config = "web: { x: 1 }\n", templates = { "{{my .}}" },
      functions = "return { my = function(c) if c.password then error(c.password) end end }" }
    local status, answer, text = put(d, "web: { x: 1, password: correct-horse-battery }\n")
    assert.equal(422, status)
    assert.matches("error calling my", answer.errors[1].message)
    assert.not_matches("horse", (text or "") .. answer.errors[1].message .. d:log())
    local diff = d:cli("plan")
    assert.not_matches("horse", diff.stdout .. diff.stderr)
  end)

  it("ends where its Lua code does not, and the next one renders", function()
    local d = start { options = { HELPERS, ETLUA }, config = "web: { x: 1 }\n",
      env = { SEGUE_TEST_RENDER_MS = "300" }, templates = { "{{my .x}}", "<%= config.x %>" },
      functions = "return { my = function(x) while x == 2 do end return x end }" }
    local status, answer = put(d, "web: { x: 2 }\n")
    assert.equal(422, status)
    assert.matches("template: 1.tmpl:1:2: .*f.lua:1: the function my used more than 300 ms",
      answer.errors[1].message)
    assert.equal("1", d.dir:read "out/1.conf")
    assert.equal(200, (put(d, "web: { x: 3 }\n")))
    assert.equal("3", d.dir:read "out/1.conf")
    assert.equal("3", d.dir:read "out/2.conf")
  end)

  it("is a mistake of the policy where its options do not fit", function()
    for options, pattern in pairs {
      ["functions = { my = function() end }"] = 'helpers = "funcs.lua" for functions of your own',
      ["helpers = { my = function() end }"] = "must be the path of a file",
      ["helpers = 'none.lua'"] = "none.lua",
      ["language = 'lua'"] = "etlua",
      [ETLUA .. ", missingkey = 'zero'"] = "has an effect only in the language go",
      [ETLUA .. ", left_delimiter = '<'"] = "has an effect only in the language go",
    } do
      local d = segue.folder(files_of { options = { options }, config = "web: { x: 1 }\n",
        templates = { "" }, functions = "" })
      local result = d:cli "check"
      assert.is_true(result.code ~= 0, result:describe())
      assert.matches(pattern, result.stderr .. result.stdout, 1, true)
    end
    local d = segue.folder(files_of { options = { HELPERS, ETLUA }, config = "web: { x: 1 }\n",
      templates = { "{{my .x}}", "<%= config.x %>" },
      functions = "return { my = function(x) return x + 1 end }" })
    local result = d:cli "check"
    assert.equal(0, result.code, result:describe())
    result = d:cli "plan"
    assert.matches("%+2\n", result.stdout)
  end)
end)

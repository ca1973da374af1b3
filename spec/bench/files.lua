-- SPDX-License-Identifier: MIT
-- The rows of the table that need no server: parsing, comparing, reading. The C drivers beside this
-- file measure our side, so that only the core is measured.
local client = require "spec.bench.client"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

-- Runs a driver: { name = value } from its "name value" lines.
local function driver(...)
  local p = process.run { build .. "/bench/" .. (...), deadline_ms = 180000, select(2, ...) }
  if p.code ~= 0 then error(p:describe()) end
  local figures = {}
  for name, value in p.stdout:gmatch("([%w_]+) ([%d.e+-]+)\n") do
    figures[name] = tonumber(value)
  end
  return figures
end

-- Services as people write them: strings, numbers, flags, a list and a nested map each.
local function services_yaml(n)
  local list = { "# services\n" }
  for i = 1, n do
    list[#list + 1] = ([[
service-%d:
  host: 10.%d.%d.%d
  port: %d
  enabled: %s
  weight: %.2f
  description: "backend number %d of the pool"
  tags: [blue, zone-%d, canary]
  health: { path: /healthz, interval: 5s, retries: 3 }
]]):format(i, i % 256, i % 251, i % 241, 1024 + i % 60000, i % 2 == 0 and "true" or "false",
      i / 7, i, i % 9)
  end
  return table.concat(list)
end

local function services_json(n, changed)
  local list = {}
  for i = 1, n do
    list[i] = ([["service-%d":{"host":"10.%d.%d.%d","port":%d,"enabled":%s,"weight":%.2f,]]
      .. [["description":"backend number %d of the pool","tags":["blue","zone-%d","canary"],]]
      .. [["health":{"path":"/healthz","interval":"5s","retries":%d}}]]):format(i, i % 256, i % 251,
      i % 241, 1024 + i % 60000, i % 2 == 0 and "true" or "false", i / 7, i, i % 9,
      i == changed and 4 or 3)
  end
  return "{" .. table.concat(list, ",\n") .. "}\n"
end

-- MB/s of a Lua function over text; the best of several rounds.
local function rate(text, rounds, fn)
  local best = math.huge
  for _ = 1, rounds do
    collectgarbage()
    local began = client.now()
    fn(text)
    best = math.min(best, client.now() - began)
  end
  return #text / 1e6 / best
end

M.yaml = { title = "YAML -> tree with positions, 5 MB", run = function(report)
  local dir = tempdir.new()
  local figures = driver("parse", dir:write("a.yaml", services_yaml(22000)), "yaml")
  report { ours = figures.segue, theirs = figures.events, peer = "libyaml's events", unit = "MB/s",
    at_least = 0.6 }
  -- Lua's reader is measured on less: it takes seconds for a megabyte.
  local lua_yaml = require "lyaml"
  report { ours = figures.segue, theirs = rate(services_yaml(2200), 2, lua_yaml.load),
    peer = "lua-yaml", unit = "MB/s", at_least = 6 }
end }

M.json = { title = "JSON -> tree with positions, 5 MB", run = function(report)
  local dir = tempdir.new()
  local text = services_json(25000)
  local figures = driver("parse", dir:write("a.json", text), "json")
  local cjson = require "cjson"
  report { ours = figures.segue, theirs = rate(text, 5, cjson.decode), peer = "lua-cjson",
    unit = "MB/s", at_least = 0.6 }
end }

M.diff = { title = "merge and diff of 10 MB, one key changed", run = function(report)
  local dir = tempdir.new()
  local n = 50000
  local figures = driver("diff", dir:write("a.json", services_json(n)),
    dir:write("b.json", services_json(n, 31415)))
  report { ours = figures.diff, theirs = figures.parse, peer = "its own parsing", unit = "ms",
    at_most = 0.01 }
end }

local services_schema = [[{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "propertyNames": { "pattern": "^[a-z]+-[0-9]+$" },
  "additionalProperties": { "$ref": "#/$defs/service" },
  "$defs": { "service": {
    "type": "object",
    "required": ["host", "port", "enabled"],
    "additionalProperties": false,
    "properties": {
      "host": { "type": "string", "minLength": 1, "maxLength": 253 },
      "port": { "type": "integer", "minimum": 1, "maximum": 65535 },
      "enabled": { "type": "boolean" },
      "weight": { "type": "number", "minimum": 0 },
      "description": { "type": "string", "maxLength": 200 },
      "tags": { "type": "array", "items": { "type": "string" }, "uniqueItems": true },
      "health": { "oneOf": [
        { "type": "null" },
        { "type": "object", "required": ["path"], "properties": {
          "path": { "type": "string", "pattern": "^/" },
          "interval": { "enum": ["1s", "5s", "10s"] },
          "retries": { "type": "integer", "minimum": 0, "maximum": 10 } } } ] } } } } }
]]

M.schema = { title = "10,000 items validated by a JSON Schema", run = function(report)
  local dir = tempdir.new()
  local schema = dir:write("schema.json", services_schema)
  local file = dir:write("a.json", services_json(10000))
  local figures = driver("schema", schema, file)
  local p = process.run { "python3", "spec/bench/schema.py", schema, file, deadline_ms = 180000 }
  if p.code ~= 0 then error(p:describe()) end
  report { ours = figures.segue, theirs = tonumber(p.stdout:match("jsonschema ([%d.]+)")),
    peer = "python3-jsonschema", unit = "ms", at_most = 0.1 }
  p = process.run { "env", "NODE_PATH=/usr/share/nodejs", "node", "spec/bench/ajv.js", schema, file,
    deadline_ms = 60000 }
  if p.code ~= 0 then error(p:describe()) end
  report { ours = figures.segue, theirs = tonumber(p.stdout:match("first ([%d.]+)")),
    peer = "ajv, the first time", unit = "ms" }
  report { ours = figures.segue, theirs = tonumber(p.stdout:match("best ([%d.]+)")),
    peer = "ajv, compiled by V8", unit = "ms" }
end }

-- 200 modules with options of all types, in a policy that returns all of them, or one.
local function many_modules(returned)
  local text = { 'local segue = require "segue"', "local modules = {" }
  for i = 1, 200 do
    text[#text + 1] = ([[
  m%d = {
    kind = "c",
    config = "m%d",
    needs = { "m%d" },
    prepare = "10s",
    drain = { within = "2s", over = "wait" },
    buffer = { items = 100, bytes = "1MiB", age = "10s" },
    listen = "http://127.0.0.1:%d",
    limits = { head = "8KiB", body = "2MiB", idle = "60s" },
  },]]):format(i, i, i < 200 and i + 1 or 0, 10000 + i)
  end
  text[#text + 1] = "}\nmodules.m200.needs = nil\nmodules.m1.needs = " .. returned.needs
  text[#text + 1] = 'return { sources = { segue.file "a.yaml" }, modules = '
    .. returned.modules .. " }\n"
  return table.concat(text, "\n")
end

M.options = { title = "options: a policy of 200 modules is validated", run = function(report)
  local dir = tempdir.new()
  local all = dir:write("reload.lua",
    many_modules { needs = '{ "m2" }', modules = "modules" })
  local one = dir:write("one.lua",
    many_modules { needs = "nil", modules = "{ m1 = modules.m1 }" })
  local figures = driver("options", require("luv").cwd() .. "/lua", all, one)
  report { ours = figures.validated, theirs = 5, peer = "goal", unit = "ms", at_most = 1 }
  report { ours = figures.all, peer = "(for the record)", unit = "ms to load it" }
end }

-- Everything is another one: every service is below another key.
local function moved(text, key)
  return key .. ":\n  " .. text:gsub("\n(.)", "\n  %1")
end

M.async = { title = "policies' tasks", run = function(report)
  local dir = tempdir.new()
  local f = driver("async", require("luv").cwd() .. "/lua", dir.path)
  report { ours = f.call, peer = "(for the record)", unit = "ns a budgeted call into Lua" }
  report { ours = f.wait, peer = "(for the record)", unit = "ns to wait and go on" }
  report { ours = f.run, theirs = f.spawn, peer = "posix_spawn, waitpid", unit = "us /bin/true",
    at_most = 2 }
  report { ours = f.fetch, peer = "(for the record)", unit = "KiB each of 1,000 fetches" }
end }

M.stall = { title = "loop turn while 10 MB reload 100 times", run = function(report)
  local dir = tempdir.new()
  local text = services_yaml(44000)
  local one = dir:write("one.yaml", text)
  local function line(f, what)
    report { ours = f.cpu_p999, theirs = 10, peer = "10 ms", unit = "ms CPU p99.9, " .. what,
      at_most = 1 }
    report { ours = f.wall_p999, peer = "(on the clock)", unit = "ms p99.9, " .. what }
    report { ours = f.reload, peer = "(for the record)", unit = "ms a reload, " .. what }
  end
  line(driver("stall", one, dir:write("two.yaml", (text:gsub("weight: 1.00", "weight: 1.01"))),
    100),
    "one key")
  line(driver("stall", dir:write("a.yaml", moved(text, "a")), dir:write("b.yaml", moved(text, "b")),
    100), "all keys")
  local policy = dir:write("reload.lua", ([[
    local segue = require "segue"
    return { name = "stall", sources = { segue.file "%s.live.yaml" }, triggers = {} }
  ]]):format(dir:at "a.yaml"))
  line(driver("stall", dir:at "a.yaml", dir:at "b.yaml", 100, policy,
    require("luv").cwd() .. "/lua"), "with history")
end }

-- A generation is the text of its file and a tree. Two are in memory: live and the one before.
M.memory = { title = "memory after 5 reloads of 10 MB of YAML", run = function(report)
  local dir = tempdir.new()
  local list = {}
  for i = 1, 110000 do
    list[i] = ("item-%06d: {host: 10.0.%d.%d, port: %d, zone: blue, weight: %d, enabled: true}\n")
      :format(i, i % 256, i % 251, i % 60000, i % 100)
  end
  local text = table.concat(list)
  local one, two = dir:write("one.yaml", text), dir:write("two.yaml", text .. "more: {a: 1}\n")
  local steady, f = driver("memory", one, two).steady, driver("memory", one, two, "keep")
  report { ours = steady, theirs = 103.8, peer = "half of the first version", unit = "MB",
    at_most = 1.0 }
  report { ours = f.kept, peer = "(for the record)", unit = "MB, 5 kept" }
  report { ours = f.released, theirs = steady, peer = "nothing kept", unit = "MB, 5 released",
    at_most = 1.25 }
end }

M.pattern = { title = "patterns that count their steps", run = function(report)
  local f = driver("pattern")
  report { ours = f.ours, theirs = f.luajit, peer = "LuaJIT's own", unit = "ns each",
    at_most = 2 }
end }

M.gate = { title = "entering and leaving a gate", run = function(report)
  local f = driver("gate")
  for threads = 1, 2 do
    report { ours = f["gate_" .. threads], theirs = f["rwlock_" .. threads],
      peer = "pthread rwlock", at_most = 1,
      unit = ("ns, %d thread%s"):format(threads, threads > 1 and "s" or "") }
  end
  report { ours = f.gate_2, theirs = f.gate_1, peer = "2 threads to 1", unit = "ns",
    at_most = 1.5 }
end }

M.log = { title = "a line of the log", run = function(report)
  local f, peer = driver("log", tempdir.new().path), driver("spdlog", tempdir.new().path)
  for threads = 1, 2 do
    local unit = ("ns, %d thread%s"):format(threads, threads > 1 and "s" or "")
    report { ours = f["log_" .. threads], theirs = f["write_" .. threads],
      peer = "snprintf, write(2)", at_most = 1, unit = unit }
    report { ours = f["log_" .. threads], theirs = peer["spdlog_" .. threads],
      peer = "spdlog, async", unit = unit }
  end
  report { ours = f.log_paced - f.clock_paced, theirs = f.format_paced - f.clock_paced,
    peer = "snprintf alone", unit = "ns, each 20 µs" }
  report { ours = f.copy_paced - f.clock_paced, peer = "(for the record)",
    unit = "ns, clock, memcpy" }
end }

M.read = { title = "reading the config, a writer every ms", run = function(report)
  local f = driver("read")
  for threads = 1, 2 do
    local function line(ours, theirs, peer, goal)
      report { ours = f[ours .. "_" .. threads], theirs = f[theirs .. "_" .. threads], peer = peer,
        unit = ("ns, %d thread%s"):format(threads, threads > 1 and "s" or ""), at_most = goal }
    end
    line("registered", "plain", "plain pointer", 2)
    line("any", "plain", "same, any thread", 4)
    line("registered", "rwlock", "pthread rwlock", 0.2)
    line("counted", "rwlock", "same, counted ref.")
  end
  report { ours = f.registered_2, theirs = f.registered_1, peer = "2 threads to 1", unit = "ns",
    at_most = 1.5 }
end }

return M

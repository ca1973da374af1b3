-- SPDX-License-Identifier: MIT
-- Times of the template engine for spec/bench/templates.lua: the best of several rounds, in ms. The
-- engine runs as in core/bind/template, but without its memory limit.
package.loaded["segue.template.host"] = {
  regex_new = function() return true end, regex_match = function() end, cpu_seconds = os.clock,
  load = loadstring,
  seconds_max = 60, dialects = "segue|confd|consul-template|sprig|go",
}
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
require("jit.opt").start("maxtrace=4000", "maxmcode=16384", "maxside=200")
collectgarbage("setpause", 400)
local template = require "segue.template"
local value = require "segue.template.value"

local function services(n)
  local list = {}
  for i = 0, n - 1 do
    list[i + 1] = value.map { Name = "web", ID = "web-" .. i, Port = 8000 + i % 1000,
      Up = i % 3 ~= 0, Address = ("10.0.%d.%d"):format(i / 256, i % 256),
      Tags = value.list { "a", "b" }, Meta = value.map { w = "1" } }
  end
  return value.map { s = value.list(list) }
end

local function best(rounds, run)
  local least = math.huge
  for round = 1, rounds do
    local start = os.clock()
    run(round)
    least = math.min(least, os.clock() - start)
  end
  return least * 1000
end

local data, two = services(10000), services(2)
for i, name in ipairs { "fields", "actions" } do
  local compiled, output = assert(template.compile(arg[i], { name = "t" })), nil
  local ms = best(15, function() output = assert(template.render(compiled, data)) end)
  print(name, ms, #output)
end
local function small(round)
  for i = 0, 999 do
    local text = ("# %d%s\n%s"):format(i, round and " " .. round or "", arg[3])
    assert(template.render(assert(template.compile(text, { name = "t" })), two))
  end
end
print("small", best(5, small), 1000)
small()
print("cached", best(5, function() small() end), 1000)

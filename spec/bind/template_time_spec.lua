-- SPDX-License-Identifier: MIT
-- The time limit of a template with Lua code: a fake of segue.template.host has a clock of its own,
-- and takes the place of that code.
local clock, left
local path = package.path

-- Loads the engine again. spends: the seconds that each entry into the Lua code takes, by its name.
local function engine(spends)
  for name in pairs(package.loaded) do
    if name:find "^segue%.template" then package.loaded[name] = nil end
  end
  clock, left = 0, {}
  package.path = ("%s/?.lua;%s/?/init.lua;"):gsub("%%s", os.getenv "SEGUE_LUA_DIR" or "lua") .. path
  local function entered(name, result)
    return function(total, rest)
      assert.equal(10000, total)
      left[#left + 1] = name .. " " .. rest
      clock = clock + spends[name]
      return true, result()
    end
  end
  local function wire(v)
    return (require("segue.template.transfer").encode(1, v):sub(5)) -- behind its epoch
  end
  package.loaded["segue.template.host"] = {
    dialects = "segue|confd|consul-template|sprig|go", seconds_max = 10,
    cpu_seconds = function() return clock end, setup = function() end,
    script_answer = function() end, load = loadstring,
    script_begin = entered("file", function()
      return wire(require("segue.template.value").list { "f" })
    end),
    script_call = entered("call", function() return wire "x" end),
    script_run = entered("run", function() return "output" end),
  }
  return require "segue.template.command"
end

describe("the time of a template", function()
  after_each(function()
    collectgarbage("setpause", 200)
    package.path = path
    for name in pairs(package.loaded) do
      if name:find "^segue%.template" then package.loaded[name] = nil end
    end
  end)

  local job = { name = "t", template = "{{f}}{{f}}", helpers = "return { f = f }" }

  it("is one limit for the file of functions and all calls", function()
    local command = engine { file = 4, call = 2 }
    assert.equal("xx", (command.render(job)))
    assert.same({ "file 10000", "call 6000", "call 4000" }, left)
    left = {}
    assert.equal("xx", (command.render(job))) -- the next rendering has its own
    assert.same({ "file 10000", "call 6000", "call 4000" }, left)
  end)

  it("is that of the file also for a template in Lua", function()
    local command = engine { file = 7, run = 2 }
    assert.equal("output", (command.render { name = "t", template = "x", language = "etlua" }))
    assert.same({ "file 10000", "run 3000" }, left)
  end)

  it("is over in the next loop of the template", function()
    local command = engine { file = 7, call = 4 }
    local output, failure = command.render { name = "t", helpers = "return { f = f }",
      template = "{{f}}{{range 3000}}x{{end}}" }
    assert.is_nil(output)
    assert.matches("the template used more than 10 s of CPU time", failure.message, 1, true)
  end)
end)

-- SPDX-License-Identifier: MIT
-- Rendered files and what harms them: a check that leaves a process behind, values that look like
-- commands, a template that changes while it is rendered.
local files_module = require "spec.support.files_module"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of
local fill = files_module.policy()

local function start(module)
  return segue.start { policy = fill(module or ""), files = { ["a.yaml"] = "x: 1\n" } }
end

local function change(d, module, x)
  d.dir:save("reload.lua", fill(module))
  return put(d, x)
end

-- The number of a process that a command has written to a file.
local function pid_of(d, name)
  return wait.until_true(function() return tonumber(d.dir:read(name)) end)
end

describe("a check that forks away", function()
  after_each(segue.cleanup)

  it("ends with its children that stay in its group", function()
    local d = start()
    for x, wrong in ipairs { "", "; exit 1" } do
      local status = change(d, ([[check = "sleep 1000 & echo $! > pid%s"]]):format(wrong), x + 1)
      assert.equal(wrong == "" and 200 or 422, status)
      local pid = pid_of(d, "pid")
      wait.until_true(function() return not process.is_alive(pid) end, nil,
        function() return "the child of the check runs" end)
      d.dir:delete "pid"
    end
  end)

  it("cannot write the live files later by a child that has left its group", function()
    local d = start()
    local status, answer = change(d, [==[check = [[test -e up && exit 0; setsid sh -c 'touch up
      until test -e go; do :; done
      (echo evil > out/a; echo evil > out/.a; rm -f out/a) 2> /dev/null; cat out/a > seen
      echo done > over' > /dev/null 2>&1 & echo $! > pid
      until test -e up; do :; done]]]==], 2)
    assert.equal(200, status, message_of(answer))
    local pid = pid_of(d, "pid")
    finally(function() uv.kill(pid, 9) end)
    assert.equal(200, (put(d, 3)))
    d.dir:write("go", "")
    wait.until_true(function() return d.dir:read "over" end)
    assert.equal("2\n", d.dir:read "seen") -- the staged version of its time
    assert.same({ "3", nil }, { live(d), d.dir:read "out/.a" })
  end)
end)

describe("a value of the configuration", function()
  after_each(segue.cleanup)

  local evil = [["$(touch hit) `touch hit`; touch hit\n'\"\n\\\n$HOME\n* | touch hit &&\r\t"]]
  local text = "$(touch hit) `touch hit`; touch hit\n'\"\n\\\n$HOME\n* | touch hit &&\r\t"

  local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.json" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", files = {
      { to = "out/template", template = "a.tmpl" },
      { to = "out/function", content = function(config) return config.evil end } },
    check = "cat {staged:out/template} > checked",
    apply = "cat out/template > applied", undo = "cat out/function > undone" } },
}]]

  it("is only bytes of a file: no shell reads it; NUL is refused", function()
    local d = segue.start { policy = policy, files = { ["a.tmpl"] = "{{.evil}}",
      ["a.json"] = '{ "evil": ' .. evil .. " }" } }
    for _, name in ipairs { "out/template", "out/function", "checked", "applied" } do
      assert.equal(text, d.dir:read(name), name)
    end
    d.dir:save("a.json", [[{ "evil": "a\u0000$(touch hit)" }]])
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("a.json:1", ("%s:%d"):format(answer.errors[1].file, answer.errors[1].line))
    assert.matches("\\u0000 is not allowed", message_of(answer))
    assert.equal(text, d.dir:read "applied")
    assert.is_nil(d.dir:read "hit")
  end)

  it("is one argument of a program that a function runs", function()
    local d = segue.start { policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.json" },
  triggers = { segue.signal "HUP" },
  check = function(next)
    local result = assert(segue.run { "printf", "%s", "-" .. next.evil })
    return result.stdout == "-" .. next.evil, "another argument: " .. result.stdout
  end,
}]], files = { ["a.json"] = '{ "evil": ' .. evil .. " }" } }
    assert.is_nil(d.dir:read "hit")
  end)
end)

describe("a template that changes while it is rendered", function()
  after_each(segue.cleanup)

  it("is rendered as it was read, and again with its new text", function()
    local d = segue.start { policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.watch() }, debounce = { min = "5ms", max = "50ms" },
  modules = { web = { kind = "files", timeout = "60s", files = {
    { to = "out/first", content = function(config)
      if config.x == 2 then segue.run { "sh", "-c", "touch began; until test -e go; do :; done",
        timeout = "60s" } end
      return config.x .. "\n"
    end },
    { to = "out/a", template = "a.tmpl" } },
    apply = "cat out/a >> applied" } },
}]], files = { ["a.yaml"] = "x: 1\n", ["a.tmpl"] = "old {{.x}}\n" } }
    d.dir:save("a.yaml", "x: 2\n")
    wait.until_true(function() return d.dir:read "began" end, nil, function() return d:log() end)
    d.dir:write("a.tmpl", "new {{")
    d.dir:write("a.tmpl", "new {{.x}}\n")
    d.dir:write("go", "")
    wait.until_true(function() return d.dir:read "out/a" == "new 2\n" end, nil,
      function() return d:log() end)
    d:wait_settled()
    assert.equal("old 1\nold 2\nnew 2\n", d.dir:read "applied")
  end)
end)

-- SPDX-License-Identifier: MIT
-- `segue exec` on a terminal: the child has it, and job control of a shell works.
local process = require "spec.support.process"
local pty = require "spec.support.pty"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return { name = "t", sources = { segue.file "config.yaml" }, triggers = { segue.signal "HUP" } }]]

local t, d
after_each(function()
  if t then t:close() end
  t = nil
  segue.cleanup()
end)

local function state(pid)
  local file = assert(io.open("/proc/" .. pid .. "/stat"))
  local text = file:read "*a"
  file:close()
  return text:match "%) (%a)"
end

local function folder()
  d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n",
    ["child.sh"] = 'echo $$ > pid\necho "child ready"\n'
      .. 'while read line; do echo "got <$line>"; done\n' } }
end

local function shell()
  folder()
  t = pty.start { "bash", "--norc", "--noprofile", "-i", cwd = d.dir.path,
    env = { PS1 = "prompt> " } }
  t:wait "prompt> "
end

local function line()
  return segue.binary .. " exec -c reload.lua --log-level error -- sh child.sh"
end

describe("segue exec on a terminal", function()
  it("gives it to the child, stops and continues with it, and takes it back", function()
    shell()
    t:write(line() .. "\n")
    t:wait "child ready"
    t:write "hello\n"
    t:wait "got <hello>"
    local child = tonumber(d.dir:read "pid")
    t:write "\26"
    t:wait "Stopped"
    wait.until_true(function() return state(child) == "T" end, nil, "the stopped child")
    t:write "fg\n"
    wait.until_true(function() return state(child) ~= "T" end, nil, "the continued child")
    t:write "again\n"
    t:wait "got <again>"
    t:write "\3"
    wait.until_true(function() return not process.is_alive(child) end, nil, "the end of the child")
    t:write "echo back=$((40 + 2)).\n"
    t:wait "back=42."
  end)

  it("ends with the child's code at ^C, and with ^D", function()
    shell()
    t:write(line() .. "\n")
    t:wait "child ready"
    t:write "\3"
    t:wait "prompt> "
    t:write "echo code=$?.\n"
    t:wait "code=130."
    t:write(line() .. "\n")
    t:wait "child ready"
    t:write "\4"
    t:wait "prompt> "
    t:write "echo code=$?.\n"
    t:wait "code=0."
  end)

  it("leaves it to the shell in the background", function()
    shell()
    t:write(line() .. " &\n")
    -- The child reads from a terminal that it does not have, which stops it, and segue with it.
    t:wait "child ready"
    wait.until_true(function()
      local pid = tonumber(d.dir:read "pid" or "")
      return pid and state(pid) == "T"
    end, nil, "the child that wants to read")
    t:write "echo here=$((40 + 2)).\n"
    t:wait "here=42."
    t:write "fg\n"
    t:write "now\n"
    t:wait "got <now>"
    t:write "\3"
    t:wait "prompt> "
  end)

  it("continues a child that ^Z stops where no shell can do that", function()
    folder()
    t = pty.start { segue.binary, "exec", "-c", "reload.lua", "--log-level", "error", "--", "sh",
      "child.sh", cwd = d.dir.path }
    t:wait "child ready"
    t:write "\26"
    t:write "still\n"
    t:wait "got <still>"
    t:write "\3"
    wait.until_true(function()
      t:read()
      uv.run "nowait"
      return t.code
    end, nil, "its end")
    assert.equal(130, t.code)
  end)
end)

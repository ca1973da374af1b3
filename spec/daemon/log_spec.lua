-- SPDX-License-Identifier: MIT
-- The daemon's log: the reader of standard error may be slow, stop, or be gone; the disk may be
-- full. None of that stops the daemon, and lost lines are counted.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  check = function(next)
    for i = 1, next.lines do segue.log.info(("x"):rep(900), { i = i }) end
    return true
  end,
}
]]

local function start(lines, stderr, args)
  return segue.start { policy = policy, files = { ["config.yaml"] = ("lines: %d\n"):format(lines) },
    under = { "sh", "-c", ('exec "$@" 2>%s'):format(stderr), "sh" }, args = args }
end

-- A named pipe that is open for reading but never read.
local function fifo(dir)
  local path = dir:at "stderr"
  assert(os.execute("mkfifo " .. path) == 0)
  return { path = path, fd = assert(uv.fs_open(path, uv.constants.O_RDWR, 0)), text = "" }
end

-- Reads until the text since the call matches the pattern. The text may have megabytes: only its
-- end is searched.
local function read_until(pipe, pattern)
  local watch = uv.new_pipe(false)
  assert(watch:open(assert(uv.fs_open(pipe.path, "r", 0))))
  local chunks, tail, found = {}, "", false
  watch:read_start(function(_, data)
    if not data then return end
    chunks[#chunks + 1] = data
    tail = (tail .. data):sub(-100000)
    found = found or tail:find(pattern) ~= nil
  end)
  wait.until_true(function() return found end, 20000, "in the log: " .. pattern)
  watch:close()
  pipe.text = pipe.text .. table.concat(chunks)
end

local function each_entry(text)
  return coroutine.wrap(function()
    for line in text:gmatch "[^\n]+" do coroutine.yield(cjson.decode(line)) end
  end)
end

describe("the daemon's log", function()
  after_each(segue.cleanup)

  it("without a reader blocks nothing, and dropped lines are counted in their place", function()
    local pipe = fifo(tempdir.new())
    local d = start(0, pipe.path, { "--log-format", "json" })
    d.dir:save("config.yaml", "lines: 2000\n") -- 1.9 MB: the queue holds 1 MiB, the pipe 64 KiB
    assert.equal(200, (d:reload()))
    d.dir:save("config.yaml", "lines: 1\n")
    assert.equal(200, (d:reload()))
    assert.equal(1, d:config().lines)
    read_until(pipe, '"log lines were dropped: the reader of .- is too slow","lines":%d+}\n')
    d.dir:save("config.yaml", "lines: 2\n")
    assert.equal(200, (d:reload()))
    read_until(pipe, '"i":"2"}\n')
    local seen, dropped, last = 0, 0, 0
    for entry in each_entry(pipe.text) do
      if entry.i then
        local i = tonumber(entry.i)
        assert.is_true(i == last + 1 or dropped > 0, entry.i)
        seen, last = seen + 1, i
      elseif entry.lines then
        dropped = dropped + entry.lines
      end
    end
    assert.is_true(dropped > 100, dropped)
    assert.is_true(seen + dropped >= 2003, seen + dropped)
    uv.fs_close(pipe.fd)
  end)

  it("without a reader does not keep it from stopping", function()
    local pipe = fifo(tempdir.new())
    local d = start(0, pipe.path)
    d.dir:save("config.yaml", "lines: 200\n")
    assert.equal(200, (d:reload()))
    d:signal "term"
    assert.equal(0, (d:wait_exit(20000)))
    uv.fs_close(pipe.fd)
  end)

  it("is complete after a normal end and after a crash", function()
    for signal, pattern in pairs { term = " stopped\n$", segv = "i=300\n" } do
      local d = segue.start { policy = policy, files = { ["config.yaml"] = "lines: 0\n" } }
      d.dir:save("config.yaml", "lines: 300\n")
      d:reload()
      d:signal(signal)
      d:wait_exit(20000)
      assert.matches(pattern, d:log())
      for i = 1, 300 do assert.truthy(d:log():find((" i=%d\n"):format(i), 1, true), i) end
    end
  end)

  it("on a full disk, or without a reader, blocks nothing", function()
    for _, where in ipairs { "/dev/full", "&-" } do
      local d = start(100, where)
      d.dir:save("config.yaml", "lines: 99\n")
      assert.equal(200, (d:reload()))
      assert.equal(99, d:config().lines)
    end
  end)

  it("continues after a disk was full, and logs how many lines were lost", function()
    local d = segue.folder { policy = policy, files = { ["config.yaml"] = "lines: 0\n" } }
    -- A file system of 256 KiB, in a mount namespace of the daemon's own.
    d.options.under = { "unshare", "-rm", "sh", "-c", ('mount -t tmpfs -o size=256k none %s && '
      .. 'exec "$@" 2>>%s/log'):format(d.dir:mkdir "disk", d.dir:at "disk"), "sh" }
    d:spawn()
    d:wait_ready()
    local root = ("/proc/%d/root"):format(d.process.pid)
    local log = root .. d.dir:at "disk/log"
    d.dir:save("config.yaml", "lines: 400\n") -- 370 KB
    assert.equal(200, (d:reload()))
    wait.until_true(function() return (uv.fs_stat(log) or {}).size == 262144 end)
    assert(io.open(log, "w")):close()
    d.dir:save("config.yaml", "lines: 1\n")
    assert.equal(200, (d:reload()))
    local text
    wait.until_true(function()
      local file = assert(io.open(log))
      text = file:read "*a"
      file:close()
      return text:find "reload: applied"
    end)
    assert.matches("cannot write standard error lines=%d+ error=\"No space left on device\"\n",
      text)
    assert.matches(" i=1\n", text)
  end)
end)

describe("colour", function()
  after_each(segue.cleanup)

  -- The output of a command on a terminal of its own.
  local function on_terminal(folder, command, env)
    return process.run { "script", "-qec", segue.binary .. " " .. command, "/dev/null",
      cwd = folder.path, env = env }.output
  end

  -- Of a daemon that ends by itself, with an error.
  local function log_of(env)
    local dir = tempdir.new()
    dir:write("reload.lua", "return 42")
    return on_terminal(dir, "run", env)
  end

  it("is for terminals, unless NO_COLOR or TERM=dumb say that it is not", function()
    local plain = { TERM = "xterm", NO_COLOR = false }
    assert.matches("\27%[31merror\27%[0m", log_of(plain))
    for _, env in ipairs { { TERM = "xterm", NO_COLOR = "1" }, { TERM = "dumb", NO_COLOR = false },
      { TERM = "dumb", NO_COLOR = "1" } } do
      local text = log_of(env)
      assert.matches("error", text)
      assert.is_nil(text:find("\27", 1, true), text)
    end
    assert.matches("\27%[31merror", log_of { TERM = "xterm", NO_COLOR = "" }) -- empty: not set
  end)

  it("is in the tables of commands on a terminal too", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "lines: 0\n" } }
    local function status(env) return on_terminal(d.dir, "status", env) end
    assert.matches("\27%[32mready\27%[0m", status { TERM = "xterm", NO_COLOR = false })
    assert.is_nil(status { TERM = "xterm", NO_COLOR = "1" }:find("\27", 1, true))
    assert.is_nil(status { TERM = "dumb", NO_COLOR = false }:find("\27", 1, true))
  end)
end)

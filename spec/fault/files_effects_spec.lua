-- SPDX-License-Identifier: MIT
-- kill -9 at every step of files that a signal or a request applies, that are verified, or that
-- have an undo of their own. After the next start the files are those of the last good generation,
-- and the server was asked last to use just these.
local files_module = require "spec.support.files_module"
local kill = require "spec.support.killed"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local d, server
local function folder(module)
  d = segue.start { policy = files_module.two(module),
    files = { ["a.yaml"] = "x: 1\n" }, ready = false }
  d:wait_ready()
  d:stop()
end

local function put(x) d.dir:save("a.yaml", ("x: %s\n"):format(x)) end

local function is(name, x)
  return d.dir:read(name) == ("a%d\nb%d\n"):format(x, x)
end

local function whole(x)
  assert.equal(("a%d\n"):format(x), d.dir:read "out/a")
  assert.equal(("b%d\n"):format(x), d.dir:read "out/b")
  wait.until_true(function() return is("applied", x) end, nil, function()
    return ("applied: %s, not %d\n%s"):format(d.dir:read "applied", x, d:log())
  end)
end

local function killed(x, faults)
  kill.arm(d, faults)
  d:wait_ready()
  put(x)
  kill.ask(d, "/-/reload")
  kill.wait(d, faults)
end

-- The next start finds sources that cannot be read, so that only the recovery has an effect.
local function recovers(to)
  put "["
  d:spawn()
  d:wait_ready()
  assert.equal(to, d:config().x)
  whole(to)
  put(3)
  assert.equal(200, (d:reload()))
  whole(3)
end

-- A kind of effect, and the server that keeps what it was asked to use: applied.
local kinds = {
  ["a signal"] = function()
    local dir = require("spec.support.tempdir").new()
    server = process.start { "sh", "-c", [[trap 'cat $(cat folder)/out/a $(cat folder)/out/b > new
      mv new $(cat folder)/applied' HUP; echo $$ > server.pid; while :; do sleep 0.02; done]],
      cwd = dir.path, name = "server" }
    wait.until_true(function() return (dir:read "server.pid" or ""):find "\n" end)
    return ("apply = segue.hup(%q, { name = 'sh' })"):format(dir:at "server.pid"), function()
      dir:save("folder", d.dir.path .. "\n")
    end
  end,
  ["a request"] = function()
    local w = web.serve(function(_, client)
      d.dir:save("applied", (d.dir:read "out/a") .. (d.dir:read "out/b"))
      client:write(web.answer "ok")
    end)
    return ("apply = segue.post %q"):format(w.url)
  end,
}

describe("files that are applied by", function()
  after_each(function()
    segue.cleanup()
    web.cleanup()
    if server then server:stop() end
    server = nil
  end)

  for name, make in pairs(kinds) do
    local function start()
      local module, ready = make()
      d = segue.folder { policy = files_module.two(module),
        files = { ["a.yaml"] = "x: 1\n" } }
      if ready then ready() end
      d:spawn()
      d:wait_ready()
      d:stop()
    end

    for _, point in ipairs { "files.commit#2", "files.apply", "files.applied", "commit.flip#2",
      "last_good.write" } do
      it(("%s are undone where the daemon is killed at %s"):format(name, point), function()
        start()
        killed(2, point .. "=kill")
        recovers(1)
      end)
    end

    it(name .. " are finished where their generation was recorded", function()
      start()
      killed(2, "last_good.sync=kill")
      os.remove(d.dir:at "applied") -- whether the server was asked is not known
      recovers(2)
    end)

    it(name .. " are undone where the undo is killed", function()
      start()
      killed(2, "files.applied=fail,files.restore#2=kill")
      recovers(1)
    end)
  end
end)

describe("a pid file that changes while a signal is sent", function()
  local servers = {}
  after_each(function()
    segue.cleanup()
    for _, s in ipairs(servers) do s:stop() end
    servers = {}
  end)

  -- A server that writes its name to the file hit when it gets a signal.
  local function start(name)
    local s = process.start { "sh", "-c", ([[trap 'echo %s >> hit' HUP; echo ready
      while :; do sleep 0.02; done]]):format(name), cwd = d.dir.path, name = name }
    s:wait_output "ready"
    servers[#servers + 1] = s
    return s
  end

  it("leads to the process that it names then, and not to the one before", function()
    d = segue.folder { policy = files_module.two([[apply = segue.hup("s.pid",
      { name = "sh" })]]), files = { ["a.yaml"] = "x: 1\n" } }
    d.dir:save("s.pid", start("old").pid .. "\n")
    d:spawn()
    d:wait_ready()
    d:stop()
    wait.until_true(function() return d.dir:read "hit" == "old\n" end)
    kill.arm(d, "pid_file.opened#1=stop")
    d:wait_ready()
    put(2)
    d:signal "hup"
    wait.until_true(function()
      local file = assert(io.open(("/proc/%d/stat"):format(d.process.pid)))
      local stopped = file:read("*a"):find "%) T "
      file:close()
      return stopped
    end, nil, function() return d:log() end)
    d.dir:save("s.pid", start("new").pid .. "\n")
    d:signal "cont"
    wait.until_true(function() return (d.dir:read "hit"):find "\n.*\n" end, nil,
      function() return d:log() end)
    assert.equal("old\nnew\n", d.dir:read "hit")
  end)
end)

describe("files whose use is verified", function()
  after_each(segue.cleanup)

  for _, point in ipairs { "files.applied", "files.verified" } do
    it("are undone where the daemon is killed at " .. point, function()
      folder [[apply = "cat out/a out/b > applied", verify = function() return true end]]
      killed(2, point .. "=kill")
      recovers(1)
    end)
  end
end)

describe("files with an undo of their own", function()
  after_each(segue.cleanup)

  it("run it in the recovery, in place of apply", function()
    folder [[apply = "cat out/a out/b > applied", undo = "cat out/a out/b > undone"]]
    killed(2, "files.applied=kill")
    put "["
    d:spawn()
    d:wait_ready()
    assert.is_true(is("undone", 1))
    assert.is_true(is("applied", 2))
  end)

  it("are applied again by the recovery where the undo is a function", function()
    folder [[apply = "cat out/a out/b > applied",
      undo = function() segue.write("undone", "x") return true end]]
    killed(2, "files.applied=kill")
    recovers(1)
    assert.is_nil(d.dir:read "undone")
  end)
end)

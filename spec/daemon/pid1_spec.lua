-- SPDX-License-Identifier: MIT
-- The daemon as process 1 of a container: orphans are reaped, code that waits for a child of the
-- daemon gets the status of that child, and signals and exit codes pass through.
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "one",
  sources = { segue.source { name = "s", fetch = function()
    local code = tonumber(segue.read "code")
    local r = segue.run { "sh", "-c", "for i in 1 2 3; do setsid sh -c 'echo x >> done' & done; "
      .. "exit " .. code }
    return { code = r.code }
  end } },
  triggers = { segue.signal "HUP", segue.signal "USR1" },
}
]]

-- The fields of /proc for each process, as seen from outside the container.
local function children(pid)
  local list = {}
  local folder = uv.fs_scandir("/proc")
  for name in function() return (uv.fs_scandir_next(folder)) end do
    local file = name:find("^%d+$") and io.open("/proc/" .. name .. "/stat")
    local state, parent
    if file then
      state, parent = (file:read("*a") or ""):match("^%d+ %(.*%) (%a) (%d+)")
      file:close()
    end
    if tonumber(parent) == pid then list[#list + 1] = { pid = tonumber(name), state = state } end
  end
  return list
end

describe("the daemon as process 1", function()
  after_each(segue.cleanup)

  local d, keeper, daemon

  local container = { "unshare", "--pid", "--fork", "--mount-proc", "--kill-child" }

  -- under: the commands that start it in its container, the last one next to it.
  local function start(...)
    local under = { unpack(container) }
    for _, word in ipairs { ... } do under[#under + 1] = word end
    d = segue.start { policy = policy, files = { code = "0\n" }, under = under }
    keeper = children(d.process.pid)[1].pid
    daemon = children(keeper)[1].pid
  end

  local function ends(code)
    assert.equal(code, (d:wait_exit()), d.process:describe())
  end

  it("reaps what its commands leave behind, and takes the status of no awaited child", function()
    start()
    for code = 1, 20 do
      d.dir:save("code", code .. "\n")
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal(code, d:config().code)
    end
    wait.until_true(function()
      local _, n = (d.dir:read "done"):gsub("x", "")
      return n >= 63
    end, nil, "all orphans")
    wait.until_true(function()
      return #children(keeper) == 1 and #children(daemon) == 0
    end, nil, "no zombie")
    uv.kill(keeper, "sigterm")
    ends(0)
  end)

  it("passes signals on, and ends as the daemon does", function()
    start()
    for _, name in ipairs { "hup", "usr1" } do
      d.dir:save("code", #name .. "\n")
      uv.kill(keeper, "sig" .. name)
      d:wait_log("cause=SIG" .. name:upper())
    end
    uv.kill(daemon, "sigkill")
    ends(137)
  end)

  it("gets the status of commands and of the daemon where SIGCHLD was ignored", function()
    start("env", "--ignore-signal=CHLD")
    d.dir:save("code", "7\n")
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal(7, d:config().code)
    uv.kill(keeper, "sigterm")
    ends(0)
  end)

  it("passes on the exit code of a failed first load", function()
    d = segue.start { policy = policy, files = { code = "no\n" }, ready = false,
      under = container }
    local code = d:wait_exit()
    assert.is_true(code == 3 or code == 4, d.process:describe())
  end)
end)

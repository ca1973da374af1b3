-- SPDX-License-Identifier: MIT
-- The commands of a files module: how they run, and the effect of bad ones.
local files_module = require "spec.support.files_module"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of
local function fill(module, to) return files_module.policy(nil, to)(module) end

-- The folder may be entered by every user.
local function start(module, to, env)
  local d = segue.folder { policy = fill(module, to), files = { ["a.yaml"] = "x: 1\n" },
    env = env }
  assert(uv.fs_chmod(d.dir.path, 493))
  d:spawn()
  d:wait_ready()
  return d
end

local function change(d, module, to, x)
  d.dir:save("reload.lua", fill(module, to))
  return put(d, x)
end

local function gone(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local text = file and file:read "*a"
  if file then file:close() end
  return not text or text:find "%) Z " ~= nil
end

local function peak_kib(d)
  local file = assert(io.open(("/proc/%d/status"):format(d.process.pid)))
  local text = file:read "*a"
  file:close()
  return tonumber(text:match "VmHWM:%s*(%d+)")
end

describe("a command of a files module", function()
  after_each(segue.cleanup)

  it("has the environment and the folder that its options name", function()
    local d = start([[apply = { "sh", "-c", 'echo "$A,${B-unset},$C,$PWD" > seen',
      env = { A = "a b'$x", B = false, C = 3 }, folder = "out" }]], nil, { B = "inherited" })
    assert.equal("a b'$x,unset,3," .. d.dir:at "out" .. "\n", d.dir:read "out/seen")
  end)

  it("runs as the user and the group that its options name", function()
    local who = "'id -un; id -gn; id -Gn; echo $HOME; cat out/a; exit 1'"
    local d = start [[apply = "true"]]
    local home = io.popen("getent passwd nobody | cut -d: -f6"):read "*l"
    for x, text in ipairs {
      [[check = { "sh", "-c", %s, user = "nobody", group = "games" }]],
      [[check = { "sh", "-c", %s, "sh", "{staged:out/a}", user = "nobody", group = "games" }]],
      [[apply = { "sh", "-c", %s, user = "nobody", group = "games" }, undo = "true"]],
    } do
      local status, answer = change(d, text:format(who), nil, x + 1)
      assert.is_true(status >= 400)
      assert.matches("code 1: nobody; games; games[nogroup ]*; " .. home .. "; %d",
        message_of(answer))
    end
    local _, answer = change(d, [[apply = { "id", user = "no-such" }, undo = "true"]], nil, 5)
    assert.matches("there is no such user: no%-such", message_of(answer))
    _, answer = change(d, [[check = { "id", user = "no-such" }]], nil, 6)
    assert.matches("there is no such user: no%-such", message_of(answer))
    assert.equal("1", live(d))
  end)

  it("is ended with its whole group at the time limit, also where that ignores TERM", function()
    local d = start [[apply = "true"]]
    local status, answer = change(d, [[check = { "sh", "-c", [=[trap '' TERM
      sh -c "trap '' TERM; echo \$\$ > child; while :; do sleep 1000; done" &
      echo $$ > parent; while :; do sleep 1000; done]=], "sh", "{staged:out/a}",
      timeout = "1s", kill_after = "100ms" }]], nil, 2)
    assert.equal(500, status)
    assert.matches("took longer than 1 s and was stopped", message_of(answer))
    for _, name in ipairs { "child", "parent" } do
      local pid = assert(tonumber(d.dir:read(name)))
      wait.until_true(function() return gone(pid) end)
    end
    assert.equal("1", live(d))
  end)

  it("may leave a daemon behind that keeps its output open", function()
    local d = start [=[check = [[setsid sh -c 'touch up; exec sleep 1000' & echo $! > pid
      until test -e up; do :; done; echo checked]]]=]
    local pid = assert(tonumber(d.dir:read "pid"))
    finally(function() uv.kill(pid, 9) end)
    assert.is_false(gone(pid))
    assert.equal("1", live(d))
  end)

  it("may write 100 MB, of which the last lines are reported", function()
    local d = start [[apply = "true"]]
    local before = peak_kib(d)
    local status, answer = change(d, [[check = { "sh", "-c",
      "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo fatal: too much; exit 1" }]], nil, 2)
    assert.equal(422, status)
    assert.matches("exited with code 1: fatal: too much; x+ %(after", message_of(answer))
    assert.is_true(peak_kib(d) - before < segue.roomy_kib(16 * 1024))
  end)

  it("cannot change the live files by a check that sees the staged ones in their place", function()
    local d = start [[apply = "true"]]
    local status, answer = change(d, [[check = "echo evil > out/a"]], nil, 2)
    assert.equal(422, status)
    assert.matches("exited with code %d", message_of(answer))
    assert.equal("1", live(d))
  end)

  it("loses nothing of what a check has written to a live file", function()
    local d = start [[apply = "true"]]
    local status, answer = change(d, [[check = { "sh", "-c", "echo evil > out/a", "sh",
      "{staged:out/a}" }]], nil, 2)
    assert.equal(500, status)
    assert.matches("was changed by another program during the reload", message_of(answer))
    assert.equal(200, (change(d, [[check = "true"]], nil, 3)))
    assert.equal("3", live(d))
    d:wait_log "a file was not as segue has written it last"
    for _, name in ipairs(d.dir:list "out") do
      if name:find "changed" then assert.equal("evil\n", d.dir:read("out/" .. name)) end
    end
  end)

  it("sees the staged files also in the folder in which it runs", function()
    local d = start([[check = "grep -q '^[12]$' a"]], "a")
    assert.equal(422, (put(d, 3)))
    assert.equal("1\n", d.dir:read "a")
    assert.equal(200, (put(d, 2)))
  end)

  it("gets a path as one word, wherever it stands in a line for the shell", function()
    local name = "out/a $(touch hit) `touch hit`; touch hit; 'b' \"c\" \\ $HOME *"
    local check = ([===[check = [==[cat {{.src}} > plain; cat '{{.src}}' > single
      cat "{{.src}}" > double; echo "$(cat "{{.src}}")" > nested; cat \"{{.src}} 2> /dev/null
      test "$(printf %s {{.src}})" = "$(printf %s "{{.src}}")"]==]]===])
    local d = start(check, name)
    for _, file in ipairs { "plain", "single", "double", "nested" } do
      assert.equal("1\n", d.dir:read(file), file)
    end
    assert.is_nil(d.dir:read "hit")
    assert.equal("1\n", d.dir:read(name))
  end)
end)

-- SPDX-License-Identifier: MIT
-- The rows about files modules: how soon a changed input is a file in place and a command that
-- runs, what files that do not change cost, large sets, and what an idle daemon needs.
local bit = require "bit"
local client = require "spec.bench.client"
local ffi = require "ffi"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *path, uint32_t mask);
long read(int fd, void *data, size_t n);
int close(int fd);
int open(const char *path, int flags, ...);
int fsync(int fd);
typedef struct { int fd; short events, revents; } bench_pollfd;
int poll(bench_pollfd *fds, unsigned long count, int ms);
]]
local IN_ATTRIB, IN_MOVED_TO, CLOSE_ON_EXEC, NONBLOCK, POLLIN = 4, 0x80, 0x80000, 0x800, 1

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

local function at(values, part)
  table.sort(values)
  return values[math.max(1, math.ceil(#values * part))]
end
local function median(values) return at(values, 0.5) end

-- Returns a function that waits for the next event of mask at a path, and one that closes it. It
-- blocks, so that it takes no processor from the server.
local function watch(path, mask)
  local fd = ffi.C.inotify_init1(bit.bor(CLOSE_ON_EXEC, NONBLOCK))
  assert(fd >= 0 and ffi.C.inotify_add_watch(fd, path, mask) >= 0, path)
  local data, poll = ffi.new("char[4096]"), ffi.new("bench_pollfd", { fd, POLLIN, 0 })
  local function drop() while ffi.C.read(fd, data, 4096) > 0 do end end
  return { drop = drop, close = function() ffi.C.close(fd) end,
    wait = function()
      local deadline = client.now() + 10
      repeat
        assert(client.now() < deadline, path .. ": no event within 10 s")
        ffi.C.poll(poll, 1, 1000)
      until bit.band(poll.revents, POLLIN) ~= 0
      drop()
    end }
end

-- Runs fn(daemon) with a daemon whose policy returns `modules`; daemon.reload() is one POST.
local function with(modules, files, fn)
  local dir, free = tempdir.new(), port.free()
  local d = { dir = dir }
  dir:write("reload.lua", ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch(), segue.http "127.0.0.1:%d" },
  debounce = { min = "0s", max = "1s" },
  modules = { %s },
}
]]):format(free, modules))
  for name, text in pairs(files) do dir:write(name, text) end
  d.process = process.start { uv.cwd() .. "/" .. build .. "/segue", "run", "-c",
    dir:at "reload.lua", cwd = dir.path }
  local ok, err = pcall(function()
    wait.until_true(function() return client.once(free, "GET", "/-/ready") == 200 end, 60000)
    d.client = client.new(free)
    fn(d)
  end)
  if d.client then d.client:close() end
  d.process:stop()
  dir:remove()
  if not ok then error(err, 0) end
end

-- Milliseconds from a change of the input to an event, for each of n changes.
local function until_event(d, n, path, mask)
  local event, times = watch(d.dir:at(path), mask), {}
  for i = 1, n do
    wait.pump() -- takes the daemon's log
    client.pause(0.03) -- the work behind the last change has ended
    event.drop()
    local began = client.now()
    d.dir:save("config.yaml", ("n: %d\n"):format(i))
    event.wait()
    times[i] = (client.now() - began) * 1000
  end
  event.close()
  return times
end

local function until_live(d, n)
  local times = {}
  for i = 1, n do
    wait.pump()
    client.pause(0.03)
    local began = client.now()
    d.dir:save("config.yaml", ("n: %d\n"):format(n + i))
    repeat
      assert(client.now() < began + 10, "a change was not live within 10 s")
      local _, body = d.client:request("GET", "/api/v1/config?path=n")
    until tonumber(body) == n + i
    times[i] = (client.now() - began) * 1000
  end
  return times
end

-- The disk's own time for what a file costs: it is written and synced, then its folder.
local function disk(dir, n)
  local times = {}
  local folder = ffi.C.open(dir.path, 0)
  for i = 1, n do
    local began = client.now()
    local fd = ffi.C.open(dir:at "probe", 0x41, ffi.cast("int", 384))
    assert(ffi.C.fsync(fd) == 0 and ffi.C.fsync(folder) == 0)
    ffi.C.close(fd)
    times[i] = (client.now() - began) * 1000
  end
  ffi.C.close(folder)
  return median(times)
end

local one_file = [[web = { kind = "files",
  files = { { to = "out/a.conf", template = "a.tmpl" } }, apply = { "touch", "applied" } }]]

-- A script as people write it: it waits for the file, renders it, replaces the output and runs a
-- command.
local script = [[
inotifywait -qm -e moved_to . | while read -r _; do
  n=$(sed -n 's/^n: //p' config.yaml)
  [ "$n" = "$last" ] && continue
  last=$n
  echo "n=$n" >out/.new && mv out/.new out/a.conf && touch applied
done
]]

local function scripted(n)
  local dir = tempdir.new()
  local d = { dir = dir }
  dir:write("config.yaml", "n: 0\n")
  dir:write("out/a.conf", "")
  dir:write("applied", "")
  local p = process.start { "sh", "-c", script, cwd = dir.path }
  local ok, err = pcall(function()
    local seen = 0
    wait.until_true(function() -- inotifywait has its watch
      seen = seen + 1
      dir:save("config.yaml", ("n: x%d\n"):format(seen))
      return dir:read "out/a.conf" ~= ""
    end, 10000)
    d.file = until_event(d, n, "out", IN_MOVED_TO)
    d.command = until_event(d, n, "applied", IN_ATTRIB)
  end)
  for _, child in ipairs(p:children()) do uv.kill(child, "sigterm") end
  p:stop()
  dir:remove()
  if not ok then error(err, 0) end
  return d
end

M.files = { title = "input saved -> file in place -> command", run = function(report)
  local n = 200
  local file, command, live, sync
  with(one_file, { ["config.yaml"] = "n: 0\n", ["a.tmpl"] = "n={{.n}}\n" }, function(d)
    live = until_live(d, n)
    file = until_event(d, n, "out", IN_MOVED_TO)
    command = until_event(d, n, "applied", IN_ATTRIB)
    sync = disk(d.dir, n)
  end)
  local peer = scripted(n)
  report { ours = sync, peer = "(for the record)", unit = "ms the disk needs for a file" }
  report { ours = median(live), peer = "(for the record)", unit = "ms live" }
  report { ours = at(live, 0.99), peer = "(for the record)", unit = "ms p99 live" }
  for _, p in ipairs { { 0.5, "ms" }, { 0.99, "ms p99" } } do
    report { ours = at(file, p[1]), theirs = at(peer.file, p[1]), peer = "inotifywait, sed, mv",
      unit = p[2] .. " file", at_most = 1 }
    report { ours = at(command, p[1]), theirs = at(peer.command, p[1]),
      peer = "inotifywait, sed, mv", unit = p[2] .. " command", at_most = 1 }
  end
  report { ours = median(file), theirs = median(live) + 0.3, peer = "live and 0.3 ms",
    unit = "ms file", at_most = 1 }
  report { ours = median(command), theirs = median(live) + 2, peer = "live and 2 ms",
    unit = "ms command", at_most = 1 }
end }

-- ms of a reload by POST after the value x has changed.
local function reloads(d, n, config)
  local times = {}
  for i = 1, n do
    wait.pump()
    client.pause(0.03)
    d.dir:save("config.yaml", config(i))
    local began = client.now()
    local status, body = d.client:request("POST", "/-/reload")
    assert(status == 200, body)
    times[i] = (client.now() - began) * 1000
  end
  return median(times)
end

local function set_of(n, entry)
  local list = {}
  for i = 1, n do list[i] = entry:gsub("@i", i) end
  return ('web = { kind = "files", files = { %s } }'):format(table.concat(list, ",\n"))
end

-- Templates 2 to n read what does not change.
local function many_templates(n)
  local files = { ["config.yaml"] = "x: 0\nrest: { a: 1 }\n" }
  for i = 1, n do
    files[("t%d.tmpl"):format(i)] = i == 1 and "x={{.x}}\n" or "a={{.rest.a}}\n"
  end
  return set_of(n, '{ to = "out/@i.conf", template = "t@i.tmpl" }'), files
end

M.files_templates = { title = "200 templates, one depends on the change", run = function(report)
  local function of(n)
    local ms
    local modules, files = many_templates(n)
    with(modules, files, function(d)
      ms = reloads(d, 100, function(i) return ("x: %d\nrest: { a: 1 }\n"):format(i) end)
    end)
    return ms
  end
  local one, all = of(1), of(200)
  report { ours = all, theirs = one, peer = "the one template alone", unit = "ms a reload",
    at_most = 1.5 }
end }

M.files_many = { title = "a set of many files", run = function(report)
  for _, n in ipairs { 500, 5000 } do
    local modules = set_of(n,
      '{ to = "out/@i.conf", content = function(c) return "x=" .. c.x end }')
    with(modules, { ["config.yaml"] = "x: 0\n" }, function(d)
      local ms = reloads(d, 5, function(i) return ("x: %d\n"):format(i) end)
      report { ours = ms, theirs = n * disk(d.dir, 50), peer = "synced one by one",
        unit = ("ms, %d change"):format(n), at_most = 1 }
    end)
    modules = modules:gsub("c%.x", "1", n - 1)
    with(modules, { ["config.yaml"] = "x: 0\n" }, function(d)
      local ms = reloads(d, 5, function(i) return ("x: %d\n"):format(i) end)
      report { ours = ms, peer = "(for the record)", unit = ("ms, 1 of %d"):format(n) }
    end)
  end
end }

-- Voluntary context switches of all threads: each is a thread that waited and was woken.
local function wakeups(pid)
  local sum, tasks = 0, assert(uv.fs_scandir(("/proc/%d/task"):format(pid)))
  for task in function() return (uv.fs_scandir_next(tasks)) end do
    for line in io.lines(("/proc/%d/task/%s/status"):format(pid, task)) do
      sum = sum + (tonumber(line:match("^voluntary_ctxt_switches:%s*(%d+)")) or 0)
    end
  end
  return sum
end

M.files_idle = { title = "idle with 1,000 keys and 200 templates", run = function(report)
  local keys = {}
  for i = 1, 1000 do keys[i] = ("k%d: { host: 127.0.0.1, port: %d }\n"):format(i, 10000 + i) end
  local config = "x: 0\nrest: { a: 1 }\n" .. table.concat(keys)
  local memory, woken = {}, nil
  for _, n in ipairs { 0, 200 } do
    local modules, files = "", {}
    if n > 0 then modules, files = many_templates(n) end
    files["config.yaml"] = n > 0 and config or "x: 0\n"
    with(modules, files, function(d)
      client.pause(1)
      local before = wakeups(d.process.pid)
      client.pause(5)
      woken = wakeups(d.process.pid) - before
      memory[n] = d.process:rss_kib() / 1024
    end)
  end
  report { ours = memory[200] - memory[0], theirs = 4, peer = "goal", unit = "MB more",
    at_most = 1 }
  report { ours = woken, theirs = 1, peer = "(not one)", unit = "wake-ups in 5 s", at_most = 0 }
end }

return M

-- SPDX-License-Identifier: MIT
-- Runs the specs: every *_spec.lua below the given paths, each file in a process of its own, so
-- that a crash or a hang costs one file and not the run. The files that took longest last time
-- start first, so that no long file is left for the end.
--   luajit spec/support/run.lua PATH...
-- A spec or a describe with "#long" in its title runs only with SEGUE_SPEC_LONG=1, which runs
-- nothing else (`make test-long`).
-- The last line is always "N passed, N failed"; the exit code is 0 only if nothing failed and at
-- least one spec ran. Before it stand the files that failed, the slowest files and specs.
--   SEGUE_SPEC_JOBS     how many files at once (twice the number of cores: a spec waits half of its
--                       time, for timers and for other processes)
--   SEGUE_SPEC_LONG     1: the specs marked #long, and no others
--   SEGUE_SPEC_TIMEOUT  seconds for one file (600, long ones 1800)
--   SEGUE_SPEC_TIMES    file that keeps how long each file took
--   SEGUE_SPEC_PRELOAD  library to preload (a sanitizer)
--   SEGUE_SPEC_WRAP     command to run luajit under (valgrind)
--   TMPDIR              where specs make their folders (in memory: place.lua)
local place = require "spec.support.place"
local uv = require "luv"
local function setting(name, default)
  local value = os.getenv(name)
  return value and value ~= "" and value or default
end
local long = setting("SEGUE_SPEC_LONG") == "1"
local timeout_ms = 1000 * tonumber(setting("SEGUE_SPEC_TIMEOUT", long and "1800" or "600"))
local jobs = tonumber(setting("SEGUE_SPEC_JOBS", 2 * uv.available_parallelism()))
local times_path = setting("SEGUE_SPEC_TIMES")
if times_path and long then times_path = times_path .. "-long" end
local folders = { "unit", "bind", "daemon", "embed", "plugin", "fault" }

local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

-- Specs of policies are run by `segue test`, as a user would: spec/daemon/test_spec.lua does that.
local function is_of_a_policy(path)
  return read(path):find('require "segue.testing"', 1, true) and not path:find("test_spec.lua$")
end

local function has_long_specs(path)
  return read(path):find("#long", 1, true) ~= nil
end

local function find(path, into)
  local stat = uv.fs_stat(path)
  if not stat then
    io.stderr:write(path, ": no such file or folder\n")
    os.exit(1)
  end
  if stat.type == "file" then
    if not long or has_long_specs(path) then into[#into + 1] = path end
    return
  end
  local names = {}
  local dir = uv.fs_scandir(path)
  while dir do
    local name, type = uv.fs_scandir_next(dir)
    if not name then break end
    names[#names + 1] = { name = name, type = type }
  end
  table.sort(names, function(a, b) return a.name < b.name end)
  for _, entry in ipairs(names) do
    local child = path .. "/" .. entry.name
    if entry.type == "directory" then
      find(child, into)
    elseif entry.name:match("_spec%.lua$") and not is_of_a_policy(child) then
      find(child, into)
    end
  end
end

-- The whole tree, from small to large: a fault of a unit is best seen there.
local function files(paths)
  local list = {}
  for _, path in ipairs(paths) do
    path = path:gsub("/+$", "")
    if path == "spec" then
      find("spec/support", list)
      for _, folder in ipairs(folders) do
        if uv.fs_stat("spec/" .. folder) then find("spec/" .. folder, list) end
      end
      for _, tree in ipairs { "plugins", "examples" } do
        if uv.fs_stat(tree) then find(tree, list) end
      end
    else
      find(path, list)
    end
  end
  return list
end

-- Variables and job slots of the make that runs the specs: the makes that specs run must not see
-- them.
local not_passed = { LUA_PATH = true, SEGUE_SPEC_RESULT = true, MAKEFLAGS = true, MFLAGS = true,
  MAKELEVEL = true, MAKEOVERRIDES = true, SAN = true, SPEC = true, JOBS = true, TMPDIR = true,
  SEGUE_SPEC_DISK = true }

local function environment(result)
  local env = { "SEGUE_SPEC_RESULT=" .. result, "TMPDIR=" .. place.folder,
    "SEGUE_SPEC_DISK=" .. place.disk,
    "LUA_PATH=./?.lua;./lua/?.lua;./lua/?/init.lua;;" }
  for name, value in pairs(uv.os_environ()) do
    if not not_passed[name] then
      env[#env + 1] = name .. "=" .. value
    end
  end
  local preload = os.getenv("SEGUE_SPEC_PRELOAD")
  if preload and preload ~= "" then env[#env + 1] = "LD_PRELOAD=" .. preload end
  return env
end

local function command(path)
  local argv = {}
  for word in (os.getenv("SEGUE_SPEC_WRAP") or ""):gmatch("%S+") do argv[#argv + 1] = word end
  for _, word in ipairs { "luajit", "/usr/bin/busted", "--helper=spec/support/helper.lua",
    "--output=spec/support/output.lua", "--keep-going", "--pattern=_spec",
    long and "--tags=long" or "--exclude-tags=long", path } do
    argv[#argv + 1] = word
  end
  return argv
end

-- The result of a file as output.lua writes it: the counts, the seconds of CPU that the file and
-- the processes it started used, and below how long each spec took.
local function read_result(entry, path)
  local text = read(path) or ""
  os.remove(path)
  local passed, failed, cpu = text:match("^(%d+) (%d+) ([%d.]+)\n")
  entry.passed, entry.failed = tonumber(passed) or 0, tonumber(failed) or 0
  entry.cpu, entry.specs = tonumber(cpu) or 0, {}
  for seconds, name in text:gmatch("\n([%d.]+) ([^\n]+)") do
    entry.specs[#entry.specs + 1] = { path = entry.path .. ": " .. name,
      seconds = tonumber(seconds) }
  end
  return passed ~= nil
end

-- Processes that a spec file left behind, found by the environment that it gave them; they are
-- killed. Returns their command lines.
local function leftovers(result)
  local mark, found = "SEGUE_SPEC_RESULT=" .. result, {}
  local dir = uv.fs_scandir("/proc")
  while dir do
    local name = uv.fs_scandir_next(dir)
    if not name then break end
    local env = name:match("^%d+$") and read("/proc/" .. name .. "/environ")
    if env and ("\0" .. env):find("\0" .. mark .. "\0", 1, true) then
      local line = read("/proc/" .. name .. "/cmdline") or ""
      found[#found + 1] = name .. " " .. line:gsub("%z", " ")
      uv.kill(tonumber(name), "sigkill")
    end
  end
  return found
end

-- Starts one file. When on_done is called its entry has output, code, signal, passed and failed.
local function start(entry, on_done)
  local result = os.tmpname()
  os.remove(result)
  local argv = command(entry.path)
  local program = table.remove(argv, 1)
  local pipes = { uv.new_pipe(false), uv.new_pipe(false) }
  local timer = uv.new_timer()
  local waiting = 3
  local began = uv.hrtime()
  entry.output = {}
  local function part_done()
    waiting = waiting - 1
    if waiting > 0 then return end
    entry.seconds = (uv.hrtime() - began) / 1e9
    local is_complete = read_result(entry, result)
    local why
    if entry.timed_out then why = ("did not end within %d s"):format(timeout_ms / 1000)
    elseif entry.signal ~= 0 then why = "was killed by signal " .. entry.signal
    elseif not is_complete then
      why = ("ended with code %d before its specs were done"):format(entry.code)
    elseif entry.code ~= 0 and entry.failed == 0 then why = "ended with code " .. entry.code
    elseif #entry.left > 0 then
      why = "left processes behind:\n    " .. table.concat(entry.left, "\n    ")
    end
    if why then
      entry.failed = entry.failed + 1
      entry.output[#entry.output + 1] = ("FAILED %s %s\n"):format(entry.path, why)
    end
    on_done(entry)
  end
  local handle, problem
  handle, problem = uv.spawn(program, { args = argv, stdio = { nil, pipes[1], pipes[2] },
    env = environment(result) }, function(code, signal)
    entry.code, entry.signal = code, signal
    timer:close()
    handle:close()
    entry.left = leftovers(result)
    part_done()
  end)
  if not handle then
    io.stderr:write("luajit cannot be started: ", tostring(problem), "\n")
    os.exit(1)
  end
  timer:start(timeout_ms, 0, function()
    entry.timed_out = true
    leftovers(result)
  end)
  for _, pipe in ipairs(pipes) do
    pipe:read_start(function(_, data)
      if data then
        entry.output[#entry.output + 1] = data
      else
        pipe:close()
        part_done()
      end
    end)
  end
end

-- How long each file took last time: path -> seconds.
local function read_times()
  local times = {}
  for seconds, path in ((times_path and read(times_path)) or ""):gmatch("([%d.]+) ([^\n]+)") do
    times[path] = tonumber(seconds)
  end
  return times
end

local function write_times(times, entries)
  for _, entry in ipairs(entries) do times[entry.path] = entry.seconds end
  local file = times_path and io.open(times_path, "w")
  if not file then return end
  for path, seconds in pairs(times) do file:write(("%.2f %s\n"):format(seconds, path)) end
  file:close()
end

-- The longest first. A file that never ran comes before all others, and of these the large specs
-- (daemon, fault) before the small ones.
local function by_time(list, times)
  local order = {}
  for i, path in ipairs(list) do
    order[i] = { path = path, place = i, last = times[path] or math.huge }
  end
  table.sort(order, function(a, b)
    if a.last ~= b.last then return a.last > b.last end
    return a.place > b.place
  end)
  return order
end

local function print_slowest(title, list, line)
  table.sort(list, function(a, b) return a.seconds > b.seconds end)
  io.write(title, "\n")
  for i = 1, math.min(10, #list) do io.write("  ", line(list[i]), "\n") end
end

local function print_times(entries, seconds)
  local specs, cpu = {}, 0
  for _, entry in ipairs(entries) do
    cpu = cpu + entry.cpu
    for _, spec in ipairs(entry.specs) do specs[#specs + 1] = spec end
  end
  print_slowest("slowest specs:", specs, function(spec)
    return ("%7.2f s  %s"):format(spec.seconds, spec.path)
  end)
  if #entries == 1 then return end
  print_slowest("slowest files:", { unpack(entries) }, function(entry)
    return ("%7.2f s (CPU %6.2f s)  %s"):format(entry.seconds, entry.cpu, entry.path)
  end)
  io.write(("%d files, %d at once: %.0f s (CPU %.0f s)\n"):format(#entries, jobs, seconds, cpu))
end

local times = read_times()
local entries = by_time(files(#arg > 0 and arg or { "spec" }), times)
local next_start, began = 1, uv.hrtime()

local function print_done(entry)
  io.write(("%-52s %4d passed %3d failed %7.2f s (CPU %6.2f s)\n"):format(entry.path, entry.passed,
    entry.failed, entry.seconds, entry.cpu), table.concat(entry.output))
  io.flush()
end

local function start_next()
  local entry = entries[next_start]
  if not entry then return end
  next_start = next_start + 1
  start(entry, function()
    print_done(entry)
    start_next()
  end)
end
for _ = 1, jobs do start_next() end
uv.run()

local passed, failed = 0, 0
for _, entry in ipairs(entries) do
  passed, failed = passed + entry.passed, failed + entry.failed
  if entry.failed > 0 then io.write(("FAILED %s: %d\n"):format(entry.path, entry.failed)) end
end
if #entries > 0 then
  write_times(times, entries)
  print_times(entries, (uv.hrtime() - began) / 1e9)
end
if passed + failed == 0 then
  io.write("No spec was found in ", table.concat(arg, " "), ".\n")
  failed = 1
end
io.write(("%d passed, %d failed\n"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)

-- SPDX-License-Identifier: MIT
-- Runs the specs: every *_spec.lua below the given paths, in a stable order, each file in a process
-- of its own, so that a crash or a hang costs one file and not the run.
--   luajit spec/support/run.lua PATH...
-- The last line is always "N passed, N failed"; the exit code is 0 only if nothing failed and at
-- least one spec ran.
--   SEGUE_SPEC_JOBS     how many files at once (1)
--   SEGUE_SPEC_TIMEOUT  seconds for one file (300)
--   SEGUE_SPEC_PRELOAD  library to preload (a sanitizer)
--   SEGUE_SPEC_WRAP     command to run luajit under (valgrind)
local uv = require "luv"
local timeout_ms = 1000 * tonumber(os.getenv("SEGUE_SPEC_TIMEOUT") or "300")
local jobs = tonumber(os.getenv("SEGUE_SPEC_JOBS") or "1")
local folders = { "unit", "bind", "daemon", "embed", "plugin", "fault" }

-- Specs of policies are run by `segue test`, as a user would: spec/daemon/test_spec.lua does that.
local function is_of_a_policy(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text:find('require "segue.testing"', 1, true) ~= nil and not path:find("test_spec.lua$")
end

local function find(path, into)
  local stat = uv.fs_stat(path)
  if not stat then
    io.stderr:write(path, ": no such file or folder\n")
    os.exit(1)
  end
  if stat.type == "file" then
    into[#into + 1] = path
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
      into[#into + 1] = child
    end
  end
end

-- The whole tree runs from small to large: what fails in a unit is best seen there.
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

-- What the make that runs the specs hands down (its variables, its job slots) is not for those that
-- the specs run.
local not_passed = { LUA_PATH = true, SEGUE_SPEC_RESULT = true, MAKEFLAGS = true, MFLAGS = true,
  MAKELEVEL = true, MAKEOVERRIDES = true, SAN = true, SPEC = true, JOBS = true }

local function environment(result)
  local env = { "SEGUE_SPEC_RESULT=" .. result,
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
    path } do
    argv[#argv + 1] = word
  end
  return argv
end

local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
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

-- Starts one file; its entry gets output, code, signal, passed and failed when it is done.
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
    local passed, failed = (read(result) or ""):match("^(%d+) (%d+)")
    os.remove(result)
    entry.seconds = (uv.hrtime() - began) / 1e9
    entry.passed, entry.failed = tonumber(passed) or 0, tonumber(failed) or 0
    local why
    if entry.timed_out then why = ("did not end within %d s"):format(timeout_ms / 1000)
    elseif entry.signal ~= 0 then why = "was killed by signal " .. entry.signal
    elseif not passed then why = "ended with code " .. entry.code .. " before its specs were done"
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

local list = files(#arg > 0 and arg or { "spec" })
local entries, next_start, next_print = {}, 1, 1
for i, path in ipairs(list) do entries[i] = { path = path } end

local passed, failed = 0, 0
local function print_done()
  while entries[next_print] and entries[next_print].done do
    local entry = entries[next_print]
    io.write(("%-52s %4d passed %3d failed %7.2f s\n"):format(entry.path, entry.passed,
      entry.failed, entry.seconds), table.concat(entry.output))
    io.flush()
    passed, failed = passed + entry.passed, failed + entry.failed
    next_print = next_print + 1
  end
end

local function start_next()
  local entry = entries[next_start]
  if not entry then return end
  next_start = next_start + 1
  start(entry, function()
    entry.done = true
    print_done()
    start_next()
  end)
end
for _ = 1, jobs do start_next() end
uv.run()

if passed + failed == 0 then
  io.write("No spec was found in ", table.concat(arg, " "), ".\n")
  failed = 1
end
io.write(("%d passed, %d failed\n"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)

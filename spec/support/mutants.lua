-- SPDX-License-Identifier: MIT
-- Runs the mutants of spec/fault/mutants.lua (`make mutants`): replaces one piece of code, compiles
-- that file, links it, and runs the named spec, which must fail. A file of the Lua half is replaced
-- in a copy of it, for a spec of the daemon. Works in folders below SEGUE_SPEC_BUILD, one for each
-- worker, and leaves the tree as it is.
--   MUTANT            pattern: only mutants whose name or file contains it
--   PART              "2/8": only every eighth mutant, from the second one on
--   SEGUE_SPEC_JOBS   how many at once (the number of cores)
-- The last line is "N passed, N failed": the mutants that were noticed, and those that were not.
local place = require "spec.support.place"
local uv = require "luv"
local list = require "spec.fault.mutants"

local build = assert(os.getenv("SEGUE_SPEC_BUILD"), "run this by `make mutants`")
local jobs = tonumber(os.getenv "SEGUE_SPEC_JOBS") or uv.available_parallelism()
local pattern = os.getenv "MUTANT" or ""
local part, parts = (os.getenv "PART" or ""):match("^(%d+)/(%d+)$")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function squeeze(text)
  return (text:gsub("%s+", " "))
end

-- White space between the words of the pattern may differ: clang-format decides the layout.
local function replace(text, from, to, path)
  local code = squeeze(from):gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0"):gsub(" ", "%%s+")
  local first, last = text:find(code)
  assert(first, path .. ": this code is not there any more, correct the list of mutants: " .. from)
  assert(not text:find(code, last + 1), path .. ": this code is there twice: " .. from)
  return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

local not_passed = { MAKEFLAGS = true, MFLAGS = true, MAKELEVEL = true, MAKEOVERRIDES = true,
  TMPDIR = true, SEGUE_SPEC_DISK = true }

-- Runs a command while the other workers continue; true if it succeeded. The variables of the
-- make that runs this must not reach the makes and specs that it runs.
local function run(command)
  local worker, code, handle = coroutine.running(), nil, nil
  local env = { "TMPDIR=" .. place.folder, "SEGUE_SPEC_DISK=" .. place.disk }
  for name, value in pairs(uv.os_environ()) do
    if not not_passed[name] then
      env[#env + 1] = name .. "=" .. value
    end
  end
  handle = assert(uv.spawn("sh", { args = { "-c", command }, env = env,
    stdio = { nil, 1, 2 } }, function(status, signal)
    code = status + signal
    handle:close()
    if coroutine.status(worker) == "suspended" then assert(coroutine.resume(worker)) end
  end))
  while code == nil do coroutine.yield() end
  return code == 0
end

local UNCHANGED = "core/reload/operator.c" -- compiled where no file in C is a mutant

local of_plugin = {}
for _, spec in pairs(list.plugin) do of_plugin[spec] = true end

local function name_of(spec)
  return type(spec) == "string" and spec or ("%s, %q"):format(spec.path, spec.filter)
end

-- Returns whether the spec passes with the build in dir. It stops at its first failure. A mutant
-- often shows as an event that never comes: the spec waits for it for seconds, not for the minute
-- that a busy machine is given otherwise.
local function passes(dir, spec, patience)
  local filter = type(spec) == "table" and ("--filter='%s'"):format(spec.filter) or ""
  local own = of_plugin[spec] and "SEGUE_BUILD=" .. dir or ""
  local lua = uv.fs_realpath(dir .. "/lua")
  if lua then own = "SEGUE_LUA_DIR=" .. lua end
  return run(("%s SEGUE_SPEC_BUILD=%s SEGUE_SPEC_PATIENCE=%s timeout -k 1 %d luajit "
    .. "/usr/bin/busted --helper=spec/support/helper.lua --pattern=_spec --no-keep-going "
    .. "-o spec.support.output %s %s > %s/spec.log 2>&1"):format(own, dir, patience,
    120 * patience, filter, spec.path or spec, dir))
end

-- Fills dir with a build in which `text` stands in for the file `path`: of a plugin or of the
-- daemon, beside the unchanged library that the specs themselves use, or of the library.
local function build_mutant(dir, what, path, text, spec)
  local of_daemon, target = type(spec) == "table", "mutant-built"
  if of_plugin[spec] then target = "mutant-plugin" end
  assert(run(("rm -rf %s && mkdir -p %s && cp %s/cdef.h %s/"):format(dir, dir, build, dir)))
  if of_daemon then
    assert(run(("cp -R %s/libsegue-spec.so %s/../plugins %s/"):format(build, build, dir)))
  end
  if path:find "%.lua$" then
    -- The daemon is the unchanged one, with another Lua half, and plugins in Lua beside it.
    assert(run(("cp -R lua plugins %s/"):format(dir)))
    local half = assert(io.open(dir .. "/" .. path, "w"))
    half:write(text)
    half:close()
    path = UNCHANGED
    text = read(path)
  end
  local file = assert(io.open(dir .. "/mutant.c", "w"))
  file:write(text)
  file:close()
  local ok = run(("make --no-print-directory %s FILE=%s SOURCE=%s/mutant.c DIR=%s "
    .. "DAEMON=%s > %s/make.log 2>&1"):format(target, path, dir, dir, of_daemon and 1 or "", dir))
  assert(ok, what .. ": the mutant does not compile:\n" .. read(dir .. "/make.log"))
end

local function is_wanted(mutant, number)
  if part and (number - part) % parts ~= 0 then return false end
  return (mutant[1] .. " " .. mutant[2]):find(pattern) ~= nil
end

-- The whole list is compared with the code before any mutant runs.
local wanted, specs = {}, {}
for i, mutant in ipairs(list.mutants) do
  replace(read(mutant[2]), mutant[3], mutant[4], mutant[2])
  if is_wanted(mutant, i) then
    wanted[#wanted + 1] = mutant
    if not specs[mutant[5]] then
      specs[mutant[5]] = true
      specs[#specs + 1] = mutant[5]
    end
  end
end

-- Calls work(dir, item) for each item, `jobs` at once, each worker in a folder of its own.
local function for_each(items, work)
  local next_item, problem = 1, nil
  for worker = 1, jobs do
    local thread = coroutine.create(function()
      while items[next_item] and not problem do
        local item = items[next_item]
        next_item = next_item + 1
        local ok, err = pcall(work, ("%s/mutant-%d"):format(build, worker), item)
        problem = problem or not ok and err
      end
    end)
    assert(coroutine.resume(thread))
  end
  uv.run()
  if problem then
    io.stderr:write(tostring(problem), "\n")
    os.exit(1)
  end
end

-- A spec that fails anyway, or in any build of this kind, would notice every mutant. Each worker
-- builds each kind once.
local plain = {}
for_each(specs, function(dir, spec)
  local kind = of_plugin[spec] and "plugin" or type(spec) == "table" and "daemon" or "library"
  dir = dir .. "-" .. kind
  if not plain[dir] then
    local path = of_plugin[spec] and "plugins/log/file.c" or UNCHANGED
    build_mutant(dir, "nothing removed", path, read(path), spec)
    plain[dir] = true
  end
  assert(passes(dir, spec, 6), name_of(spec) .. " fails without any mutant: see " .. dir)
end)

local passed, failed = 0, 0
for_each(wanted, function(dir, mutant)
  local what, path, from, to, spec = unpack(mutant)
  build_mutant(dir, what, path, replace(read(path), from, to, path), spec)
  local missed = passes(dir, spec, 1)
  if missed then failed = failed + 1 else passed = passed + 1 end
  print((missed and "NOT NOTICED  " or "noticed      ") .. what .. " (" .. name_of(spec) .. ")")
end)
if part then print(("part %d of %d of the mutants"):format(part, parts)) end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and passed > 0 and 0 or 1, true)

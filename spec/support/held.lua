-- SPDX-License-Identifier: MIT
-- The resources of the process of a spec file: open descriptors, threads, children and luv's
-- handles. They are counted before the first hook and after the last one of each spec; a spec that
-- leaves more has failed, and the error names the spec and the target of each descriptor.
--   helper.lua: held.check_each_spec()
--   output.lua: held.more(held.at_first, held.now())
-- Resources that luv or libuv create once for the process are created here, so that they do not
-- count for the first spec. A resource that ends by itself (a thread that exits, a child that is
-- about to be reaped, a handle that closes) is waited for, with a deadline.
local uv = require "luv"
local wait = require "spec.support.wait"

local M = { deadline_ms = 5000 }

-- The loop's descriptor for when there are none, its pipe for signals, libuv's pool of threads.
local function make_what_is_made_once()
  uv.new_tcp():close()
  uv.new_signal():close()
  require "spec.support.process" -- it has a signal handler
  local over = false
  uv.fs_stat("/", function() over = true end)
  repeat uv.run("once") until over
  uv.run("nowait")
end

-- "" too for a thread or child that has ended since it was listed: it opens, but cannot be read.
local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then file:close() end
  return text or ""
end

local function names(path)
  local list, dir = {}, uv.fs_scandir(path)
  for name in function() return dir and uv.fs_scandir_next(dir) end do list[#list + 1] = name end
  return list
end

local function add(held, kind, what)
  held[kind] = held[kind] or { count = 0, all = {} }
  held[kind].count = held[kind].count + 1
  held[kind].all[what] = true
end

local function add_descriptors(held)
  for _, number in ipairs(names("/proc/self/fd")) do
    local leads_to = uv.fs_readlink("/proc/self/fd/" .. number)
    if leads_to and not leads_to:find("^/proc/%d+/fd$") then
      add(held, leads_to:gsub(":%[%d+%]$", ""), ("descriptor %s -> %s"):format(number, leads_to))
    end
  end
end

local function add_threads_and_children(held)
  for _, task in ipairs(names("/proc/self/task")) do
    local path = "/proc/self/task/" .. task
    add(held, "thread", ("thread %s (%s)"):format(task, read(path .. "/comm"):gsub("%s+$", "")))
    for pid in read(path .. "/children"):gmatch("%d+") do
      local line = read("/proc/" .. pid .. "/cmdline"):gsub("%z", " "):gsub("%s+$", "")
      add(held, "child", ("child %s (%s)"):format(pid, line))
    end
  end
end

-- A handle that closes is about to be none.
local function add_handles(held)
  uv.walk(function(handle)
    if handle:is_closing() then return end
    local name = tostring(handle)
    add(held, name:match("^%S+") or name, "handle " .. name)
  end)
end

--- Everything that is held now: kind -> count and descriptions.
---@return table
function M.now()
  local held = {}
  add_descriptors(held)
  add_threads_and_children(held)
  add_handles(held)
  return held
end

--- The resources in `after` that `before` does not have, one text each: none, unless a kind has
--- more of them than before.
---@param before table
---@param after table
---@return string[]
function M.more(before, after)
  local list = {}
  for kind, now in pairs(after) do
    local was = before[kind] or { count = 0, all = {} }
    if now.count > was.count then
      for what in pairs(now.all) do
        if not was.all[what] then list[#list + 1] = what end
      end
    end
  end
  table.sort(list)
  return list
end

--- Waits until nothing more is held than before; what still is when the time is over.
---@param before table
---@return string[]
function M.wait(before)
  local more = M.more(before, M.now())
  local deadline = wait.deadline(M.deadline_ms)
  while #more > 0 and uv.hrtime() < deadline do
    collectgarbage()
    uv.run("nowait")
    uv.sleep(1)
    more = M.more(before, M.now())
  end
  return more
end

local function full_name(busted, element)
  local words = {}
  while element and element.descriptor ~= "file" do
    table.insert(words, 1, element.name)
    element = busted.parent(element)
  end
  return table.concat(words, " ")
end

--- Counts around every spec of the file; for busted's helper, whose hooks are the outermost ones.
function M.check_each_spec()
  local busted = require "busted"
  local before, spec
  busted.subscribe({ "test", "start" }, function(element)
    spec = full_name(busted, element)
    return nil, true
  end)
  busted.before_each(function() before = M.now() end)
  busted.after_each(function()
    local more = M.wait(before)
    if #more > 0 then
      error(("the spec %q left behind: %s"):format(spec or "?", table.concat(more, ", ")), 0)
    end
  end)
end

make_what_is_made_once()
M.at_first = M.now()

return M

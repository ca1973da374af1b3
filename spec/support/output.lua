-- SPDX-License-Identifier: MIT
-- busted output handler: one line per spec that did not pass, as it happens, and the counts written
-- to the file that SEGUE_SPEC_RESULT names, where run.lua adds them up. A pending spec counts as
-- failed: a spec that does not run is a hole. So does a file whose process holds more at its end
-- than at its beginning, once everything was closed and collected: sockets, files, watches,
-- children, threads. (Daemons and the parts of the core are counted after each spec, by what starts
-- them.)
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local pretty = require "pl.pretty"
  local uv = require "luv"
  local inspect = os.getenv("SEGUE_SPEC_VERBOSE")

  -- What luv and the library keep for as long as the process lives is none of these kinds, but for
  -- the threads: libuv's pool, one that reclaims snapshots, the worker.
  local THREADS = 8
  local function held()
    local kinds = { threads = 0, children = 0 }
    local dir = uv.fs_scandir("/proc/self/fd")
    for name in function() return uv.fs_scandir_next(dir) end do
      local what = uv.fs_readlink("/proc/self/fd/" .. name) or ""
      what = what:match("^socket") or what:match("inotify") or what:match("pidfd")
        or what:match("timerfd") or what:match("^/.*")
      if what and not what:find("^/proc/") and not what:find("^/dev/") then
        kinds[what] = (kinds[what] or 0) + 1
      end
    end
    local tasks = uv.fs_scandir("/proc/self/task")
    for name in function() return uv.fs_scandir_next(tasks) end do
      kinds.threads = kinds.threads + 1
      local file = io.open("/proc/self/task/" .. name .. "/children")
      local _, count = (file and file:read("*a") or ""):gsub("%d+", "")
      if file then file:close() end
      kinds.children = kinds.children + count
    end
    return kinds
  end
  local at_first = held()

  local function left_over()
    local left, now = {}, held()
    for what, count in pairs(now) do
      local more = count - (at_first[what] or 0) - (what == "threads" and THREADS or 0)
      if more > 0 then left[#left + 1] = ("%d %s"):format(more, what) end
    end
    table.sort(left)
    return #left > 0 and table.concat(left, ", ") or nil
  end

  local function message_of(entry)
    local message = entry.message
    if type(message) == "table" then message = pretty.write(message) end
    return message == nil and "(error without a message)" or tostring(message)
  end

  local function describe(kind, entry)
    local trace = entry.element.trace or entry.trace
    local where = trace and trace.short_src and (trace.short_src .. ":" .. trace.currentline) or "?"
    io.write(("%s %s (%s)\n"):format(kind, entry.name, where))
    io.write("    ", (message_of(entry):gsub("\n", "\n    ")), "\n")
    if entry.trace and entry.trace.traceback then
      io.write("    ", (entry.trace.traceback:gsub("^%s+", ""):gsub("\n", "\n    ")), "\n")
    end
  end

  handler.testEnd = function(element, _, status)
    if inspect then
      io.write(("  %-8s %s\n"):format(status, handler.getFullName(element)))
      io.flush()
    end
    return nil, true
  end

  handler.suiteEnd = function()
    for _, entry in ipairs(handler.failures) do describe("FAILED", entry) end
    for _, entry in ipairs(handler.errors) do describe("ERROR", entry) end
    for _, entry in ipairs(handler.pendings) do describe("NOT RUN", entry) end
    io.flush()
    -- luv crashes if the state is closed while a handle is still closing.
    uv.walk(function(handle) if not handle:is_closing() then handle:close() end end)
    uv.run("nowait")
    for _ = 1, 2 do collectgarbage() uv.run("nowait") end
    local left = left_over()
    if left then io.write("FAILED at its end the file still holds: ", left, "\n") end
    local path = os.getenv("SEGUE_SPEC_RESULT")
    if path then
      local file = assert(io.open(path, "w"))
      file:write(("%d %d\n"):format(handler.successesCount,
        handler.failuresCount + handler.errorsCount + handler.pendingsCount + (left and 1 or 0)))
      file:close()
    end
    return nil, true
  end

  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  local _ = options
  return handler
end

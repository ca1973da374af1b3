-- SPDX-License-Identifier: MIT
-- busted output handler: one line per spec that did not pass, as soon as it ends. Counts, seconds
-- of CPU and the duration of each spec go to the file that SEGUE_SPEC_RESULT names, for run.lua. A
-- pending spec counts as failed: a spec that does not run is a hole. A file whose process holds
-- more at its end than at its beginning has failed too: its setup left something (held.lua checks
-- each spec).
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local pretty = require "pl.pretty"
  local held = require "spec.support.held"
  local uv = require "luv"
  local inspect = os.getenv("SEGUE_SPEC_VERBOSE")

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

  -- Of this process and of those that it waited for, in seconds: /proc/self/stat counts in 1/100 s.
  local function cpu_seconds()
    local file = assert(io.open("/proc/self/stat"))
    local fields = file:read("*a"):match("%) (.*)$")
    file:close()
    local ticks, place = 0, 0
    for field in fields:gmatch("%S+") do
      place = place + 1
      if place >= 12 and place <= 15 then ticks = ticks + tonumber(field) end
    end
    return ticks / 100
  end

  local durations = {}

  handler.testEnd = function(element, _, status)
    durations[#durations + 1] = ("%.2f %s\n"):format(element.duration or 0,
      (handler.getFullName(element):gsub("%s+", " ")))
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
    local left = held.wait(held.at_first)
    if #left > 0 then
      io.write("FAILED at its end the file still holds: ", table.concat(left, ", "), "\n")
    end
    local path = os.getenv("SEGUE_SPEC_RESULT")
    if path then
      local file = assert(io.open(path, "w"))
      local failed = handler.failuresCount + handler.errorsCount + handler.pendingsCount
      file:write(("%d %d %.2f\n"):format(handler.successesCount,
        #left > 0 and failed + 1 or failed, cpu_seconds()), table.concat(durations))
      file:close()
    end
    return nil, true
  end

  busted.subscribe({ "test", "end" }, handler.testEnd, { predicate = handler.cancelOnPending })
  busted.subscribe({ "suite", "end" }, handler.suiteEnd)
  local _ = options
  return handler
end

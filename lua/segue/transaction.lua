-- SPDX-License-Identifier: MIT
-- Methods of a transaction and of its modules that take durations and options: the core gives the
-- plain functions to these wrappers when it makes them.
local core = require "segue.core"

local type, error = type, error

-- txn:defer("5m", why)
core.wrap_defer = function(defer)
  return function(txn, time, why)
    local ms, wrong = core.duration(time)
    if not ms then error("txn:defer: the time " .. wrong, 2) end
    if type(why) ~= "string" then error("txn:defer: the reason must be a text", 2) end
    return defer(txn, ms, why)
  end
end

-- txn.module.x:drain { within = "2s" }; without a time: that of the module's own drain; without
-- over: the caller gets an error if requests are still inside, and decides.
core.wrap_drain = function(drain)
  return function(module, options)
    local given = options == nil and {} or options
    if type(given) ~= "table" then error('drain needs a table: drain { within = "2s" }', 2) end
    local o = core.table("drain", "drain", given)
    return drain(module, given.within ~= nil and o.within or 0, given.over,
      given.again and o.again)
  end
end

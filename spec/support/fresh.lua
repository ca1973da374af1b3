-- SPDX-License-Identifier: MIT
-- An object that is opened for each spec and closed after it:
--   local b
--   local open = fresh(bind.open, function(opened) b = opened end)
-- The returned functions: one closes the object of the current spec and opens one with other
-- options; one closes it. The third argument is the options of the first one; false: only the
-- returned function opens one.
local busted = require "busted"

return function(open, set, options)
  local current
  local function close()
    local opened = current
    current = nil
    set(nil)
    if opened then opened:close() end
  end
  local function open_again(...)
    close()
    current = open(...)
    set(current)
    return current
  end
  if options ~= false then busted.before_each(function() open_again(options) end) end
  busted.after_each(close)
  return open_again, close
end

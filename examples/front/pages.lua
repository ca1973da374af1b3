-- SPDX-License-Identifier: MIT
-- Beside front.lua, and as much a part of the module.
local M = {}

function M.greeting(greeting, name)
  return ("%s, %s!\n"):format(greeting, name or "world")
end

return M

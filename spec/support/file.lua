-- SPDX-License-Identifier: MIT
-- Files of the tree and of other folders than a tempdir.
local M = {}

--- The bytes of a file; nil and the reason if it cannot be opened.
function M.try_read(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, why end
  local text = file:read "*a"
  file:close()
  return text
end

--- The bytes of a file; raises if it cannot be opened.
function M.read(path)
  return assert(M.try_read(path))
end

return M

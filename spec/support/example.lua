-- SPDX-License-Identifier: MIT
-- Policies of examples, changed for specs.
local M = {}

--- The policy with limits that a machine under load does not reach: those of an example are for
-- people, and a command of a real server may take seconds here.
function M.patient(policy)
  local text = policy:gsub('kind = "files",', 'kind = "files", timeout = "60s",')
  return (text:gsub('within = "%w+"', 'within = "60s"'))
end

return M

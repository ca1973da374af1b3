-- SPDX-License-Identifier: MIT
-- A small policy for specs of the command line: it rejects a configuration with the key `bad`.
local segue = require "spec.support.segue"
local M = {}

M.policy = [[
local segue = require "segue"
return {
  name = "cli",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  check = function(next)
    if next.bad then return nil, "bad is set" end
    return true
  end,
}
]]

--- A daemon with that policy and a text of config.yaml.
function M.start(config)
  return segue.start { policy = M.policy, files = { ["config.yaml"] = config or "a: 1\n" } }
end

return M

-- SPDX-License-Identifier: MIT
-- The mutants: each removes one safeguard from the code, and the spec that is named with it must
-- fail. Most mutants are of the library, which the specs call. A fault that is seen only from
-- outside is put into the daemon or into a plugin, which a few specs of a file start.
-- spec/support/mutants.lua (`make mutants`) runs this list. The rows are in mutants/, one file for
-- each part of the code; a row is
--   { what is taken out, file, code to replace (found exactly once), replacement, spec }
local specs = require "spec.fault.mutants.specs"

local parts = { "admin", "bind", "config", "daemon", "files", "folder", "http", "ingress",
  "module", "options", "os", "plugins", "process", "record", "reload", "source", "space" }

local mutants = {}
for _, part in ipairs(parts) do
  for _, mutant in ipairs(require("spec.fault.mutants." .. part)) do
    mutants[#mutants + 1] = mutant
  end
end

return { mutants = mutants, plugin = specs.plugin }

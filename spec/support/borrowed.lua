-- SPDX-License-Identifier: MIT
-- Values that C borrows. The collector sees no pointer in a C struct, and no node of a document in
-- Lua: it frees a document, a mask or an array while C, or a pointer to a part of it, still uses
-- it. keep(value) keeps a value alive until its spec ends; outside of a spec, as long as the file.
--   return keep(ffi.gc(out[0], C.segue__document_unref))
local M = { specs = 0 } -- how many specs have begun

local of_file, of_spec = {}, nil

--- Returns the value, which stays alive until the end of the spec.
function M.keep(value)
  local list = of_spec or of_file
  list[#list + 1] = value
  return value
end

--- Lets the collector free what the spec has kept and no Lua value refers to: for a spec that
--- counts allocations.
function M.release()
  if of_spec then of_spec = {} end
end

--- Releases the values of each spec at its end; for busted's helper.
function M.release_after_each_spec()
  local busted = require "busted"
  busted.subscribe({ "test", "start" }, function()
    of_spec, M.specs = {}, M.specs + 1
    return nil, true
  end)
  busted.subscribe({ "test", "end" }, function()
    of_spec = nil
    return nil, true
  end)
end

return M

-- SPDX-License-Identifier: MIT
-- Defaults beside the policy, and what is to be from far away: a URL that is asked again and again,
-- and a key-value store that pushes. Neither takes the server down by being away, empty or wrong.
local segue = require "segue"

local base = "http://127.0.0.1:8500"

-- All keys of the store as one table, and its index as the revision.
local function read(answer, why, code)
  if not answer then return nil, why, code end
  if answer.status ~= 200 then return nil, "the store answers " .. answer.status end
  local values = {}
  for key, value in answer.body:gmatch("(%w+)=([^\n]*)\n") do values[key] = value end
  return values, answer.headers["x-index"]
end

local store = segue.source {
  name = "store",
  optional = true,
  fetch = function()
    return read(segue.fetch { url = base .. "/kv", timeout = "2s" })
  end,
  -- The store holds a question back until its index is another one than ours.
  watch = function(self, emit)
    local revision = self.revision
    while true do
      local values, why, code = read(segue.fetch {
        url = base .. "/kv?wait=50s&index=" .. (revision or "0"), timeout = "60s" })
      if not values then return nil, why, code end
      revision = why
      emit(values, revision)
    end
  end,
}

return {
  name = "remote",
  sources = {
    segue.file "defaults.yaml",
    segue.url { "https://config.internal/app.yaml", interval = "30s",
      guard = { min_items = 1, max_shrink = 0.5, required = { "listen" }, max_age = "1d" } },
    store,
  },
}

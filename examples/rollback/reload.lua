-- SPDX-License-Identifier: MIT
-- Drains that exceed their limit: the store undoes the reload, the front gets more time.
local segue = require "segue"

return {
  name = "rollback",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },

  modules = {
    store = { kind = "c", config = "store", replace = "restart",
              drain = { within = "5s", over = "undo" } },
    front = { kind = "c", config = "front", needs = { "store" },
              drain = { within = "10s", over = "wait", again = 2 } },
  },
}

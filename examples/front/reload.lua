-- SPDX-License-Identifier: MIT
local segue = require "segue"

return {
  name = "front",
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch(), segue.http "127.0.0.1:7377" },
  modules = {
    front = { kind = "lua", code = "front.lua", config = "front", drain = "10s",
      listen = "http://127.0.0.1:8080", generation_header = true,
      budget = "50ms", memory = "32MiB" },
  },
}

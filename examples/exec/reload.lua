-- SPDX-License-Identifier: MIT
-- A server that runs as the child of segue: it starts when its file is rendered, gets HUP when the
-- file has changed, and is started again when the token in its environment changes.
local segue = require "segue"

return {
  name = "exec",
  sources = { segue.file "config.yaml" },
  secrets = { "token" },
  modules = {
    server = { kind = "files", config = "greeting",
      files = { { to = "greeting.txt", mode = "0644",
        content = function(greeting) return greeting .. "\n" end } } },
  },
  exec = {
    reload_signal = "HUP",
    kill_timeout = "5s",
    env_from = { TOKEN = "token" },
  },
}

-- SPDX-License-Identifier: MIT
-- A front that never stops, a queue that loses no call, a dispatcher that delivers, a log and
-- metrics: five modules, each replaced in the way that suits it.
local segue = require "segue"

return {
  name = "bigpipe",
  sources = { segue.file "config.yaml" },
  triggers = {
    segue.signal "HUP",
    segue.signal("USR1", "reopen"), -- logrotate(8) has moved the log
    segue.watch(),
    segue.http "127.0.0.1:7377",
  },
  schema = "config.schema.json",
  plugins = { "plugins" }, -- the folder that `make` builds front.so, queue.so, dispatcher.so into

  modules = {
    -- All modules call these two all the time: one pointer is exchanged.
    log = { kind = "c", config = "log" },
    stats = { kind = "c", config = "stats" },

    -- Holds a lock on its folder, cannot be there twice: what arrives meanwhile waits at its gate.
    queue = { kind = "c", config = "queue", replace = "restart", needs = { "log", "stats" },
              buffer = { items = 20000, age = "10s" } },

    -- The next one starts beside the old one, which continues with its calls until they are done.
    dispatcher = { kind = "c", config = "dispatcher", needs = { "queue" },
                   drain = "60s", stop = "60s" },
    front = { kind = "c", config = "front", needs = { "queue" },
              listen = "http://127.0.0.1:8080" },
  },

  check = function(next, prev)
    if prev and next.queue.folder ~= prev.queue.folder then
      return nil, "queue.folder cannot change at run time: calls are in it"
    end
    return true
  end,
}

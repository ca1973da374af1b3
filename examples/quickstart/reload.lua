-- SPDX-License-Identifier: MIT
-- The policy of the quickstart: where the configuration comes from, what requests a reload, and
-- what may go live. It reloads itself by the same triggers.
local segue = require "segue"

return {
  name = "quickstart",

  -- Merged in this order: maps merge, anything else is replaced by the later source.
  sources = {
    segue.value { log = { level = "info" }, workers = 2 }, -- defaults
    segue.file "config.yaml",
  },

  triggers = {
    segue.signal "HUP",           -- kill -HUP
    segue.watch(),                -- a file named above was saved, or this one
    segue.http "127.0.0.1:7377",  -- curl -X POST 127.0.0.1:7377/-/reload, and much more on /
    segue.poll "30s",             -- whatever else may have changed the files
  },

  -- A save is taken up when nothing was written for this long; who asks by name does not wait.
  debounce = { min = "200ms", max = "2s" },

  -- The last word on a configuration. prev is what is live, nil at the start.
  check = function(next, prev)
    local v = segue.validate(next)
    v:required("listen")
    v:integer("workers", { min = 1, max = 64 })
    v:one_of("log.level", { "error", "warn", "info", "debug" })
    v:required("upstreams[*].address")
    v:integer("upstreams[*].weight", { min = 1, max = 100 })
    v:unique("upstreams", "name")
    v:check("listen", not prev or next.listen == prev.listen,
      "cannot change at run time: restart the server for that")
    return v:result()
  end,
}

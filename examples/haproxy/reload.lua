-- SPDX-License-Identifier: MIT
-- HAProxy gets its servers from services.yaml. A change of addresses goes through the runtime API,
-- which needs no reload; anything else reloads it. The file is always complete, so that a reload or
-- a restart for another reason begins with the same servers.
local segue = require "segue"

return {
  name = "haproxy",
  sources = { segue.file "services.yaml" },
  triggers = { segue.watch(), segue.signal "HUP", segue.http "127.0.0.1:7377" },
  check = function(next)
    if #next.servers > next.slots then
      return nil, ("%d servers need as many slots: raise slots"):format(#next.servers)
    end
    return true
  end,
  modules = {
    haproxy = { kind = "files",
      files = {
        { template = "haproxy.tmpl", to = "live/haproxy.cfg" },
        { template = "commands.tmpl", to = "live/commands" },
      },
      check = { "haproxy", "-c", "-f", "live/haproxy.cfg" },
      apply = { "./apply" },
    },
  },
}

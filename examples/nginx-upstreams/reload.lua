-- SPDX-License-Identifier: MIT
-- nginx gets its backends from services.yaml. A change is checked by nginx itself on the new files,
-- replaces them as one set, and is undone if nginx cannot apply it or does not answer afterwards.
local segue = require "segue"

return {
  name = "nginx-upstreams",
  sources = { segue.file "services.yaml" },
  triggers = { segue.signal "HUP", segue.watch(), segue.http "127.0.0.1:7377" },
  modules = {
    nginx = { kind = "files",
      files = { { template = "upstreams.tmpl", to = "conf.d/upstreams.conf", mode = "0644" } },
      check = { "nginx", "-t", "-p", ".", "-c", "nginx.conf" },
      apply = { "./reload-or-start" },
      undo = { "./reload-or-start", "undo" }, -- stops the nginx of a first load that is undone
      -- nginx -s reload returns at once, and older workers may use a backend that is stopped next.
      verify = segue.verify.nginx "nginx.pid",
    },
  },
  confirm = { within = "5s", probe = segue.probe.http "http://127.0.0.1:8080/" },
}

-- SPDX-License-Identifier: MIT
-- Prometheus gets its configuration and its rules as one change set. promtool sees both in place of
-- the live ones before anything is replaced; a reload counts only if Prometheus reports that it has
-- loaded them.
local segue = require "segue"

local url = os.getenv "PROMETHEUS_URL" or "http://127.0.0.1:9090"
local ca = os.getenv "PROMETHEUS_CA" -- of a server with TLS
local options = ca and { tls = { ca = ca } } or {}
local path = os.getenv "PROMETHEUS_CONFIG" or "prometheus.yml"
local name = path:match "[^/]+$":gsub("%.gz$", "")

-- A compressed configuration, because a ConfigMap holds at most 1 MiB. An explicit reload reads it
-- at once, a change of the file alone is seen within a second.
local function compressed()
  local function revision()
    local st, why = segue.stat(path)
    return st and ("%s %s"):format(st.mtime, st.size), why
  end
  return segue.source {
    name = path,
    fetch = function(self)
      local now, why = revision()
      if not now then return nil, why end
      if now == self.revision then return true end
      local result, failure = segue.run { "gzip", "-dc", path, max_output = "16MiB" }
      if not result then return nil, failure end
      if not result.ok then return nil, result.message end
      if result.truncated then return nil, path .. " is larger than 16 MiB" end
      return { [name] = result.stdout }, now
    end,
    watch = function(self, emit)
      while true do
        if revision() ~= self.revision then emit() end
        segue.sleep "1s"
      end
    end,
  }
end

-- The configuration itself. $(NAME) only, as prometheus-config-reloader: $1 and ${1} belong to
-- Prometheus.
local function main(config)
  return (config[name]:gsub("%$%(([%w_]+)%)", function(variable)
    return os.getenv(variable)
      or error(("%s: environment variable %s is not set"):format(name, variable), 0)
  end))
end

-- The groups of all rule files, in the order of the files.
local function rules(config)
  local names, groups = {}, segue.array {}
  for file, content in pairs(config) do
    if type(content) == "table" then names[#names + 1] = file end
  end
  table.sort(names)
  for _, file in ipairs(names) do
    for _, group in ipairs(config[file].groups or {}) do groups[#groups + 1] = group end
  end
  return segue.yaml.encode { groups = groups }
end

return {
  name = "prometheus",
  sources = {
    path:find "%.gz$" and compressed() or segue.text(path),  -- config["prometheus.yml"], a text
    segue.dir { "rules/*.{yml,yaml}", by = "file" },         -- config["up.yml"], a map
  },
  triggers = { segue.watch(), segue.signal "HUP", segue.http "127.0.0.1:7377" },
  modules = {
    prometheus = { kind = "files",
      folder = "live", -- both files change by one step, also for a Prometheus that starts just now
      files = {
        { name = "prometheus.yml", content = main },
        { name = "rules.yml", content = rules },
      },
      check = { "promtool", "check", "config", "live/prometheus.yml" },
      apply = segue.post(url .. "/-/reload", options),
      retry = { times = 10, pause = "200ms" }, -- three minutes: Prometheus may not run yet
      verify = segue.verify.prometheus(url, options),
    },
  },
}

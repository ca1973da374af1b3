-- SPDX-License-Identifier: MIT
-- Prometheus gets its configuration and its rules as one change set. promtool sees both in place of
-- the live ones before anything is replaced; a reload counts only if Prometheus reports that it has
-- loaded them.
local segue = require "segue"

local url = os.getenv "PROMETHEUS_URL" or "http://127.0.0.1:9090"
local ca = os.getenv "PROMETHEUS_CA" -- of a server with TLS
local options = ca and { tls = { ca = ca } } or {}

-- The configuration itself. $(NAME) only, as prometheus-config-reloader: $1 and ${1} belong to
-- Prometheus.
local function main(config)
  return (config["prometheus.yml"]:gsub("%$%(([%w_]+)%)", function(name)
    return os.getenv(name)
      or error(("prometheus.yml: environment variable %s is not set"):format(name), 0)
  end))
end

-- The groups of all rule files, in the order of the files.
local function rules(config)
  local names, groups = {}, segue.array {}
  for name, content in pairs(config) do
    if type(content) == "table" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    for _, group in ipairs(config[name].groups or {}) do groups[#groups + 1] = group end
  end
  return segue.yaml.encode { groups = groups }
end

return {
  name = "prometheus",
  sources = {
    segue.text "prometheus.yml",                         -- config["prometheus.yml"], a text
    segue.dir { "rules/*.{yml,yaml}", by = "file" },     -- config["up.yml"], a map
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
      verify = segue.verify.prometheus(url),
    },
  },
}

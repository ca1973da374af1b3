-- SPDX-License-Identifier: MIT
-- examples/prometheus with a real Prometheus: it loads the files, and the previous ones stay where
-- promtool rejects a change, or Prometheus does not load one that promtool accepts.
local certificates = require "spec.support.certificates"
local cjson = require "cjson"
local example = require "spec.support.example"
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local read = require("spec.support.file").read
local segue = require "spec.support.segue"
local Tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local base = "examples/prometheus/"

describe("examples/prometheus", function()
  local server
  after_each(function()
    segue.cleanup()
    if server then server:stop() end
    server = nil
  end)

  local function compress(d, name)
    process.output { "gzip", "-f", d.dir:at(name) }
  end

  local function get(d, path)
    return http.request { port = d.prometheus, path = path }.body
  end

  -- The daemon writes the first files, Prometheus starts with them, and the first apply reaches it.
  -- secure: certificates of the server, or nil.
  local function start(secure)
    local number = port.free()
    local policy = read(base .. "reload.lua"):gsub("7377", "@PORT@")
      :gsub("times = 10", "times = 100")
    local d = segue.folder { policy = example.patient(policy),
      env = { CLUSTER = "eu", PROMETHEUS_URL = ("%s://127.0.0.1:%d"):format(secure and "https"
        or "http", number), PROMETHEUS_CA = secure and secure.ca,
        PROMETHEUS_CONFIG = secure and "prometheus.yml.gz" },
      files = { ["prometheus.yml"] = read(base .. "prometheus.yml"),
        ["rules/up.yml"] = read(base .. "rules/up.yml") } }
    d.prometheus = number
    if secure then
      compress(d, "prometheus.yml")
      d.dir:write("web.yml", ("tls_server_config: { cert_file: %s, key_file: %s }\n"):format(
        secure.cert, secure.key))
    end
    d:spawn()
    wait.until_true(function() return d.dir:read "live/prometheus.yml" end)
    server = process.start { "prometheus", "--config.file=" .. d.dir:at "live/prometheus.yml",
      "--web.enable-lifecycle", "--web.listen-address=127.0.0.1:" .. number,
      "--storage.tsdb.path=" .. d.dir:at "data", secure and "--web.config.file="
        .. d.dir:at "web.yml", name = "prometheus" }
    d:wait_ready()
    return d
  end

  local function save(d, name, text)
    d.dir:save(name, text)
    local status, answer = d:reload()
    return status, answer.errors and answer.errors[1] and answer.errors[1].message
  end

  local function query_of(d)
    local groups = cjson.decode(get(d, "/api/v1/rules")).data.groups
    for _, group in ipairs(groups) do
      if group.name == "up" then return group.rules[1].query, #groups end
    end
  end

  it("loads its files as one set, and keeps them where promtool or Prometheus refuses", function()
    local d = start()
    assert.matches("cluster: eu", get(d, "/api/v1/status/config"), 1, true)
    assert.equal("up == 0", (query_of(d)))
    assert.equal(200, (save(d, "rules/more.yml",
      "groups: [{ name: more, rules: [{ record: a, expr: vector(1) }] }]\n")))
    assert.equal(2, select(2, query_of(d)))
    local before = d.dir:read "live/rules.yml"

    local status, message = save(d, "rules/up.yml",
      read(base .. "rules/up.yml"):gsub("up == 0", "up = 0"))
    assert.equal(422, status)
    assert.matches("parse error", message, 1, true)
    status, message = save(d, "rules/up.yml", read(base .. "rules/up.yml")
      :gsub("for: 5m", "for: 6m"))
    assert.equal(200, status, message)
    status, message = save(d, "prometheus.yml", read(base .. "prometheus.yml")
      :gsub("CLUSTER", "NOT_SET"))
    assert.equal(422, status)
    assert.matches("environment variable NOT_SET is not set", message, 1, true)
    assert.equal(200, (save(d, "prometheus.yml", read(base .. "prometheus.yml"))))
    assert.equal(200, (save(d, "rules/up.yml", read(base .. "rules/up.yml"))))
    assert.equal(before, d.dir:read "live/rules.yml")

    -- promtool accepts a second remote endpoint of the same name; the server refuses it.
    status, message = save(d, "prometheus.yml", read(base .. "prometheus.yml") .. [[
remote_write:
  - { url: "http://127.0.0.1:9/a", name: one }
  - { url: "http://127.0.0.1:9/b", name: one }
]])
    assert.is_true(status ~= 200, message)
    assert.not_matches("remote_write", d.dir:read "live/prometheus.yml", 1, true)
    assert.not_matches("remote_write", get(d, "/api/v1/status/config"), 1, true)
    assert.equal("up == 0", (query_of(d)))
    d:stop()
  end)

  it("reads a compressed configuration, and reaches a server with TLS", function()
    local dir = Tempdir.new()
    local authority = certificates.authority(dir)
    local issued = authority:issue { name = "server" }
    local d = start { ca = authority.cert, cert = issued.cert, key = issued.key }
    assert.matches("cluster: eu", d.dir:read "live/prometheus.yml", 1, true)

    -- The server gets its files by TLS, and reports by TLS that it has loaded them.
    d.dir:write("prometheus.yml", read(base .. "prometheus.yml"):gsub("5s", "7s"))
    compress(d, "prometheus.yml")
    local status, answer = d:reload()
    assert.equal(200, status, answer.errors and answer.errors[1] and answer.errors[1].message)
    assert.equal("applied", answer.outcome)
    assert.matches("scrape_interval: 7s", d.dir:read "live/prometheus.yml", 1, true)

    -- The change of the file alone is seen too.
    d.dir:write("prometheus.yml", read(base .. "prometheus.yml"):gsub("5s", "11s"))
    compress(d, "prometheus.yml")
    wait.until_true(function()
      return d.dir:read "live/prometheus.yml":find("scrape_interval: 11s", 1, true)
    end, nil, function() return d:log() end)
    d:wait_settled()

    -- A source that fails keeps what it delivered last.
    d.dir:write("prometheus.yml.gz", "no archive")
    d:reload()
    d:wait_log "not in gzip format"
    assert.matches("scrape_interval: 11s", d.dir:read "live/prometheus.yml", 1, true)
    d:stop()
  end)
end)

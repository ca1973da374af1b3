-- SPDX-License-Identifier: MIT
-- Requests as load balancers, orchestrators and Prometheus send them: without a Host, from an
-- address that other clients share, with various Accept headers.
local cjson = require "cjson"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local uv = require "luv"

local TOKEN = "ops-token-0123456789"
local HEALTH, PROBES = { "/-/healthy", "/-/ready" }, { "/-/healthy", "/-/ready", "/metrics" }

local function start(listener)
  local d = segue.folder { files = { ["config.yaml"] = "a: 1\n", ["ops.token"] = TOKEN .. "\n" },
    policy = [[
local segue = require "segue"
return {
  name = "probes",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http { "127.0.0.1:@PORT@", ]] .. listener .. [[ } },
}
]] }
  uv.fs_chmod(d.dir:at "ops.token", tonumber("600", 8))
  d:spawn()
  d:wait_ready()
  return d
end

-- The status of a request that is written as it stands.
local function raw(d, line, headers)
  local client = http.connect { port = d.port }
  client:write(line .. "\r\n" .. (headers or "") .. "\r\n")
  local status = client:read_response().status
  client:close()
  return status
end

describe("a probe", function()
  local d
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  it("needs no Host under HTTP/1.0, and accepts an empty one, which no browser sends", function()
    d = start ""
    for _, path in ipairs(PROBES) do
      assert.equal(200, raw(d, "GET " .. path .. " HTTP/1.0"), path)
      assert.equal(200, raw(d, "GET " .. path .. " HTTP/1.1", "Host:\r\n"), path)
      assert.equal(403, raw(d, "GET " .. path .. " HTTP/1.0", "Host: evil.example\r\n"), path)
      assert.equal(403, raw(d, "GET " .. path .. " HTTP/1.0", "Origin: http://evil.example\r\n"))
      assert.equal(400, raw(d, "GET " .. path .. " HTTP/1.1"), path)
    end
    for _, line in ipairs { "POST /-/reload HTTP/1.0", "GET /api/v1/config HTTP/1.0",
      "GET / HTTP/1.0",
      "POST /metrics HTTP/1.0" } do
      assert.equal(403, raw(d, line), line)
      assert.equal(403, raw(d, line:gsub("1.0", "1.1"), "Host: \r\n"), line)
    end
    assert.is_nil(d:log():find("healthy[^\n]*status=200"))
  end)

  it("has an allowance of its own, whatever other clients at its address request", function()
    d = start([[public = { "health", "metrics" }, rate = "6/h", burst = 6,
      tokens = { { file = "ops.token", role = "operate" } }]])
    local function used_up()
      local n = 0
      while d:http("/").status ~= 429 do n = n + 1 end
      return n
    end
    assert.equal(6, used_up())
    assert.equal(429, d:http { path = "/-/reload", method = "POST" }.status)
    for _ = 1, 3 do
      for _, path in ipairs(HEALTH) do assert.equal(200, d:http(path).status, path) end
    end
    assert.equal(429, d:http("/-/healthy").status) -- their allowance has a limit too
    for _ = 1, 6 do assert.equal(200, d:http("/metrics").status) end
    assert.equal(429, d:http("/metrics").status)
  end)

  it("gets JSON or text by its Accept header: names without case, weights, 0 for never", function()
    d = start ""
    local function is_json(path, accept)
      local r = d:http { path = path, headers = { Accept = accept } }
      local json = pcall(cjson.decode, r.body)
      assert.equal(json, r.headers["content-type"] == "application/json")
      return json
    end
    -- errors speak both: text by default, JSON below /api/
    for accept, json in pairs {
      ["APPLICATION/JSON"] = true, ["application/json;q=0"] = false, ["*/*"] = false,
      ["application/json; Q=0.5, text/plain;q=0.4"] = true, ["application/*"] = true,
      ["application/json;q=0.1, text/plain"] = false, ["text/html, */*;q=0.8"] = false,
      ["application/json;charset=\"a,b;q=0\""] = true, ["application/jsonp"] = false,
      ["application/json;q=0, application/*"] = false, ["text/plain, application/json"] = true,
      ["application/json;q=0.000, text/*"] = false, ["text/*;q=0, */*"] = true,
    } do
      assert.equal(json, is_json("/nothing", accept), accept)
    end
    for accept, json in pairs {
      ["*/*"] = true, ["TEXT/Plain"] = false, ["text/plain;q=0"] = true, ["text/html"] = true,
      ["text/plain, application/json"] = true, ["application/json;q=0.2, text/*"] = false,
    } do
      assert.equal(json, is_json("/api/v1/nothing", accept), accept)
    end
  end)
end)

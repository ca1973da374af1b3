-- SPDX-License-Identifier: MIT
-- examples/front does what its README promises, also while its code and configuration change under
-- load.
local http = require "spec.support.http"
local port = require "spec.support.port"
local segue = require "spec.support.segue"

local WITHIN_MS = 60000

local read = require("spec.support.file").read

describe("examples/front", function()
  local d, at
  before_each(function()
    at = port.free()
    local function here(text)
      return (text:gsub("127%.0%.0%.1:7377", "127.0.0.1:@PORT@"):gsub("8080", tostring(at))
        :gsub("segue%.watch%(%), ", ""))
    end
    d = segue.start { policy = here(read "examples/front/reload.lua"), files = {
      ["config.yaml"] = here(read "examples/front/config.yaml"),
      ["front.lua"] = read "examples/front/front.lua",
      ["pages.lua"] = read "examples/front/pages.lua" } }
    -- libuv opens it for each loop, with its first connection.
    d.baseline.files["/dev/null"] = (d.baseline.files["/dev/null"] or 0) + 64
  end)
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)
  local function get(path)
    return http.request { port = at, path = path, deadline_ms = WITHIN_MS }
  end

  it("answers", function()
    assert.equal("Hello, world!\n", get("/").body)
    assert.equal("Hello, you!\n", get("/?name=you").body)
    assert.equal("Served by segue.\n", get("/about").body)
    assert.equal(404, get("/none").status)
    assert.equal(200, get("/upstream").status)
    assert.equal("1\n2\n3\n", get("/count").body)
    assert.equal("1", get("/").headers["segue-generation"])
  end)

  it("changes code and configuration under load, and loses no request", function()
    local code, connections = read "examples/front/pages.lua", {}
    local request = http.format { port = at, path = "/" }
    for i = 1, 4 do connections[i] = http.connect { port = at } end
    for version = 2, 12 do
      for _, connection in ipairs(connections) do connection:write(request:rep(25)) end
      d.dir:save("pages.lua", (code:gsub("%%s, ", "%%s " .. version .. ", ")))
      d.dir:save("config.yaml", ("front: { greeting: Hello%d }\n"):format(version))
      local status, answer = d:reload()
      assert.equal(200, status, answer)
      assert.equal(("Hello%d %d, world!\n"):format(version, version), get("/").body)
      for _, connection in ipairs(connections) do
        for _ = 1, 25 do
          local response = connection:read_response(WITHIN_MS)
          local a, b = response.body:match("^Hello(%d*) ?(%d*), world!\n$")
          assert.equal(200, response.status)
          assert.equal(a, b, response.body)
          assert.equal(a == "" and "1" or a, response.headers["segue-generation"])
        end
      end
    end
  end)

  it("keeps the live module when the next one does not start", function()
    d.dir:save("config.yaml", "front: { pages: {} }\n")
    local status, answer = d:reload()
    assert.equal(500, status)
    assert.matches("front.greeting is missing", answer.errors[1].message)
    assert.equal("Hello, world!\n", get("/").body)
  end)
end)

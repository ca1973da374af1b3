-- SPDX-License-Identifier: MIT
-- Defaults of a schema, filled into the configuration before it is validated.
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  schema = { path = "schema.yaml", defaults = true },
  check = function(next)
    if next.listen.port == 13 then return nil, "an unlucky port" end
    return true
  end,
}]]

local schema = [[
type: object
required: [listen, workers]
properties:
  workers: { type: integer, minimum: 1, default: 4 }
  listen:
    type: object
    default: {}
    properties:
      host: { type: string, default: localhost }
      port: { type: integer, default: %d }
  token: { type: string, writeOnly: true, default: open-sesame }
]]

describe("defaults of a schema", function()
  after_each(segue.cleanup)

  local function start(config)
    return segue.start { policy = policy,
      files = { ["config.yaml"] = config, ["schema.yaml"] = schema:format(80) } }
  end

  it("are filled in, with their place in the schema, and count for what is required", function()
    local d = start "listen: { host: example.org }\n"
    local c = d:config()
    assert.equal(4, c.workers)
    assert.same({ host = "example.org", port = 80 }, c.listen)
    assert.are_not.equal("open-sesame", c.token) -- a secret, wherever it comes from
    local why = d:json("/api/v1/why?path=listen.port")
    assert.matches("schema%.yaml$", why.origin.file)
    assert.equal(10, why.origin.line)
    assert.matches("config%.yaml$", d:json("/api/v1/why?path=listen.host").origin.file)
  end)

  it("are no change while they stay the same, and one when the schema changes them", function()
    local d = start "workers: 2\n"
    assert.equal("unchanged", select(2, d:reload()).outcome)
    d.dir:save("config.yaml", "workers: 3\n")
    local _, answer = d:reload()
    assert.equal(1, answer.change_count)
    assert.equal("workers", answer.changes[1].path)
    d.dir:save("schema.yaml", schema:format(81))
    _, answer = d:reload()
    assert.equal("applied", answer.outcome)
    assert.equal(1, answer.change_count)
    assert.equal("listen.port", answer.changes[1].path)
    assert.equal(81, d:config().listen.port)
    local diff = d:json("/api/v1/diff?from=1&to=3")
    assert.equal(2, diff.change_count)
  end)

  it("are validated like written values, by the schema and by the policy", function()
    local d = start "{}\n"
    d.dir:save("schema.yaml", (schema:format(80):gsub("default: 4", "default: 0")))
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.equal("workers", answer.errors[1].path)
    assert.matches("schema%.yaml$", answer.errors[1].file)
    d.dir:save("schema.yaml", schema:format(13))
    status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("unlucky", answer.errors[1].message)
    d.dir:save("schema.yaml", [[
$ref: "#/$defs/node"
$defs:
  node: { type: object, properties: { child: { $ref: "#/$defs/node", default: {} } } }
]])
    status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("does one contain itself", answer.errors[1].message)
    assert.equal(4, d:config().workers)
  end)

  it("come back with a rollback, and after a restart with nothing but the last good one", function()
    local d = start "workers: 2\n"
    d.dir:save("schema.yaml", schema:format(81))
    assert.equal(200, (d:reload()))
    assert.equal(0, d:cli("rollback").code)
    assert.equal(80, d:config().listen.port)
    d:stop()
    d.dir:delete "schema.yaml"
    d:spawn()
    d:wait_ready()
    assert.equal(80, d:config().listen.port)
  end)
end)

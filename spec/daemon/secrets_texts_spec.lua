-- SPDX-License-Identifier: MIT
-- Secrets in texts that a policy, a source or a module chooses: names of documents, revisions,
-- labels of metrics, causes of reloads, long lines, repeated lines, errors of a policy.
local segue = require "spec.support.segue"

local SECRET = "first-passw0rd"

local POLICY = [[
local segue = require "segue"
local fetches = 0
if SPOIL then error("the policy read " .. SPOIL) end
return {
  sources = { segue.source { name = "far", fetch = function()
    local text = segue.read "far.yaml"
    fetches = fetches + 1
    return { { name = "doc-SECRET", text = "fetches: " .. fetches .. "\n" .. text } }, "rev-SECRET"
  end } },
  secrets = { "db.password" },
  triggers = { segue.http "127.0.0.1:@PORT@", FIRE },
  MORE
}
]]

local function policy(options)
  return (POLICY:gsub("SPOIL", options.spoil or "nil"):gsub("FIRE", options.fire or "nil")
    :gsub("MORE", options.more or ""):gsub("SECRET", SECRET))
end

local function start(options)
  return segue.start { policy = policy(options), args = { "--log-level", "debug" },
    files = { ["far.yaml"] = "db: { password: " .. SECRET .. " }\nport: 1\n" } }
end

local function shows_no_secret(text)
  local at = text:find("first-p", 1, true)
  assert(not at, at and ("a secret is shown: ..." .. text:sub(math.max(1, at - 200), at + 60)))
end

local PATHS = { "/api/v1/status", "/api/v1/sources", "/api/v1/why?path=port", "/api/v1/reloads",
  "/metrics", "/api/v1/modules" }

local function everything(d)
  local texts = {}
  for _, path in ipairs(PATHS) do texts[#texts + 1] = d:control(path).body end
  for _, args in ipairs { { "why", "port" }, { "status" }, { "history" }, { "history", "1" },
    { "sources" } } do
    texts[#texts + 1] = d:cli(unpack(args)).output
  end
  texts[#texts + 1] = d:log()
  return table.concat(texts, "\n")
end

describe("a secret in a text", function()
  after_each(segue.cleanup)

  it("is not shown by the name of a document or its revision", function()
    local d = start {}
    assert.equal("doc-***", d:json("/api/v1/why?path=port").origin.file)
    assert.equal("rev-***", d:json("/api/v1/sources")[1].revision)
    d.dir:write("far.yaml", "db: { password: " .. SECRET .. " }\nport: [\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.equal("doc-***", answer.errors[1].file)
    shows_no_secret(everything(d))
  end)

  it("is not shown by a label of a metric, nor makes two lines of one series", function()
    local d = start { more = [[
      modules = { stats = { kind = "c", plugin = "stats", config = "stats" } },
      check = function(next)
        local stats = require "segue.stats"
        stats.count('seen_total{of="' .. next.db.password .. '",port="' .. next.port .. '"}', 1234)
        stats.observe('took{of="' .. next.db.password .. '"}', 1)
        return true
      end,]] }
    d.dir:write("far.yaml", "db: { password: " .. SECRET .. ', pin: 1234 }\nport: 1\nstats: '
      .. '{ help: { seen_total: "seen first-passw0rd" } }\n')
    assert.equal(200, (d:reload()))
    local page = d:control("/metrics").body
    assert.is_truthy(page:find('seen_total{of="***",port="1"} 1234\n', 1, true), page)
    assert.is_truthy(page:find("# HELP seen_total seen ***\n", 1, true), page)
    assert.is_truthy(page:find('took_count{of="***"} 1\n', 1, true), page)
    assert.is_truthy(page:find("segue_build_info{", 1, true))
    shows_no_secret(everything(d))
    -- another secret in the same place counts in the same series
    d.dir:write("far.yaml", "db: { password: second-passw0rd }\nport: 1\nstats: {}\n")
    assert.equal(200, (d:reload()))
    page = d:control("/metrics").body
    assert.is_truthy(page:find('seen_total{of="***",port="1"} 2468\n', 1, true), page)
  end)

  it("is not shown where a long line or text is cut, nor by the count of a repeated line",
    function()
      -- A reload for each length: the daemon drops lines that a busy reader does not take.
      local d = start { more = [[
        check = function(next)
          if next.cut then
            local long = ("x"):rep(65536 - next.cut) .. next.db.password .. ("y"):rep(100)
            segue.log.info(long, { text = long })
          else
            for _ = 1, 3 do segue.log.info(("z"):rep(122) .. next.db.password) end
          end
          segue.log.info("cut: " .. tostring(next.cut))
          return true
        end,]] }
      d:wait_log("cut: nil")
      for cut = 1, 12 do
        d.dir:write("far.yaml", ("db: { password: %s }\ncut: %d\n"):format(SECRET, cut))
        assert.equal(200, (d:reload()))
        d:wait_log(("cut: %d\n"):format(cut))
      end
      local log = d:log()
      assert.is_nil(log:find("xf", 1, true))
      assert.is_nil(log:find("xy", 1, true))
      assert.is_truthy(log:find("x***...", 1, true))
      assert.is_nil(log:find("zf", 1, true))
      assert.is_truthy(log:find("repeated: " .. ("z"):rep(122) .. "***", 1, true))
    end)

  it("is not shown by the cause of a reload that a trigger of the policy gives", function()
    local d = start { fire = [[segue.trigger(function(fire)
      fire "because of SECRET"
      segue.sleep "1h"
    end)]] }
    d:wait_log("because of %*%*%*")
    assert.is_truthy(d:control("/api/v1/reloads").body:find("because of ***", 1, true))
    shows_no_secret(everything(d))
  end)

  it("is not shown by an error of the policy itself", function()
    local d = start {}
    d.dir:write("reload.lua", d:fill(policy { spoil = '"SECRET"' }))
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.equal("the policy read ***", answer.errors[1].message)
    shows_no_secret(everything(d))
  end)

  it("is not written by a hook's log line in segue check", function()
    local folder = segue.folder { policy = [[local segue = require "segue"
      return { sources = { segue.file "config.yaml" }, secrets = { "db" }, check = function(next)
        segue.log.info("it is " .. next.db.password)
        return true
      end }]], files = { ["config.yaml"] = "db: { password: first-passw0rd }\n" } }
    local p = folder:cli("check", "--log-level", "info")
    assert.equal(0, p.code, p.output)
    assert.is_truthy(p.output:find("it is ***", 1, true), p.output)
    shows_no_secret(p.output)
  end)

  it("is not shown by a text of the schema that quotes it, in a daemon and in check --schema",
    function()
      local schema = [[{ "properties": { "db": { "properties": { "password": {
        "writeOnly": true, "pattern": "^first-passw0rd!$",
        "errorMessage": "use a new one, first-passw0rd is old" } } } } }]]
      local folder = segue.folder {
        files = { ["s.json"] = schema, ["config.yaml"] = "db: { password: first-passw0rd }\n" },
        policy = [[local segue = require "segue"
          return { sources = { segue.file "config.yaml" }, schema = "s.json" }]] }
      for _, args in ipairs { { "check" }, { "check", "--json" },
        { "check", "--schema", "s.json", "config.yaml" },
        { "check", "--schema", "s.json", "config.yaml", "--json" } } do
        local p = folder:cli(unpack(args))
        assert.equal(3, p.code, p.output)
        assert.is_truthy(p.output:find("use a new one, *** is old", 1, true), p.output)
        shows_no_secret(p.output)
      end
    end)
end)

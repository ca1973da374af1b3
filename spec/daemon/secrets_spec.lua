-- SPDX-License-Identifier: MIT
-- Secrets: values that the schema marks or the policy names are never shown, in any answer, for any
-- failure, by any part.
local cjson = require "cjson"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local FIRST, SECOND, TOKEN = "first-passw0rd", "second-passw0rd", "t0ken-of-the-payment-service"
local ALL = { FIRST, SECOND, TOKEN }

local schema = cjson.encode {
  properties = {
    db = { properties = { password = { type = "string", writeOnly = true, minLength = 8 } } },
  },
}

local function config(password, more)
  return ("db:\n  host: db.example\n  password: %s\npay:\n  token: %s\nport: 1\n%s"):format(
    password, TOKEN, more or "")
end

local function policy(check, more)
  return ([[
local segue = require "segue"
return {
  name = "secrets",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  schema = "config.schema.json",
  secrets = { "**.token" },
  check = %s,
  %s
}
]]):format(check or "nil", more or "")
end

local function start(check, more)
  return segue.start { policy = policy(check, more),
    files = { ["config.yaml"] = config(FIRST), ["config.schema.json"] = schema },
    args = { "--log-level", "debug" } }
end

-- All texts of a daemon that a user can read.
local function everything(d)
  local texts = { d:log() }
  for _, path in ipairs { "/api/v1/status", "/api/v1/config", "/api/v1/config?path=db",
    "/api/v1/config?path=db.password", "/api/v1/config?path=pay", "/api/v1/reloads",
    "/api/v1/diff", "/api/v1/diff?to=next", "/api/v1/modules", "/api/v1/sources", "/metrics",
    "/api/v1/why?path=db.password", "/api/v1/why?path=pay", "/api/v1/diff?from=1&to=2",
    "/api/v1/diff?from=1&to=3" } do
    texts[#texts + 1] = d:control(path).body
    texts[#texts + 1] = d:control { path = path, headers = { Accept = "text/plain" } }.body
  end
  for _, reload in ipairs(d:json "/api/v1/reloads") do
    texts[#texts + 1] = d:control("/api/v1/reloads/" .. reload.id).body
  end
  for _, path in ipairs { "/api/v1/plan", "/-/reload" } do
    texts[#texts + 1] = d:control { method = "POST", path = path }.body
    texts[#texts + 1] = d:control { method = "POST", path = path,
      headers = { Accept = "application/json" } }.body
  end
  for _, args in ipairs { { "status" }, { "diff" }, { "diff", "--json" }, { "plan" },
    { "diff", "next" }, { "check" }, { "check", "--json" }, { "history" }, { "history", "--json" },
    { "why", "db.password" }, { "diff", "1", "2" } } do
    texts[#texts + 1] = d:cli(unpack(args)).output
  end
  return table.concat(texts, "\n")
end

local function shows_no_secret(text)
  for _, secret in ipairs(ALL) do
    local at = text:find(secret, 1, true)
    assert(not at, at and ("a secret is shown: ..." .. text:sub(math.max(1, at - 200), at + 60)))
  end
end

describe("a secret", function()
  after_each(segue.cleanup)

  it("is masked in the configuration, and the values beside it are shown", function()
    local d = start()
    local c = d:config()
    assert.equal("***", c.db.password)
    assert.equal("***", c.pay.token)
    assert.equal("db.example", c.db.host)
    assert.equal(1, c.port)
    assert.equal('"***"\n', d:control("/api/v1/config?path=db.password").body)
    assert.equal('{\n  "token": "***"\n}\n', d:control("/api/v1/config?path=pay").body)
    shows_no_secret(everything(d))
  end)

  it("is masked in diff and plan, which report that it has changed", function()
    local d = start()
    d.dir:write("config.yaml", config(SECOND, "new: { token: " .. TOKEN .. " }\n"))
    local plan = d:cli("plan").stdout
    assert.matches('~ db%.password = "%*%*%*"', plan)
    assert.matches('%+ new = {"token":"%*%*%*"}', plan)
    shows_no_secret(plan)
    assert.equal("applied", select(2, d:reload()).outcome)
    local diff = d:json("/api/v1/diff")
    local change = diff.changes[1]
    assert.same({ op = "change", path = "db.password", secret = true, from = "***", to = "***" },
      change)
    assert.equal("***", diff.changes[2].to.token)
    assert.matches("~ db%.password changed, a secret\n", d:cli("diff").stdout)
    shows_no_secret(everything(d))
  end)

  it("is masked in generations of the history", function()
    local d = start()
    for port = 2, 4 do
      d.dir:write("config.yaml", (config(port == 3 and SECOND or FIRST):gsub("port: 1", "port: "
        .. port)))
      assert.equal("applied", select(2, d:reload()).outcome)
    end
    local diff = d:json("/api/v1/diff?from=1&to=3")
    assert.equal("db.password", diff.changes[1].path)
    assert.equal("***", diff.changes[1].from)
    assert.equal("***", d:json("/api/v1/why?path=db.password").value)
    d:control { method = "POST", path = "/api/v1/rollback?to=1" }
    shows_no_secret(everything(d))
    assert.equal("***", d:config().db.password)
  end)

  it("stays masked when the next policy no longer calls it a secret", function()
    local d = start()
    local open = policy():gsub("secrets = .-,\n", ""):gsub("schema = .-,\n", "")
    d.dir:write("reload.lua", d:fill(open))
    d.dir:write("config.yaml", config(SECOND))
    local answer = d:control { method = "POST", path = "/api/v1/plan" }.body
    shows_no_secret(answer)
    assert.matches("db.password", answer, 1, true)
  end)

  it("is not shown by the cause of a rejection: the schema, check, a veto, an error", function()
    local d = start([[function(next)
      segue.log.info("looking at " .. next.db.password,
        { token = next.pay.token, [next.pay.token] = 1 })
      if next.fault == "veto" then return nil, "I do not like " .. next.db.password end
      if next.fault == "error" then error("cannot use " .. next.pay.token:sub(1, 15) .. "...") end
      local v = segue.validate(next)
      if next.fault == "validate" then
        v:one_of("db.password", { "a" }):string("pay.token", { max = 2 })
      end
      return v:result()
    end]])
    for _, case in ipairs { { "veto", "I do not like %*%*%*" }, { "error", "cannot use %*%*%*" },
      { "validate", "db.password must be one of the values that are allowed" } } do
      d.dir:write("config.yaml", config(SECOND, "fault: " .. case[1] .. "\n"))
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.matches(case[2], answer.errors[1].message)
      shows_no_secret(cjson.encode(answer))
    end
    d.dir:write("config.yaml", "db: { password: 12345678 }\npay: { token: " .. TOKEN .. " }\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("db.password", answer.errors[1].path)
    assert.is_nil(cjson.encode(answer):find("12345678", 1, true))
    shows_no_secret(everything(d))
    d:wait_log("looking at %*%*%*")
  end)

  it("is not written by the log module: in a message, a text or a key of a field", function()
    local d = segue.start { policy = policy([[function(next)
      local fields = {}
      for i = 1, 20 do fields["k" .. i] = next.pay.token end
      fields["a" .. next.pay.token] = next.pay.token
      require "segue.log".info("it is " .. next.pay.token, fields)
      return true
    end]], 'modules = { log = { kind = "c", config = "log" } },'), files = {
      ["config.yaml"] = config(FIRST, "log: { file: app.log }\n"),
      ["config.schema.json"] = schema } }
    assert.equal(200, (d:reload("?force=1")))
    local text
    wait.until_true(function()
      text = d.dir:read("app.log") or ""
      return text:find("policy: it is .-\n")
    end, 10000, function() return text end)
    shows_no_secret(text)
    assert.matches("policy: it is *** a***=*** k1=*** ", text, 1, true)
  end)

  it("is not shown by segue.validate, however short it is", function()
    local folder = segue.folder { files = { ["config.yaml"] = "db: { pin: 7, word: ab }\nn: 7\n" },
      policy = [[local segue = require "segue"
        return { sources = { segue.file "config.yaml" }, secrets = { "db" }, check = function(next)
          return segue.validate(next):one_of("db.pin", { 8, 9 }):integer("db.pin", { min = 8 })
            :pattern("db.word", "^x"):integer("n", { min = 8 }):result()
        end }]] }
    local reported = folder:cli("check").stdout
    assert.matches("db must be one of the values that are allowed %(at db%)\n", reported)
    assert.matches("db must be at least 8 %(at db%)\n", reported)
    assert.matches("db must be a text like %^x %(at db%)\n", reported)
    assert.matches("n must be at least 8, not 7 %(at n%)\n", reported)
    folder.dir:write("reload.lua", (folder.dir:read("reload.lua"):gsub("validate%(next%)",
      "validate(next.db)"):gsub('"db%.', '"')))
    reported = folder:cli("check").stdout
    assert.matches("pin must be at least 8", reported)
    assert.is_nil(reported:find("not 7", 1, true), reported)
  end)

  it("that is a map does not show its keys: in changes, steps, breaches, why, errors", function()
    local keys = { "hunter2-key", "hunter3-key", "wallet-key", "only-this-text" }
    local d = segue.start { args = { "--log-level", "debug" }, policy = [[
      local segue = require "segue"
      return { sources = { segue.file "config.yaml" }, schema = "config.schema.json",
        triggers = { segue.http "127.0.0.1:@PORT@" }, secrets = { "wallet" },
        check = function(next)
          local v = segue.validate(next)
          if next.fault then
            v:integer 'vault."hunter3-key"':integer 'wallet.inner."wallet-key"'
          end
          return v:result()
        end }]],
      files = {
        ["config.yaml"] = "vault: { hunter2-key: aaaa }\nwallet: { inner: {} }\n",
        ["config.schema.json"] = cjson.encode { properties = { vault = { writeOnly = true,
          additionalProperties = { anyOf = { { type = "string" }, { const = "only-this-text" } } },
          propertyNames = { maxLength = 20 } }, fault = { type = "integer" },
          code = { writeOnly = true, enum = { "only-this-text", 1 } } } } } }
    local function tells_none(text)
      for _, key in ipairs(keys) do
        local at = text:find(key, 1, true)
        assert(not at, at and "reported: ..." .. text:sub(math.max(1, at - 300), at + 60))
      end
    end
    local function everything_of()
      local texts = { everything(d) }
      for _, path in ipairs { "vault", 'vault."hunter3-key"', 'wallet.inner."wallet-key"' } do
        local escaped = path:gsub('"', "%%22")
        texts[#texts + 1] = d:control("/api/v1/why?path=" .. escaped).body
        texts[#texts + 1] = d:control("/api/v1/config?path=" .. escaped).body
      end
      return table.concat(texts, "\n")
    end
    d.dir:write("config.yaml",
      "vault: { hunter3-key: aaaa }\nwallet: { inner: { wallet-key: 1 } }\n")
    local plan = d:cli("plan").stdout
    assert.matches("plan: 2 changes", plan)
    assert.matches('~ vault = "%*%*%*"\n', plan)
    assert.matches('~ wallet = "%*%*%*"\n', plan)
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal("vault", d:json("/api/v1/why?path=vault.%22hunter3-key%22").path)
    assert.equal(d:control("/api/v1/config?path=vault.%22hunter3-key%22").body,
      d:control("/api/v1/config?path=vault.no").body)
    for _, case in ipairs {
      { 'vault: { hunter3-key: 7 }', "a part of vault" },
      { 'vault: { hunter3-key-that-is-much-too-long: x }', "a part of vault" },
      { 'code: 5', "code must be one of the values" },
    } do
      d.dir:write("config.yaml", case[1] .. "\n")
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.is_truthy(answer.errors[1].message:find(case[2], 1, true), answer.errors[1].message)
    end
    d.dir:write("config.yaml",
      "vault: { hunter3-key: x }\nwallet: { inner: { wallet-key: y } }\nfault: 1\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.equal("vault", answer.errors[1].path)
    assert.equal("wallet", answer.errors[2].path)
    tells_none(everything_of())
    d.dir:write("config.yaml", "a: 1\n")
    local checked = d:cli("check", "--schema", "config.schema.json", "config.yaml")
    assert.equal(0, checked.code)
    d.dir:write("config.yaml", "vault: { hunter2-key: 7 }\n")
    checked = d:cli("check", "--schema", "config.schema.json", "config.yaml", "--json")
    assert.equal("/vault", cjson.decode(checked.stdout).errors[1].pointer)
    tells_none(checked.output)
  end)

  it("is not shown by a reload hook that fails, logs or postpones", function()
    local d = start("nil", [[reload = function(txn)
      segue.log.warn "reloading with password ]] .. FIRST .. [["
      if segue.state.again then return txn:reject("not with ]] .. TOKEN .. [[") end
      segue.state.again = true
      txn:prepare() txn:commit()
    end]])
    d.dir:write("config.yaml", (config(FIRST):gsub("port: 1", "port: 2")))
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.equal("not with ***", answer.errors[1].message)
    shows_no_secret(everything(d))
  end)

  it("is not shown in events", function()
    local d = start([[function(next, prev)
      if prev then return nil, "no " .. next.db.password end
      return true
    end]])
    local c = http.connect { socket = d:socket() }
    c:write(http.format { path = "/api/v1/events" })
    d.dir:write("config.yaml", config(SECOND))
    d:reload()
    wait.until_true(function()
      return c.input:find('event: settled\ndata: [^\n]*"rejected"')
    end, nil, "the event")
    shows_no_secret(c.input)
    assert.matches("no %*%*%*", c.input)
  end)

  it("hides all values while the schema cannot be read", function()
    local d = start()
    d.dir:write("config.schema.json", '{"properties": 7}')
    d.dir:write("config.yaml", config(SECOND))
    local status, answer = d:reload()
    assert.equal(422, status)
    local detail = d:json("/api/v1/reloads/" .. answer.id)
    for _, change in ipairs(detail.changes) do assert.equal('"***"', change.to_text) end
    assert.is_true(#detail.changes > 0)
    shows_no_secret(everything(d))
  end)

  it("is a pattern of a path: an invalid one is refused with its line", function()
    local folder = segue.folder { files = { ["config.yaml"] = "a: 1" }, policy = [[
return {
  sources = { require "segue".file "config.yaml" },
  secrets = { "a..b" },
}]] }
    local p = folder:cli("check")
    assert.equal(3, p.code)
    assert.matches("reload%.lua:3: secrets: 'a%.%.b' is no pattern", p.stdout)
    folder.dir:write("reload.lua", "return { sources = {}, secretes = {} }")
    assert.matches('did you mean "secrets"', folder:cli("check").stdout)
    folder.dir:write("reload.lua", "return { sources = {}, secrets = 'x' }")
    assert.matches("secrets must be a list of texts, not", folder:cli("check").stdout)
  end)
end)

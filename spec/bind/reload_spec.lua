-- SPDX-License-Identifier: MIT
-- Policies under the engine: what a reload hook can do with its transaction, the policy's own
-- reload, and the errors as a caller sees them.
local C = require "spec.support.c"
local bind = require "spec.support.bind"

local b
before_each(function()
  b = bind.open()
  b:write("config.yaml", "port: 80\n")
end)
after_each(function()
  local open = b
  b = nil
  if open then open:close() end
end)

local function write(body)
  b:write("reload.lua", 'local segue = require "segue"\nreturn { '
    .. 'sources = { segue.file "config.yaml" },\n' .. body .. " }")
end
local function start(body)
  write(body)
  b:engine()
  return b:reload()
end
local function change(text)
  b:write("config.yaml", text)
  return b:reload()
end
local live = function()
  local snapshot = C.segue__publication_get(b.publication)
  return snapshot ~= nil and tonumber(C.segue_snapshot_generation(snapshot)) or 0
end

describe("a policy under the engine", function()
  it("applies a good configuration and keeps it when the next is refused", function()
    local first = start [[check = function(next)
      if next.port > 100 then return nil, "port is too high" end
      return true
    end]]
    assert.equal("applied", first.outcome)
    local second = change "port: 101\n"
    assert.equal("rejected", second.outcome)
    assert.equal("port is too high", second.errors[1].message)
    assert.equal(1, live())
    assert.equal("applied", change("port: 99\n").outcome)
    assert.equal(2, live())
  end)
  it("reports every problem that validation found", function()
    local result = start [[check = function(next)
      return segue.validate(next):required("host"):integer("port", { max = 10 })
        :string("port"):result()
    end]]
    assert.equal("rejected", result.outcome)
    local texts = {}
    for i, e in ipairs(result.errors) do
      texts[i] = ("%s:%d:%d: %s"):format(e.file, e.line, e.column, e.message)
    end
    assert.same({ "config.yaml:1:1: host is required",
      "config.yaml:1:7: port must be at most 10, not 80",
      "config.yaml:1:7: port must be a text, not an integer" }, texts)
  end)
  it("reports a bug of check with its line, and an endless loop", function()
    assert.equal("reload.lua:3: oops", start("check = function() error 'oops' end").errors[1].text)
  end)
  it("waits in check as long as it needs", function()
    assert.equal("applied", start("check = function() segue.sleep '3s' return true end").outcome)
  end)
  it("is rejected when its check takes too long", function()
    local result = start [[timeouts = { check = "1s" },
      check = function() segue.sleep '3s' return true end]]
    assert.equal("rejected", result.outcome)
    assert.truthy(result.errors[1].message:find("check", 1, true))
  end)
end)

describe("the policy's own reload", function()
  it("applies a changed policy, and keeps the old one when the new one is wrong", function()
    assert.equal("applied", start("check = function() return true end").outcome)
    write "check = function() return nil, 'new rules' end"
    local refused = b:reload()
    assert.equal("rejected", refused.outcome)
    assert.equal("new rules", refused.errors[1].message)
    write "chekc = 1"
    local wrong = b:reload()
    assert.equal("rejected", wrong.outcome)
    assert.equal('reload.lua:3: chekc is not a known key here: did you mean "check"?',
      wrong.errors[1].text)
    assert.equal(1, live())
    write "check = function(next, prev) return prev.port == 80 end"
    assert.equal("applied", change("port: 81\n").outcome)
    assert.equal(1, b:stats().states)
  end)
  it("notices a change of a module that it requires", function()
    b:write("rules.lua", "return { max = 100 }")
    b:write("reload.lua", [[local segue, rules = require "segue", require "rules"
      return { sources = { segue.file "config.yaml" }, check = function(next)
        if next.port > rules.max then return nil, "above " .. rules.max end
        return true
      end }]])
    b:engine()
    assert.equal("applied", b:reload().outcome)
    b:write("rules.lua", "return { max = 50 }")
    assert.equal("above 50", b:reload().errors[1].message)
  end)
end)

describe("the reload hook", function()
  it("drives the transaction, and gets its configuration and trigger", function()
    local result = start [[reload = function(txn)
      assert(txn.cause == "a spec" and txn.trigger == "http" and txn.id == 1 and txn.prev == nil)
      assert(txn.next.port == 80 and tostring(txn) == "transaction 1")
      assert(type(txn.plan) == "table" and #txn.plan == 0)
      assert(txn:prepare() and txn:commit() and txn:confirm())
    end]]
    assert.equal("applied", result.outcome)
    assert.equal(1, live())
  end)
  it("gets the changes", function()
    start [[reload = function(txn)
      if txn.prev then
        local paths = txn:changed()
        assert(#paths == 2, #paths)
        assert(txn:changed("a") and txn:changed("a.b") and txn:changed("port"))
        assert(not txn:changed("por") and not txn:changed("other"))
      end
      txn:prepare() txn:commit() txn:confirm()
    end]]
    local result = change "port: 81\na: { b: 1 }\n"
    assert.equal("applied", result.outcome, result.errors[1] and result.errors[1].text)
  end)
  it("may wait between the steps", function()
    assert.equal("applied", start([[reload = function(txn)
      txn:prepare() segue.sleep "5s" txn:commit()
    end]]).outcome)
  end)
  it("rejects", function()
    local result = start [[reload = function(txn) return txn:reject("not on Fridays") end]]
    assert.equal("rejected", result.outcome)
    assert.equal("not on Fridays", result.errors[1].message)
    assert.equal(0, live())
  end)
  it("defers, and the reload comes later", function()
    local result = start [[reload = function(txn)
      segue.state.times = (segue.state.times or 0) + 1
      if segue.state.times == 1 then return txn:defer("5s", "not yet") end
      txn:prepare() txn:commit()
    end]]
    assert.equal("SEGUE_EDEFERRED", C.name(result.status))
    assert.equal(0, live())
    b:advance(6000)
    assert.equal(1, live())
  end)
  it("that returns without commit is rejected for this reason", function()
    local result = start "reload = function(txn) txn:prepare() end"
    assert.equal("rejected", result.outcome)
    assert.matches("returned without txn:commit%(%)", result.errors[1].message)
    assert.equal(0, live())
  end)

  -- One rule for check and reload, before the commit: { body, outcome, code, message }.
  for _, case in ipairs {
    { "return nil, 'no'", "rejected", "SEGUE_EVETO", "^no$" },
    { "return false, 'no'", "rejected", "SEGUE_EVETO", "^no$" },
    { "return nil, 'down', 'ECONNREFUSED'", "failed", "ECONNREFUSED", "^down$" },
    { "return nil, 'slow', 'SEGUE_ETIMEOUT'", "failed", "ETIMEDOUT", "^slow$" },
    { "return nil, 'gone', 'SEGUE_EFROZEN'", "failed", "SEGUE_ESOURCE", "^gone$" },
    { "return nil, 'broken', 'SEGUE_ESYNTAX'", "rejected", "SEGUE_EVETO", "^broken$" },
    { "return nil, 'odd', 'not ours'", "rejected", "SEGUE_EPOLICY",
      "its third result must be the name of an error.*not a text of its own.*reason is: odd" },
    { "return nil, 'odd', 1", "rejected", "SEGUE_EPOLICY", "not a number.*reason is: odd" },
    { "return nil, 7", "rejected", "SEGUE_EPOLICY", "returned a number as its reason" },
    { "error 'oops'", "rejected", "SEGUE_EPOLICY", "^oops$" },
    { "error('m', 0)", "rejected", "SEGUE_EPOLICY", "^m$" },
  } do
    for _, hook in ipairs { "check", "reload" } do
      it("and check follow one rule: " .. hook .. " with " .. case[1], function()
        local result = start(hook .. " = function(txn) " .. case[1] .. " end")
        assert.equal(case[2], result.outcome)
        assert.equal(case[3], C.name(result.errors[1].code))
        assert.matches(case[4], result.errors[1].message)
        assert.equal(1, #result.errors)
        assert.equal(0, live())
      end)
    end
  end

  it("reports each problem of a list", function()
    local result = start [[reload = function(txn)
      return segue.validate(txn.next):required("host"):required("name"):result()
    end]]
    assert.equal("rejected", result.outcome)
    assert.equal("host is required", result.errors[1].message)
    assert.equal("name is required", result.errors[2].message)
  end)

  it("is tried again by itself after a failure of the system", function()
    local result = start [[reload = function(txn)
      segue.state.times = (segue.state.times or 0) + 1
      if segue.state.times == 1 then return nil, "it is down", "ECONNREFUSED" end
      txn:prepare() return txn:commit()
    end]]
    assert.equal("failed", result.outcome)
    b:advance(2000)
    assert.equal(1, live())
  end)

  it("may return the results of its steps", function()
    local result = start "reload = function(txn) txn:prepare() return txn:commit() end"
    assert.equal("applied", result.outcome)
  end)

  it("undoes the commit with a reason, with or without a code", function()
    start "reload = function(txn) txn:prepare() txn:commit() end"
    for _, more in ipairs { "", ", 'ECONNREFUSED'" } do
      write("reload = function(txn) txn:prepare() txn:commit() return nil, 'sick'" .. more
        .. " end")
      local result = change("port: 8" .. #more .. "\n")
      assert.equal("reverted", result.outcome)
      assert.equal("sick", result.errors[1].message)
      assert.equal(1, live())
    end
  end)

  it("that throws undoes its steps, and reports the line", function()
    assert.equal("applied", start("reload = function(txn) txn:prepare() txn:commit() "
      .. "if txn.prev then error 'second thoughts' end end").outcome)
    local result = change "port: 81\n"
    assert.equal("reverted", result.outcome)
    assert.equal("reload.lua:3: second thoughts", result.errors[1].text)
    local snapshot = C.segue__publication_get(b.publication)
    local port = C.new("int64_t[1]")
    C.segue_node_int(C.segue_node_get(C.segue_snapshot_root(snapshot), "port"), port)
    assert.equal(80, tonumber(port[0]))
  end)
  it("cannot keep its transaction", function()
    start [[reload = function(txn)
      if kept then
        local ok, why = pcall(kept.prepare, kept)
        assert(not ok and why:find("this transaction has ended", 1, true), why)
        assert(tostring(kept) == "transaction (over)")
      end
      kept = txn
      txn:prepare() txn:commit()
    end]]
    local result = change "port: 82\n"
    assert.equal("applied", result.outcome, result.errors[1] and result.errors[1].text)
  end)
  local misuses = {
    { "txn.nothing()", "txn has no 'nothing': it has prepare" },
    { "txn.x = 1", "txn cannot be changed" },
    { "txn:defer('later', 'x')", "txn:defer: the time must be a duration such as 500ms, 10s or" },
    { "txn:defer('1s')", "txn:defer: the reason must be a text" },
    { "table.sort({ 1, 2 }, function() txn:prepare() end)", "txn:prepare cannot wait here" },
    { "coroutine.wrap(function() txn:prepare() end)()", "txn:prepare cannot wait inside" },
    { "txn:commit()", "txn:commit() needs txn:prepare() before it" },
    { "txn:confirm()", "txn:confirm() needs txn:commit() before it" },
    { "txn:prepare() txn:prepare()", "txn:prepare() was called twice" },
    { "txn:prepare() txn:commit() txn:commit()", "txn:commit() was called twice", "reverted" },
    { "txn:prepare() txn:commit() txn:reject('too late')",
      "txn:reject() is for before txn:commit(): afterwards return nil and a reason", "reverted" },
    { "txn:prepare() txn:commit() txn:defer('1s', 'too late')",
      "txn:defer() is for before txn:commit()", "reverted" },
    { "txn:defer('1s', 'later') txn:reject('no')", "the reload was already put off" },
  }
  for _, case in ipairs(misuses) do
    it("throws at the line of " .. case[1], function()
      local result = start("reload = function(txn) " .. case[1] .. " end")
      assert.equal(case[3] or "rejected", result.outcome)
      local found = result.errors[#result.errors]
      assert.truthy(found.text:find(case[2], 1, true), found.text)
      assert.equal(3, found.line)
    end)
  end
  it("keeps the reason of each txn:reject", function()
    local result = start "reload = function(txn) txn:reject('no') txn:reject('and no') end"
    assert.equal("rejected", result.outcome)
    assert.equal("no", result.errors[1].message)
    assert.equal("and no", result.errors[2].message)
  end)
  it("cannot postpone a rejected reload", function()
    local result = start "reload = function(txn) txn:reject('no') txn:defer('1s', 'later') end"
    assert.equal("rejected", result.outcome)
    assert.matches("was already rejected", result.errors[2].message)
  end)
  it("is ended at its limit; no task is left waiting", function()
    local result = start [[timeouts = { reload = "2s" },
      reload = function(txn) txn:prepare() segue.sleep "1h" end]]
    assert.not_equal("applied", result.outcome)
    assert.equal(0, b:stats().tasks)
  end)
end)

describe("confirm", function()
  it("asks the probe until it is good", function()
    local result = start [[confirm = { within = "10s", probe = function()
      segue.state.asked = (segue.state.asked or 0) + 1
      if segue.state.asked < 4 then return nil, "warming up" end
      return true
    end }]]
    assert.equal("applied", result.outcome)
  end)
  it("undoes everything when the probe stays bad", function()
    start [[confirm = { within = "2s", probe = function()
      return segue.state.bad == nil, "sick"
    end }, check = function(next) segue.state.bad = next.port == 81 or nil return true end]]
    assert.equal(1, live())
    local result = change "port: 81\n"
    assert.equal("reverted", result.outcome)
    assert.truthy(result.errors[1].message:find("sick", 1, true), result.errors[1].text)
  end)
end)

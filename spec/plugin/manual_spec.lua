-- SPDX-License-Identifier: MIT
-- txn.module of a reload hook, in a daemon with a real module: its results and errors, and that
-- every gate is open in the end.
local cjson = require "cjson"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = {},
  modules = { log = { kind = "c", config = "log" }, stats = { kind = "c", config = "stats" } },
  reload = function(txn)
    if not txn.prev then return txn:prepare() and txn:commit() and txn:confirm() end
    %s
  end,
}
]]

describe("txn.module", function()
  after_each(segue.cleanup)

  -- The exit code and output of a reload whose hook does this, and the modules after it.
  local function reload(code)
    local daemon = segue.start { policy = policy:format(code),
      files = { ["config.yaml"] = "log: {file: one.log}\n" } }
    daemon.dir:write("config.yaml", "log: {file: one.log, level: warn}\n")
    local done = segue.cli({ "reload" }, { cwd = daemon.dir.path })
    local modules = cjson.decode(daemon:http { path = "/api/v1/modules",
      socket = daemon:socket() }.body)
    for _, module in ipairs(modules) do
      assert.same({ "open", "serving" }, { module.gate, module.state }, module.name)
    end
    return done.code, done.output, modules[1].generation
  end

  it("replaces a module before the others", function()
    local code, output, generation = reload [[assert(tostring(txn.module.log) == "module log")
      assert(txn:prepare()) assert(txn.module.log:drain { within = "1s" })
      assert(txn.module.log:replace()) assert(txn:commit()) txn:confirm()]]
    assert.equal(0, code, output)
    assert.equal(2, generation)
  end)

  it("leaves no gate shut by a hook that forgets it, or commits with it", function()
    local code, output, generation = reload "txn.module.log:shut() txn.module.stats:shut()"
    assert.equal(3, code, output)
    assert.equal(1, generation)
    assert.equal(0, (reload "txn.module.stats:shut() txn:prepare() txn:commit() txn:confirm()"))
  end)

  for code, wanted in pairs {
    ["txn.module.lgo:shut()"] = "there is no module 'lgo' in this reload: there are log, stats",
    ["txn.module.log:stop()"] = "txn.module.log has no 'stop': it has drain, restart, replace",
    ["txn.module.log.x = 1"] = "txn.module cannot be changed",
    ["txn.module.log:drain { whithin = 1 }"] = "whithin is not a known key here: did you mean",
    ["txn.module.log:drain { over = 'undone' }"] = 'drain: over must be "cut", "wait" or',
    ["txn.module.log:drain { again = 2 }"] = 'drain: again has an effect only with over = "wait"',
    ["txn.module.log:drain(5)"] = "drain needs a table: drain { within = \"2s\" }",
    ["txn.module.log:drain { within = 'x' }"] = "drain: within must be a duration such as 500ms",
    ["txn:prepare() assert(txn.module.log:restart())"] =
      "module 'log' is called by all threads at any time: it can only be swapped",
    ["txn.module.log:replace()"] = "module 'log' is not built yet: call txn:prepare()",
    ["local m = txn.module.log segue.state.m = nil txn:prepare() txn:commit() m:shut()"] =
      "txn.module is for before txn:commit()",
  } do
    it("reports a mistake: " .. code, function()
      local exit, output = reload(code)
      -- A bug of the policy rejects; after the commit there is something to undo.
      assert.equal(code:find("commit", 1, true) and 4 or 3, exit, output)
      assert.truthy(output:find(wanted, 1, true), output)
    end)
  end
end)

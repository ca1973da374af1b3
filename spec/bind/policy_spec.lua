-- SPDX-License-Identifier: MIT
-- reload.lua: what is taken over, what is refused, and how the refusal is worded.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"
local ffi = C.ffi

local head = 'local segue = require "segue"\n'
local b
local open = fresh(bind.open, function(opened) b = opened end)

local function returns(body) return head .. "return {\n" .. body .. "\n}\n" end
local function with(body) return returns("sources = { segue.value { a = 1 } },\n" .. body) end

describe("a policy", function()
  it("is converted field by field", function()
    b:write("defaults.json", "{}")
    local p = assert(b:load(returns [[
      name = "adserver",
      sources = {
        segue.value { listen = { port = 80 }, hosts = { "a", "b" } },
        segue.file("config.yaml", { optional = true, expand = "env" }),
        segue.dir("conf.d/*.yaml", { format = "json" }),
        segue.env { prefix = "APP_", separator = "_" },
      },
      triggers = { segue.signal "HUP", segue.watch { rescan = "5s" },
                   segue.http "127.0.0.1:7377", segue.poll(1.5) },
      debounce = { min = "10ms", max = "2s" }, min_interval = "1m30s",
      timeouts = { collect = "1s", check = "2s", reload = 3 },
      confirm = { hold = "1s", within = "4s", probe = function() return true end },
      check = function() return true end,
      reload = function(txn) txn:prepare() end,
      strategy = function() return "pull" end,
    ]]))
    assert.equal("adserver", ffi.string(p.name))
    assert.equal(4, tonumber(p.source_count))
    assert.equal("config.yaml", ffi.string(p.sources[1].path))
    assert.is_true(p.sources[1].optional)
    assert.is_true(p.sources[1].expand)
    assert.equal("conf.d/*.yaml", ffi.string(p.sources[2].path))
    assert.equal("dir", ffi.string(p.sources[2].kind.name))
    assert.equal(C.SEGUE__JSON, p.sources[2].format)
    assert.equal("APP_", ffi.string(p.sources[3].prefix))
    assert.equal("env APP_", ffi.string(p.sources[3].name))
    assert.equal(4, tonumber(p.trigger_count))
    assert.equal(1, p.triggers[0].signum)
    assert.equal(5000, tonumber(p.triggers[1].interval_ms))
    assert.equal("127.0.0.1:7377", ffi.string(p.triggers[2].address))
    assert.equal(1500, tonumber(p.triggers[3].interval_ms))
    assert.equal(10, tonumber(p.debounce_min_ms))
    assert.equal(2000, tonumber(p.debounce_max_ms))
    assert.equal(90000, tonumber(p.min_interval_ms))
    assert.equal(1000, tonumber(p.collect_ms))
    assert.equal(2000, tonumber(p.check_ms))
    assert.equal(3000, tonumber(p.reload_ms))
    assert.is_true(p.confirm)
    assert.equal(1000, tonumber(p.confirm_hold_ms))
    assert.equal(4000, tonumber(p.confirm_within_ms))
    assert.is_true(p.has_check and p.has_reload and p.has_probe)
  end)

  local function json(doc)
    local text = C.new("segue__buf[1]")
    C.segue__json_write(text, doc.root, 0)
    local written = C.buf(text[0])
    C.segue__buf_deinit(text)
    return written
  end

  it("builds the tree of segue.value, exact and with its position", function()
    local p = assert(b:load(returns [[
      sources = { segue.value {
        list = { 1, 2.5, "x", false }, empty = {}, big = segue.int("18446744073709551615"),
        none = segue.null, deep = { ["odd key"] = { n = -3 } } } }, ]]))
    local doc = p.sources[0].value
    assert.equal('{"big":18446744073709551615,"deep":{"odd key":{"n":-3}},"empty":{},'
      .. '"list":[1,2.5,"x",false],"none":null}', json(doc))
    assert.equal(3, doc.root.line)
    assert.equal("reload.lua", ffi.string(doc.name))
  end)

  it("keeps an empty list of segue.value that is marked or was decoded", function()
    local p = assert(b:load(returns [[
      sources = { segue.value {
        a = segue.array {}, b = segue.json.decode "[[], {}]", c = {} } }, ]]))
    assert.equal('{"a":[],"b":[[],{}],"c":{}}', json(p.sources[0].value))
  end)

  it("has the values that segue.value was called with", function()
    local p = assert(b:load(head .. [[
      local t = { list = { 1 }, map = { x = 1 } }
      local source = segue.value(t)
      t.list[2], t.map.x, t.map.y, t.late = print, 2, 3, true
      return { sources = { source } }]]))
    assert.equal('{"list":[1],"map":{"x":1}}', json(p.sources[0].value))
  end)

  it("refuses a source of segue.value that was changed into what is no data", function()
    local e = b:refused(head .. [[
      local source = segue.value { a = { b = 1 } }
      source.value.a.b = print
      return { sources = { source } }]])
    assert.equal("SEGUE_ETYPE", e.name, e.text)
    assert.equal("a value in it is a function: plain data only", e.message)
    assert.is_nil(e.text:find("a.b", 1, true)) -- it may be below a secret
    assert.equal("reload.lua", e.file)
  end)

  it("has paths from its own folder", function()
    local p = assert(b:load(returns 'sources = { segue.file "c.yaml", segue.file "/abs.yaml" }',
      "etc/app/reload.lua"))
    assert.equal("etc/app/c.yaml", ffi.string(p.sources[0].path))
    assert.equal("/abs.yaml", ffi.string(p.sources[1].path))
    assert.equal("etc/app/reload.lua", ffi.string(p.inputs[0].path))
  end)

  it("names the modules that it requires as inputs, with the hash of their bytes", function()
    b:write("checks/ports.lua", "return { limit = 10 }")
    local p = assert(b:load('local ports = require "checks.ports"\n'
      .. with "check = function() return ports.limit == 10 end"))
    assert.equal(2, tonumber(p.input_count))
    assert.equal("checks/ports.lua", ffi.string(p.inputs[1].path))
    local zero = C.new("segue__hash")
    local text = "return { limit = 10 }"
    assert.is_true(C.segue__hash_equal(C.segue__hash_bytes(text, #text, zero), p.inputs[1].hash))
  end)
end)

describe("a policy that is not one", function()
  local cases = {
    { "has a syntax error", "return {\n  x = = 1 }", "unexpected symbol near '='", 2 },
    { "returns nothing", "local x = 1", "the policy returns nothing" },
    { "returns nil", "return nil", "the policy returns nothing" },
    { "returns a text", "return 'x'", "returns a string instead of a table" },
    { "returns an empty table", "return {}", "empty table" },
    { "is empty", "", "the policy returns nothing" },
    { "throws", "\nerror('no luck')", "no luck", 2 },
    { "throws a table", "\nerror({ code = 1 })", "error() was called with a table", 2 },
    { "throws a table with a message", "error({ message = 'as a table' })", "as a table", 1 },
    { "throws nil", "\n\nerror(nil)", "error() was called with nil", 3 },
    { "is bytecode", string.dump(function() return {} end), "bytecode" },
    { "calls a nil", "local x\nx()", "attempt to call local 'x'", 2 },
    { "recurses without end", "local function f() return 1 + f() end\nf()", "stack overflow", 1 },
    { "has no sources", "return { name = 'x' }", "sources is missing" },
    { "has an empty list of sources", "return {\nsources = {} }",
      'sources must not be empty: sources = { segue.file "config.yaml" }', 2 },
    { "waits while it is loaded", head .. "segue.sleep(1)", "cannot wait while it is being loaded",
      2 },
    { "uses a source that does not exist", head .. "\nreturn { sources = { segue.etcd {} } }",
      "there is no segue.etcd in this version: ", 3 },
    { "requires a module that is not there", "\nrequire 'nothing.here'",
      "module 'nothing.here' not found: there is no nothing/here.lua", 2 },
    { "requires what leads out of its folder", "require '../secrets'", "a module's name", 1 },
    { "allows no age of the last good generation", head .. "local max_age = 1\nreturn {\n"
      .. "sources = { segue.file 'a' },\nlast_good = {\nmax_age = '0s' } }",
      'last_good.max_age must be longer than 0, not "0s"', 6 },
    { "limits the failures of an operator", head .. "return { sources = { segue.file 'a' },\n"
      .. "confirm = { by = 'operator', failures = 3 } }",
        'confirm.failures has no effect with by = "operator", where no probe is asked: leave', 3 },
    { "has failures that are no number", head .. "return { sources = { segue.file 'a' },\n"
      .. "confirm = { probe = print, failures = 0.5 } }", "failures", 3 },
    { "requires a library module that is not there", "require 'segue.nothing'",
      "there is no module 'segue.nothing'", 1 },
  }
  for _, case in ipairs(cases) do
    it("that " .. case[1] .. " is refused with a clear sentence", function()
      local e = b:refused(case[2])
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal("reload.lua", e.file)
      if case[4] then assert.equal(case[4], e.line) end
      assert.equal(C.SEGUE_EPOLICY, e.code)
    end)
  end

  it("is missing: the error names the file", function()
    local policy, errs = b:load(nil, "nowhere.lua")
    assert.is_nil(policy)
    assert.truthy(errs[1].text:find("nowhere.lua", 1, true))
  end)

  it("has a module with an error: the error names the module's line", function()
    b:write("part.lua", "\nlocal x = = 1")
    local e = b:refused('require "part"')
    assert.equal("part.lua", e.file)
    assert.equal(2, e.line)
  end)

  it("has modules that require each other: the error names them", function()
    b:write("a.lua", 'return require "b"')
    b:write("b.lua", 'return require "a"')
    assert.truthy(b:refused('require "a"').message:find("requires itself", 1, true))
  end)

  it("keeps the full name of a long path", function()
    local path = ("folder/"):rep(12) .. "reload.lua"
    local _, errs = b:load("\nlocal x = nil + 1", path)
    assert.equal(path, errs[1].file)
    assert.equal(2, errs[1].line)
    _, errs = b:load("\nreturn = 1", path)
    assert.equal(path, errs[1].file)
  end)
end)

describe("a constructor", function()
  local cases = {
    { "segue.file {}", 'segue.file: path is missing: "config.yaml"' },
    { "segue.file ''", "segue.file: path must not be empty" },
    { "segue.file('x', { formt = 'yaml' })", "segue.file: formt is not a known key here: did" },
    { "segue.file('x', { format = 'toml' })",
      'segue.file: format must be "yaml", "json" or "text", not "toml"' },
    { "segue.dir('x/*.{a')", "segue.dir: path is a wrong pattern: a '{' has no '}'" },
    { "segue.file('x', { empty = true })", "empty must be" },
    { "segue.file('x', { expand = true })", "expand must be" },
    { "segue.dir('*.x', { guard = { min_item = 1 } })", "segue.dir: guard.min_item is not a" },
    { "segue.text('x', { format = 'json' })", "format" },
    { "segue.file('x', { expand = 'all' })", 'expand must be "env"' },
    { "segue.file('x', 'y')", "options must be a table, not a string" },
    { "segue.dir 'conf.d'", "segue.dir: path must have a pattern in its last part, such as" },
    { "segue.env {}", "prefix is missing" },
    { "segue.value(1)", "its argument must be a table" },
    { "segue.value { 1, 2 }", "needs a map" },
    { "segue.value { a = { [1] = 1, b = 2 } }", "a is neither a list" },
    { "segue.value { a = { b = print } }", "a.b is a function: plain data only" },
    { "segue.signal 'KILL'", 'segue.signal: signal must be "HUP", "USR1", "USR2" or "WINCH",' },
    { "segue.signal('HUP', 'restart')", 'segue.signal: action must be "reload" or "reopen", not' },
    { "segue.http 'localhost'", 'segue.http: address must be "127.0.0.1:7377", "[::1]:7377" or' },
    { "segue.http '127.0.0.1:99999'", 'segue.http: address must be "127.0.0.1:7377",' },
    { "segue.http(nil)", 'segue.http: address is missing: "127.0.0.1:7377", "[::1]:7377" or' },
    { "segue.http {}", 'segue.http: address is missing: "127.0.0.1:7377", "[::1]:7377" or' },
    { "segue.http { 'nowhere' }", 'segue.http: address must be "127.0.0.1:7377", "[::1]:7377"' },
    { "segue.http { '[::1]:1', token = {} }", "segue.http: token is not a known key here: did" },
    { "segue.http { '[::1]:1', tokens = {} }", "segue.http: tokens must not be empty: tokens =" },
    { "segue.http { '[::1]:1', tokens = { 'a' } }", "segue.http: tokens[1] must be a table, not" },
    { "segue.http { '[::1]:1', tokens = { { file = 'a' } } }",
      'segue.http: tokens[1].role is missing: role = "read"' },
    { "segue.http { '[::1]:1', tokens = { { role = 'read' } } }",
      'segue.http: tokens[1].file is missing: file = "ops.token"' },
    { "segue.http { '[::1]:1', tokens = { { file = 'a', role = 'root' } } }",
      'segue.http: tokens[1].role must be "read" or "operate", not "root"' },
    { "segue.http { '[::1]:1', tokens = { { file = 'a', rolle = 'read' } } }",
      'segue.http: tokens[1].rolle is not a known key here: did you mean "role"?' },
    { "segue.http { '[::1]:1', tls = { cert = 'a' } }", "segue.http: tls.key is missing: key =" },
    { "segue.http { '[::1]:1', tls = { key = 'a' } }", "segue.http: tls.cert is missing: cert =" },
    { "segue.http { '[::1]:1', tls = { cret = 'a' } }", "segue.http: tls.cret is not a known" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client = 'optional' } }",
      "segue.http: tls.client has an effect only with client_ca, the CA that signs clients" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read' } } } }", "segue.http: tls.clients[1] has no name: give one of" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read', cn = 'a', dns = 'b' } } } }", "segue.http: tls.clients[1].dns is a" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read', name = 'a@b' } } } }", "segue.http: tls.clients[1].name is a mail" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read', name = 'spiffe://a' } } } }", "segue.http: tls.clients[1].name is" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read', dns = 'a*.b' } } } }", "segue.http: tls.clients[1].dns must have" },
    { "segue.http { '[::1]:1', tls = { cert = 'a', key = 'b', client_ca = 'c', clients = "
      .. "{ { role = 'read', uri = 'spiffe://*' } } } }", "is compared as it is" },
    { "segue.http { '[::1]:1', public = { 'metric' } }",
      'segue.http: public[1] must be "health" or "metrics", not "metric"' },
    { "segue.http { '[::1]:1', hosts = { 'http://a' } }",
      'segue.http: hosts must be host names without scheme, port and slashes, not "http://a"' },
    { "segue.http { '[::1]:1', rate = '10' }", "segue.http: rate must be a rate such as 10/s," },
    { "segue.http { '[::1]:1', rate = '0/s' }", "segue.http: rate must be a rate such as 10/s," },
    { "segue.http { '[::1]:1', burst = 5 }", "burst has an effect only with rate" },
    { "segue.http { '[::1]:1', mode = '0660' }", "mode is for unix sockets" },
    { "segue.http { '[::1]:1', others = 'read' }", "others is for unix sockets" },
    { "segue.http { 'unix:/run/x', mode = 'rw' }", "segue.http: mode must be permissions such" },
    { "segue.http { 'unix:/run/x', tls = { cert = 'a', key = 'b' } }", "tls is for TCP" },
    { "segue.poll 'x'", "segue.poll: interval must be a duration such as 500ms, 10s or 1h30m," },
    { "segue.poll '1ms'", "must be at least" },
    { "segue.probe.call(1)", "must be a function" },
    { "segue.probe.http 'x'", "segue.probe.http: url must be a URL such as" },
    { "segue.probe.htpt 'x'", "there is no segue.probe.htpt in this version" },
    { "segue.fiel 'x'", 'there is no segue.fiel in this version: did you mean "file"?' },
    { "segue.run { 'ls' }", "segue.run waits, and a policy cannot wait while it is being loaded" },
  }
  for _, case in ipairs(cases) do
    it("refuses " .. case[1] .. " at its caller's line", function()
      local e = b:refused(head .. "\n\nlocal x = " .. case[1])
      assert.truthy(e.message:find(case[2], 1, true), e.text)
      assert.equal(4, e.line)
      assert.equal("reload.lua", e.file)
    end)
  end

  it("refuses a value that contains itself", function()
    local e = b:refused(head .. "local t = {}\nt.t = t\nreturn { sources = { segue.value(t) } }")
    assert.truthy(e.message:find("contains itself", 1, true))
    assert.equal(4, e.line)
  end)
end)

describe("modules of a policy", function()
  it("have the drain options: time limit, and the action when it has passed", function()
    open { modules = { { "m", C.new("segue_module_ops"), nil } } }
    local function drain(text, replace)
      return b:load(with(('modules = { m = { kind = "c", replace = "%s",\ndrain = %s } }'):format(
        replace or "restart", text)))
    end
    for text, wanted in pairs {
      ["2"] = { 2000, C.SEGUE__OVER_CUT, 3 }, ["'0s'"] = { 1, C.SEGUE__OVER_CUT, 3 },
      ["{}"] = { 10000, C.SEGUE__OVER_CUT, 3 },
      ["{ within = '5s', over = 'cut' }"] = { 5000, C.SEGUE__OVER_CUT, 3 },
      ["{ over = 'wait' }"] = { 10000, C.SEGUE__OVER_WAIT, 3 },
      ["{ within = '1s', over = 'wait', again = 7 }"] = { 1000, C.SEGUE__OVER_WAIT, 7 },
      ["{ within = '1s', over = 'undo' }"] = { 1000, C.SEGUE__OVER_UNDO, 3 },
    } do
      local how = assert(drain(text)).modules[0].drain
      assert.same(wanted, { tonumber(how.within_ms), how.over, tonumber(how.again) }, text)
    end
    for text, wanted in pairs {
      ["'soon'"] = "modules.m.drain must be a duration such as 500ms, 10s or 1h30m or a table",
      ["{ within = 'soon' }"] = "modules.m.drain.within must be a duration such as 500ms",
      ["{ witin = 1 }"] = 'modules.m.drain.witin is not a known key here: did you mean "within"?',
      ["{ over = 'kill' }"] = 'modules.m.drain.over must be "cut", "wait" or "undo", not "kill"',
      ["{ again = 2 }"] = 'modules.m.drain.again has an effect only with over = "wait"',
      ["{ over = 'wait', again = 0 }"] = "modules.m.drain.again must be between 1 and 1000, not 0",
      ["{ over = 'wait', again = 1001 }"] = "drain.again must be between 1 and 1000, not 1001",
      ["true"] = "modules.m.drain must be a duration such as 500ms, 10s or 1h30m or a table",
    } do
      local policy, errs = drain(text)
      assert.is_nil(policy, text)
      assert.truthy(errs[1].message:find(wanted, 1, true), errs[1].message)
      assert.equal(5, errs[1].line, text)
    end
    for _, replace in ipairs { "handover", "swap" } do
      local _, errs = drain("{ over = 'undo' }", replace)
      assert.truthy(errs[1].message:find('drain.over "undo" is for replace = "restart"', 1, true))
    end
  end)

  it("are resolved by name or plugin, with all their options", function()
    local ops = C.new("segue_module_ops")
    open { modules = { { "log", ops, nil }, { "bid", ops, nil } } }
    local p = assert(b:load(with [[modules = {
      second = { kind = "c", plugin = "bid", replace = "restart", config = "x.y", needs = { "log" },
                 prepare = "1s", start = "2s", drain = "3s", stop = "4s",
                 buffer = { items = 5, bytes = 6, age = "7s" },
                 listen = { "http://127.0.0.1:1", "http://127.0.0.1:2" }, generation_header = true,
                 limits = { head = "1KiB", body = 2, connections = 3, head_time = "4s",
                            body_time = "5s", idle = "6s", write = "7s" } },
      log = { kind = "c", listen = "http://127.0.0.1:3" } }, threads = 8, ]]))
    assert.equal(8, tonumber(p.threads))
    assert.equal(2, tonumber(p.module_count))
    local log, second = p.modules[0], p.modules[1]
    assert.equal("log", ffi.string(log.name))
    assert.equal(C.SEGUE__HANDOVER, log.replace)
    assert.is_true(log.ops == ops)
    assert.equal("second", ffi.string(second.name))
    assert.equal(C.SEGUE__RESTART, second.replace)
    assert.equal("x.y", ffi.string(second.config))
    assert.equal(1, tonumber(second.needs_count))
    assert.equal("log", ffi.string(second.needs[0]))
    assert.same({ 5, 6, 7000 }, { tonumber(second.buffer.items), tonumber(second.buffer.bytes),
      tonumber(second.buffer.age_ms) })
    local listen = second.listen
    assert.same({ 2, "http://127.0.0.1:1", "http://127.0.0.1:2", true }, {
      tonumber(listen.url_count), ffi.string(listen.urls[0]), ffi.string(listen.urls[1]),
      listen.generation_header })
    assert.same({ 1024, 2, 3, 4000, 5000, 6000, 7000 }, { tonumber(listen.head_bytes),
      tonumber(listen.body_bytes), tonumber(listen.connections), tonumber(listen.head_ms),
      tonumber(listen.body_ms), tonumber(listen.idle_ms), tonumber(listen.write_ms) })
    assert.equal("reload.lua", ffi.string(listen.file):match("[^/]+$"))
    assert.same({ 1, false, 0 }, { tonumber(log.listen.url_count), log.listen.generation_header,
      tonumber(log.listen.body_bytes) })
    assert.same({ 1000, 2000, 3000, 4000 }, { tonumber(second.prepare_ms),
      tonumber(second.start_ms), tonumber(second.drain.within_ms), tonumber(second.stop_ms) })
  end)
end)

describe("loading", function()
  local function survives(step)
    local text = returns [[ sources = { segue.file "a.yaml", segue.value { a = { 1, 2 } } },
      triggers = { segue.signal "HUP", segue.http "127.0.0.1:1" },
      check = function() return true end ]]
    b:write("reload.lua", text)
    local n, failed = 1, 0
    while true do
      C.segue__mem_fail_at(n)
      local policy = b:load(nil)
      C.segue__mem_fail_at(0)
      if policy then b:unload(policy) else failed = failed + 1 end
      if policy and n > 200 and failed < n - 100 then break end
      n = n + (n < 60 and 1 or step)
      if n > 12000 then break end
    end
    assert.is_true(failed > 60)
  end
  it("survives allocations that fail, and reports them", function() survives(101) end)
  it("survives allocations that fail at many more places #long", function() survives(7) end)
end)

-- SPDX-License-Identifier: MIT
-- segue.etcd against etcd: the contract of all sources, users and their rights, pages and large
-- changes, compaction, several prefixes in one transaction.
local certificates = require "spec.support.certificates"
local contract = require "spec.support.source_contract"
local etcd_server = require "spec.support.etcd_server"
local port = require "spec.support.port"
local new_relay = require("spec.support.relay").new
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local short = 'timeout = "3s", silence = "3s", retry = { min = "100ms", max = "300ms" }'

-- A store of the contract: keys below /c/.
local function store_of(dir)
  local etcd = etcd_server.new(dir)
  local put, delete = etcd.put, etcd.delete
  function etcd:put(key, value) return put(self, "/c/" .. key, value) end
  function etcd:delete(key) delete(self, "/c/" .. key) end
  function etcd:all() return self:below "/c/" end
  return etcd
end

contract { name = "etcd", new = store_of, source = function(_, port_of_relay)
  return ([[segue.etcd { endpoints = { "http://127.0.0.1:%d" }, prefix = "/c/", values = "text",
    safety = "5s", %s }]]):format(port_of_relay, short)
end }

local etcd, d

local function start(source)
  d = segue.start { policy = ([[
local segue = require "segue"
return { sources = { %s }, triggers = { segue.signal "HUP" }, debounce = { min = 0 } }
]]):format(source:gsub("@URL@", etcd:url())) }
  return d
end

describe("segue.etcd", function()
  before_each(function() etcd = etcd_server.new(tempdir.new()):start() end)
  after_each(function()
    if d then d:stop() end -- with its watch open
    d = nil
    segue.cleanup()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("reads many keys in pages, and large changes in fragments", function()
    local value = ("x"):rep(1000)
    local changes, n = {}, 0
    for i = 1, 6100 do
      changes[("/m/%05d"):format(i)] = value
      n = n + 1
      if n == 100 then
        etcd:txn(changes)
        changes, n = {}, 0
      end
    end
    start('segue.etcd { endpoints = { "@URL@" }, prefix = "/m/", ' .. short .. " }")
    local function count(config)
      local keys = 0
      for _ in pairs(config) do keys = keys + 1 end
      return keys
    end
    assert.equal(6100, count(d:config()))
    for i = 1, 20 do changes[("/m/big%d"):format(i)] = ("y"):rep(60000) end
    etcd:txn(changes)
    d:wait_config(function(config) return count(config) == 6120 end, 60000)
  end)

  it("shows the keys of several prefixes, and of one transaction at once", function()
    etcd:txn { ["/a/n"] = "0", ["/b/n"] = "0", ["/one"] = "k: 7" }
    start('segue.etcd { endpoints = { "@URL@" }, prefixes = { ["/a/"] = "a", ["/b/"] = "b" }, '
      .. 'keys = { ["/one"] = "doc" }, ' .. short .. " }")
    assert.same({ a = { n = 0 }, b = { n = 0 }, doc = { k = 7 } }, d:config())
    for i = 1, 30 do etcd:txn { ["/a/n"] = tostring(i), ["/b/n"] = tostring(i) } end
    d:wait_config(function(config)
      assert.equal(config.a.n, config.b.n)
      return config.a.n == 30
    end, 60000)
  end)

  it("reads everything where the revisions that it needs were compacted", function()
    etcd:put("/a/x", "1")
    local relay = new_relay(etcd.port)
    start(('segue.etcd { endpoints = { "http://127.0.0.1:%d" }, prefix = "/a/", %s }'):format(
      relay.port, short))
    relay:cut(true)
    local last
    for i = 1, 10 do last = etcd:put("/a/x", tostring(i)) end
    etcd:compact(last)
    relay:open()
    d:wait_config(function(config) return config.x == 10 end, 60000)
    etcd:put("/a/x", "11")
    d:wait_config(function(config) return config.x == 11 end, 60000)
    d:stop()
    relay:close()
  end)

  it("logs in, again where its token or its password was replaced, and names a missing right",
    function()
    etcd:put("/a/x", "1")
    etcd:put("/b/x", "1")
    etcd:authenticate("ro", "first", "/a/")
    local dir = tempdir.new()
    dir:write("password", "first\n")
    start(([[segue.etcd { endpoints = { "@URL@" }, prefix = "/a/", user = "ro",
      password = { file = "%s" }, %s }]]):format(dir:at "password", short))
    assert.equal(1, d:config().x)
    -- The tokens of a member are lost with it.
    etcd:kill()
    etcd:start()
    etcd:login()
    etcd:put("/a/x", "2")
    d:wait_config(function(config) return config.x == 2 end, 60000)
    -- A password that was changed: the file has it, too.
    etcd:ask("/v3/auth/user/changepw", { name = "ro", password = "second" })
    dir:write("password", "second\n")
    etcd:kill()
    etcd:start()
    etcd:login()
    etcd:put("/a/x", "3")
    d:wait_config(function(config) return config.x == 3 end, 60000)
    d:stop()
    start(([[segue.value { y = 1 }, segue.etcd { endpoints = { "@URL@" }, prefix = "/b/",
      user = "ro", password = "second", optional = true, guard = {}, %s }]]):format(short))
    d:wait_log("etcdctl role grant%-permission ROLE %-%-prefix=true read", 60000)
    assert.same({ y = 1 }, d:config())
  end)

  it("uses another endpoint where one is dead, and files of TLS that were replaced", function()
    local function certificate(name)
      local ca = certificates.authority(etcd.dir, name)
      local server = ca:issue { name = name .. "-server", san = "IP:127.0.0.1" }
      local own = ca:issue { name = name .. "-own" }
      etcd.dir:write("ca", ca.cert_text)
      etcd.dir:write("cert", own.cert_text)
      etcd.dir:write("key", own.key_text)
      etcd.tls = { cert = server.cert, key = server.key, ca = ca.cert }
    end
    certificate "one"
    etcd:kill()
    etcd:start()
    etcd:put("/a/x", "1")
    start(([[segue.etcd { endpoints = { "http://127.0.0.1:%d", "https://127.0.0.1:%d" },
      prefix = "/a/", tls = { ca = "%s", cert = "%s", key = "%s" }, %s }]]):format(port.free(),
      etcd.tls_port, etcd.dir:at "ca", etcd.dir:at "cert", etcd.dir:at "key", short))
    assert.equal(1, d:config().x)
    etcd:put("/a/x", "2")
    d:wait_config(function(config) return config.x == 2 end, 60000)
    certificate "two"
    etcd:kill()
    etcd:start()
    etcd:put("/a/x", "3")
    d:wait_config(function(config) return config.x == 3 end, 60000)
  end)

  it("refuses options that cannot be meant", function()
    for _, case in ipairs {
      { "", "endpoints must be a list of URLs" },
      { 'endpoints = { "http://h:1" }, user = "a", prefix = "/"',
        "user and password belong together" },
      { 'endpoints = { "http://h:1" }, user = "a", password = 1, prefix = "/"',
        'password must be a text, { file = "path" } or { env = "NAME" }' },
      { 'endpoints = { "http://h:1" }, prefix = "/", tmeout = 1', "tmeout is not a known key" },
      { 'endpoints = { "http://h:1" }', "prefix" },
    } do
      local dir = tempdir.new()
      local path = dir:write("reload.lua", ([[local segue = require "segue"
return { sources = { segue.etcd { %s } } }]]):format(case[1]))
      local result = segue.cli { "check", "-c", path }
      assert.not_equal(0, result.code)
      assert.matches(case[2], result.output, 1, true)
    end
  end)
end)

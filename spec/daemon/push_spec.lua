-- SPDX-License-Identifier: MIT
-- A source that pushes, in the daemon: written in a policy against a server that holds a request
-- open and sends a line for each change, as etcd and Kubernetes do.
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

-- A key-value server: GET /get answers what there is, GET /watch sends it again with each change.
local Store = {}
Store.__index = Store

local function store()
  local self = setmetatable({ n = 1, watchers = {}, most = 0, fetches = 0 }, Store)
  self.web = web.serve(function(request, client)
    if self.broken then return client:write(web.answer("", { status = "503 Busy" })) end
    if request.path == "/get" then
      self.fetches = self.fetches + 1
      return client:write(web.answer(tostring(self.n), { headers = "X-Index: " .. self.n
        .. "\r\n" }))
    end
    if self.no_watch then return web.reset(client) end
    client:write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    self.watchers[client] = true
    self.most = math.max(self.most, self:count())
  end)
  return self
end

function Store:count()
  local n = 0
  for client in pairs(self.watchers) do
    if client:is_closing() then self.watchers[client] = nil else n = n + 1 end
  end
  return n
end

function Store:set(n)
  self.n = n
  for client in pairs(self.watchers) do
    if not client:is_closing() then client:write(n .. "\n") end
  end
end

function Store:cut()
  for client in pairs(self.watchers) do web.close(client) end
  self.watchers = {}
end

local function policy(s, more, version)
  return ([[
    local segue = require "segue"
    -- version %s
    local base = "%s"
    local kv = segue.source {
      name = "kv",
      options = { base = base },
      retry = { min = "20ms", max = "100ms" },
      fetch = function(self)
        local answer, why, code = segue.fetch { url = self.options.base .. "/get", timeout = "2s" }
        if not answer then return nil, why, code end
        if answer.status ~= 200 then return nil, "the store answers " .. answer.status end
        return { n = tonumber(answer.body) }, answer.headers["x-index"]
      end,
      watch = function(self, emit)
        local answer, why, code = segue.fetch { url = self.options.base .. "/watch", timeout = 0,
          on_chunk = function(chunk)
            local n = tonumber(chunk:match("(%%d+)\n$"))
            if n then emit({ n = n }, tostring(n)) end
          end }
        if not answer then return nil, why, code end
      end,
    }
    return {
      sources = { segue.file "config.yaml", kv },
      triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
      debounce = { min = "5ms" },
      %s
    }]]):format(version or "1", s.web.url, more or "")
end

local function source(d)
  for _, one in ipairs(d:json("/api/v1/sources")) do
    if one.name == "kv" then return one end
  end
end

local function start(s, more)
  local d = segue.start { files = { ["config.yaml"] = "x: 1\n" }, policy = policy(s, more) }
  return d
end

local function wait_watched(s)
  wait.until_true(function() return s:count() == 1 end, nil, "a watch")
end

describe("a source that pushes to the daemon", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  it("reloads with each push, and is not fetched meanwhile", function()
    local s = store()
    local d = start(s)
    wait_watched(s)
    wait.until_true(function() return s.fetches == 2 end, nil, "the fetch after the watch began")
    for n = 2, 20 do
      s:set(n)
      d:wait_config(function(c) return c.n == n end)
    end
    assert.equal(2, s.fetches)
    local one = source(d)
    assert.equal("push", one.strategy)
    assert.equal("watching", one.activity)
    assert.equal("20", one.revision)
    assert.is_true(one.next_pull_s > 200)
    assert.truthy(d:http("/metrics").body:find('segue_source_push{source="kv"} 1', 1, true))
    assert.truthy(d:http("/metrics").body:find('segue_triggers_total{trigger="push"} [1-9]'))
    d:stop()
  end)

  it("is pulled when the watch is cut, misses no change, and pushes again later", function()
    local s = store()
    local d = start(s)
    wait_watched(s)
    s.no_watch = true
    s:cut()
    s.n = 7
    d:wait_config(function(c) return c.n == 7 end)
    wait.until_true(function() return source(d).watch_failures > 1 end, nil, "failing watches")
    assert.is_true(source(d).up)
    s.no_watch = false
    wait_watched(s)
    s:set(8)
    d:wait_config(function(c) return c.n == 8 end)
    wait.until_true(function() return source(d).watch_failures == 0 end, nil, "a proven watch")
    assert.equal(1, s.most)
    d:stop()
  end)

  it("keeps its last delivery while it is away, and returns by itself", function()
    local s = store()
    local d = start(s)
    wait_watched(s)
    s.broken = true
    s:cut()
    wait.until_true(function() return source(d).held end, nil, "what is held")
    d.dir:write("config.yaml", "x: 2\n")
    d:wait_config(function(c) return c.x == 2 and c.n == 1 end)
    s.broken = false
    s.n = 3
    d:wait_config(function(c) return c.n == 3 end)
    d:stop()
  end)

  it("is watched once, whatever changes the policy", function()
    local s = store()
    local d = start(s)
    wait_watched(s)
    for version = 2, 5 do
      d.dir:write("reload.lua", d:fill(policy(s, "", version)))
      assert.equal("applied", select(2, d:reload()).outcome)
      wait_watched(s)
      s:set(version * 10)
      d:wait_config(function(c) return c.n == version * 10 end)
    end
    d.dir:write("reload.lua", d:fill(policy(s, "check = function() return nil, 'no' end", 6)))
    assert.equal("rejected", select(2, d:reload()).outcome)
    assert.equal(1, s:count())
    d.dir:write("reload.lua", d:fill(policy(s, "", 5)))
    s:set(99)
    d:wait_config(function(c) return c.n == 99 end)
    assert.is_true(s.most <= 2) -- the old connection may close a little after the new one opened
    d:stop()
  end)

  it("is pulled or pushes as the policy's strategy decides for its health", function()
    local s = store()
    local d = start(s, [[strategy = function(source)
      return source.can_push and source.failures < 2 and "push" or "pull"
    end,]])
    wait_watched(s)
    s.no_watch = true
    s:cut()
    d:wait_log("is pulled now.*source=kv")
    s.no_watch = false
    -- It may push again by now: only the log after the switch to polling counts.
    d:wait_log("pushes now.*source=kv", nil, d:log():find("is pulled now", 1, true))
    wait_watched(s)
    s:set(5)
    d:wait_config(function(c) return c.n == 5 end)
    d:stop()
  end)
end)

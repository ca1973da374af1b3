-- SPDX-License-Identifier: MIT
-- Pages of a large configuration are written beside the event loop, also if clients leave or the
-- daemon stops meanwhile.
local cjson = require "cjson"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return { sources = { segue.file "config.yaml" }, triggers = { segue.http "127.0.0.1:@PORT@" } }
]]

local function text(n, last)
  local lines = {}
  for i = 1, n do lines[i] = ("key%d: { a: %d, b: some text, c: [1, 2, 3] }\n"):format(i, i) end
  return table.concat(lines) .. "last: " .. last .. "\n"
end

local function start(env)
  return segue.start { policy = policy, files = { ["config.yaml"] = text(20000, 1) }, env = env }
end

local function ask(path)
  return "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"
end

-- A text of this length, and as many aliases of it.
local function aliases(length, count)
  return ("a: &a " .. ("x"):rep(length) .. "\nlist: [" .. ("*a, "):rep(count) .. "]\nlast: 1\n")
end

describe("a configuration that is much longer when it is written out", function()
  after_each(segue.cleanup)

  it("does not go live if a document would be gigabytes", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = text(1, 1) } }
    d.dir:save("config.yaml", aliases(2^20, 20000))
    local status, answer = d:reload()
    assert.equal(422, status)
    local message = answer.errors[1].message
    assert.truthy(message:find("more than 128 MiB of text", 1, true), message)
  end)

  it("is answered up to 64 MiB, and refused past that, in little memory", function()
    local d = segue.start { policy = [[
local segue = require "segue"
return { sources = { segue.dir "conf.d/*.yaml" }, triggers = { segue.http "127.0.0.1:@PORT@" } }
]], files = { ["conf.d/1.yaml"] = "one:\n  " .. aliases(2^17, 450):gsub("\n(.)", "\n  %1"),
      ["conf.d/2.yaml"] = "two:\n  " .. aliases(2^17, 450):gsub("\n(.)", "\n  %1") } }
    local r = d:http { path = "/api/v1/config", deadline_ms = 60000 }
    assert.equal(400, r.status)
    assert.truthy(r.body:find("would be longer than 64 MiB: ask for a part", 1, true), r.body)
    assert.equal("1\n", d:http("/api/v1/config?path=one.last").body)
    -- Pages that their clients do not read: the daemon makes only a few before one of them is read.
    local many = {}
    for i = 1, 20 do
      many[i] = http.connect { port = d.port }
      many[i]:write(ask "/api/v1/config?path=one")
      many[i].handle:read_stop()
    end
    local one = http.connect { port = d.port }
    one:write(ask "/api/v1/config?path=two.list%5B0%5D")
    for i = 1, 20 do many[i]:close() end
    assert.equal(2^17 + 3, #one:read_response(60000).body)
    r = d:http { path = "/api/v1/config?path=one", deadline_ms = 60000 }
    assert.equal(200, r.status)
    assert.equal(450, #cjson.decode(r.body).list)
    local status = io.open(("/proc/%d/status"):format(d.process.pid))
    local peak = status:read("*a"):match("VmHWM:%s+(%d+)")
    status:close()
    assert.is_true(tonumber(peak) < 900 * 1024, peak .. " KiB")
  end)
end)

describe("a large configuration", function()
  after_each(segue.cleanup)

  it("is answered as a whole and in parts, and by its ETag alone without being written", function()
    local d = start()
    local r = d:http "/api/v1/config"
    assert.equal(200, r.status)
    local config = cjson.decode(r.body)
    assert.equal(20000, config.key20000.a)
    assert.equal(1, config.last)
    assert.equal(3, cjson.decode(d:http("/api/v1/config?path=key7.c%5B2%5D").body))
    local etag = r.headers.etag
    local same = d:http { path = "/api/v1/config", headers = { ["If-None-Match"] = etag } }
    assert.equal(304, same.status)
    local head = d:http { path = "/api/v1/config", method = "HEAD" }
    assert.equal(200, head.status)
    assert.equal(etag, head.headers.etag)
    assert.equal("", head.body)
    d.dir:save("config.yaml", text(20000, 2))
    assert.equal(200, (d:reload()))
    local diff = cjson.decode(d:http("/api/v1/diff").body)
    assert.equal(1, diff.change_count)
    assert.equal("last", diff.changes[1].path)
  end)

  it("does not delay a small request behind many large ones, nor a reload", function()
    local dir = tempdir.new()
    -- The second page is being written until the file exists.
    local d = start { SEGUE_FAULTS = "page.write#2=hang", SEGUE_FAULTS_END = dir:at "end" }
    d.dir:save("config.yaml", (text(20000, 2):gsub("some text", "another")))
    assert.equal(200, (d:reload()))
    local many = {}
    for i = 1, 300 do -- each compares 20,000 values
      many[i] = http.connect { port = d.port }
      many[i]:write(ask "/api/v1/diff")
    end
    local function answered()
      local count = 0
      for i = 1, 300 do count = count + (many[i].input == "" and 0 or 1) end
      return count
    end
    wait.until_true(function() return answered() > 0 end)
    assert.equal(200, d:http("/-/healthy").status)
    assert.equal("2\n", d:http("/api/v1/config?path=last").body) -- of a large one, but small
    assert.equal(1, answered())
    dir:write("end", "")
    d.dir:save("config.yaml", text(20000, 3))
    assert.equal(200, (d:reload()))
    for i = 1, 300 do
      local r = many[i]:read_response(60000)
      assert.equal(200, r.status)
      if i % 50 == 0 then assert.equal(2, cjson.decode(r.body).to.generation) end -- as they asked
    end
  end)

  it("is freed when its client leaves, at any moment", function()
    local d = start()
    for i = 1, 30 do
      local c = http.connect { port = d.port }
      c:write(ask(i % 3 == 0 and "/api/v1/diff?from=live" or "/api/v1/config"))
      c:close()
      if i % 5 == 0 then assert.equal(200, d:http("/-/healthy").status) end
    end
    assert.equal(20000, cjson.decode(d:http("/api/v1/config").body).key20000.a)
  end)

  it("does not keep the daemon from stopping, and waiting clients are answered", function()
    local d = start()
    local many = {}
    for i = 1, 10 do
      many[i] = http.connect { port = d.port }
      many[i]:write(ask "/api/v1/config")
    end
    wait.until_true(function() return many[1].input ~= "" end)
    d:signal "term"
    for i = 1, 10 do
      local r = many[i]:read_response(30000)
      assert.is_true(r.status == 200 or r.status == 503, r.status)
    end
    assert.equal(0, (d:wait_exit(30000)))
  end)
end)

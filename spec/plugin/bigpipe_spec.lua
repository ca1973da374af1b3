-- SPDX-License-Identifier: MIT
-- examples/bigpipe: the load that comes with it, shorter; its daemon killed; and a queue that was
-- broken on purpose, which the load has to notice.
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local example = uv.cwd() .. "/examples/bigpipe"
local build = os.getenv("SEGUE_BUILD") or "build"
if build:sub(1, 1) ~= "/" then build = uv.cwd() .. "/" .. build end
local built = build .. "/bigpipe"
local WITHIN_MS = 300000 -- also under a sanitizer on a busy machine

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

describe("the big pipe", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    web.cleanup()
    http.close_all()
    segue.cleanup()
    process.stop_all()
    tempdir.remove_all()
  end)

  -- The process, and the numbers of its last line by what they count.
  local function load(plugins, options)
    local command = { built .. "/load", "--segue", build .. "/segue", "--from", example,
      "--plugins", plugins, "--work", dir:at "work", "--wait", "120", "--max-calls", "3000",
      "--undisturbed", "200", "--connections", "32", "--fsync", "never",
      deadline_ms = WITHIN_MS }
    for word in options:gmatch "%S+" do command[#command + 1] = word end
    local p, reported = process.run(command), {}
    reported.accepted, reported.delivered, reported.lost, reported.doubled, reported.applied =
    p.stdout:match(
      "accepted (%d+), delivered (%d+), lost (%d+), doubled beyond retries (%d+), "
      .. "refused %d+ %(503%), reloads (%d+) applied\n")
    for name, count in pairs(reported) do reported[name] = tonumber(count) end
    return p, reported
  end

  local function assert_whole(p, reported, reloads)
    local log = uv.fs_stat(dir:at "work/daemon.log") and read(dir:at "work/daemon.log") or ""
    assert.equal(0, p.code, p:describe() .. "\n" .. log:sub(-4000))
    assert.same({ reloads, 0, 0 }, { reported.applied, reported.lost, reported.doubled })
    assert.equal(reported.accepted, reported.delivered)
    assert.truthy(reported.accepted > 100, p.stdout)
  end

  it("loses and doubles nothing while each of its parts is changed", function()
    local p, reported = load(built .. "/plugins", "--reloads 24 --every 10")
    assert_whole(p, reported, 24)
  end)

  -- The daemon is stopped (SIGSTOP) for longer than a delivery may take, and so are the targets.
  local stalls = "--reloads 16 --every 10 --stalls 6 --timeout 300"

  it("delivers nothing twice where answers are read later than the time limit #long", function()
    local p, reported = load(built .. "/plugins", stalls)
    assert_whole(p, reported, 16)
    assert.matches("stalled 6 times", p.stdout)
  end)

  it("loses no accepted call when it is killed", function()
    local p, reported = load(built .. "/plugins", "--reloads 12 --kills 3")
    assert_whole(p, reported, 12)
    assert.matches("killed 3 times", p.stdout)
  end)

  it("answers every call and delivers nothing twice when it is stopped and started #long",
    function()
    local p, reported = load(built .. "/plugins", "--reloads 9 --kills 8 --gently")
    assert_whole(p, reported, 9)
    assert.matches(": 0 calls got no answer, .*; 0 delivered twice", p.stdout)
  end)

  -- The sources of a plugin, and what it is linked with.
  local parts = {
    queue = { sources = { "queue.c", "work.c", "calls.c", "journal.c", "config.c" }, libs = "" },
    dispatcher = { sources = { "dispatcher.c", "dispatcher_config.c", "delivery.c", "config.c" },
      libs = "-lcurl" } }

  -- The plugins, with one source of one of them changed: pairs of pattern and replacement.
  local function changed(plugin, source, ...)
    local text = read(example .. "/" .. source)
    for i = 1, select("#", ...), 2 do
      local times
      text, times = text:gsub((select(i, ...)), (select(i + 1, ...)))
      assert.equal(1, times)
    end
    dir:write(source, text)
    dir:mkdir "plugins"
    local sources = { dir:at(source) }
    for _, name in ipairs(parts[plugin].sources) do
      if name ~= source then sources[#sources + 1] = example .. "/" .. name end
    end
    local cc = process.run { "sh", "-c", table.concat({ "cc -std=c11 -D_GNU_SOURCE -O1 -g -fPIC",
      "-shared -Icore -I" .. example, os.getenv("SEGUE_SPEC_CFLAGS") or "", "-o",
      dir:at("plugins/" .. plugin .. ".so"), table.concat(sources, " "), parts[plugin].libs,
      "-pthread" }, " "),
      deadline_ms = WITHIN_MS }
    assert.equal(0, cc.code, cc:describe())
    for _, name in ipairs { "front", "queue", "dispatcher" } do
      local file = "plugins/" .. name .. ".so"
      if name ~= plugin then assert(uv.fs_copyfile(built .. "/" .. file, dir:at(file))) end
    end
    return dir:at "plugins"
  end

  -- As it is done with what a build with another layout has left.
  local from_disk = "if %(take_over%(q%)%) return 0;"

  it("continues from disk as it does from memory when the queue is replaced #long", function()
    local p, reported = load(changed("queue", "work.c", from_disk, ""), "--reloads 16 --every 10")
    assert_whole(p, reported, 16)
  end)

  it("is checked by a counter that sees a loss: a queue that drops every other call",
    function()
      local plugins = changed("queue", "journal.c", "KEPT%) return read_kept",
        "KEPT) return head->id %% 2 ? 0 : read_kept")
      local p, reported = load(plugins, "--reloads 4 --kills 3")
      assert.equal(1, p.code, p:describe())
      assert.truthy(reported.lost > 0, p:describe())
      assert.equal(reported.accepted, reported.delivered + reported.lost)
    end)

  it("and a double: a queue that hands out again what the dispatcher has #long", function()
    local plugins = changed("queue", "work.c", from_disk, "",
      "if %(e%->state == OUT%) record_out", "if (0) record_out")
    local p, reported = load(plugins, "--reloads 8 --every 10")
    assert.equal(1, p.code, p:describe())
    assert.truthy(reported.doubled > 0, p:describe())
  end)

  it("and a dispatcher that drops an answer which came within the time limit #long", function()
    local plugins = changed("dispatcher", "delivery.c", "CURLOPT_CONNECTTIMEOUT_MS",
      "CURLOPT_TIMEOUT_MS")
    local p, reported = load(plugins, stalls)
    assert.equal(1, p.code, p:describe())
    assert.truthy(reported.doubled > 0, p:describe())
  end)

  it("names the reason of a refusal, and delivers an accepted call after kill -9", function()
    local at = port.free()
    local target = web.serve(function(_, client)
      client:write(web.answer("no", { status = "503 Busy" }))
    end)
    dir:mkdir "logs"
    assert(uv.fs_symlink(built .. "/plugins", dir:at "plugins"))
    local daemon = segue.start { dir = dir, binary = build .. "/segue",
      policy = (read(example .. "/reload.lua"):gsub("127.0.0.1:8080", "127.0.0.1:" .. at)
        :gsub("127.0.0.1:7377", "127.0.0.1:@PORT@")),
      files = {
        ["config.schema.json"] = read(example .. "/config.schema.json"),
        ["config.yaml"] = ([[
front: {max_payload: 10, retry_after: 7}
queue: {folder: queue, fsync: always, max_calls: 1}
dispatcher: {retry: {attempts: 1000, first_ms: 50, max_ms: 50}, targets: {mail: {url: %q}}}
log: {file: logs/bigpipe.log}
stats: {}
]]):format(target.url) } }
    local function call(path, body, method)
      return http.request { port = at, method = method or "POST", path = path, body = body or "x" }
    end
    local taken = call "/call?target=mail"
    assert.equal(202, taken.status)
    local id = taken.body:match '"id":"(%x+)"'
    assert.same({ 503, "7" }, { call "/call?target=mail".status,
      call "/call?target=mail".headers["retry-after"] })
    assert.same({ 400, 404, 404, 413, 405 }, { call "/call".status, call "/call?target=none".status,
      call "/".status, call("/call?target=mail", ("x"):rep(11)).status,
      call("/call?target=mail", nil, "PUT").status })
    target:wait_requests(2)
    daemon:crash()
    target.handler = function(_, client) client:write(web.answer "yes") end
    daemon:spawn()
    target:wait_requests(#target.requests + 1)
    daemon:wait_ready()
    for _, request in ipairs(target.requests) do
      assert.equal(id, request.headers["call-id"])
    end
    wait.until_true(function() return call "/call?target=mail".status == 202 end) -- there is room
    daemon:stop()
  end)

  it("passes segue check, which reports the errors of its configuration", function()
    for _, name in ipairs { "reload.lua", "config.yaml", "config.schema.json" } do
      dir:write(name, read(example .. "/" .. name))
    end
    dir:mkdir "logs"
    assert(uv.fs_symlink(built .. "/plugins", dir:at "plugins"))
    local p = segue.cli({ "check" }, { cwd = dir.path })
    assert.equal(0, p.code, p:describe())
    dir:write("config.yaml", (read(example .. "/config.yaml"):gsub("attempts: 8", "attempts: 0")))
    p = segue.cli({ "check" }, { cwd = dir.path })
    assert.equal(3, p.code)
    assert.matches("config.yaml:%d+:%d+: attempts must be at least 1, not 0", p.output)
  end)
end)

-- SPDX-License-Identifier: MIT
-- The rows of what outlives the process: what it costs a reload, a start that has nothing else, and
-- questions to a history that is full.
local client = require "spec.bench.client"
local servers = require "spec.bench.servers"
local cjson = require "cjson"
local ffi = require "ffi"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

ffi.cdef [[
int open(const char *path, int flags, ...);
long pwrite(int fd, const void *data, size_t n, long at);
int fdatasync(int fd);
int close(int fd);
]]
local O_WRONLY, O_CREAT = 1, 64

local M = {}

local function sorted(values, part)
  table.sort(values)
  return values[math.min(#values, math.floor(#values * part) + 1)]
end
local function median(values) return sorted(values, 0.5) end

local function with(n, fn)
  local server = servers.segue()
  local ok, err = pcall(function()
    server:start(n)
    fn(server)
  end)
  pcall(server.stop, server)
  if not ok then error(err, 0) end
end

-- The time that the disk needs for as many bytes, beside the file that is measured.
local function syncer(path, bytes)
  local fd = ffi.C.open(path, O_WRONLY + O_CREAT, ffi.cast("int", 384))
  assert(fd >= 0, path)
  local data = ffi.new("char[?]", bytes)
  return function()
    local began = client.now()
    assert(ffi.C.pwrite(fd, data, bytes, 0) == bytes and ffi.C.fdatasync(fd) == 0)
    return (client.now() - began) * 1000
  end, function() ffi.C.close(fd) end
end

M.durable = { title = "what the record costs a reload", run = function(report)
  with(1, function(server)
    local recorded, plain, whole = {}, {}, {}
    server:measure(1, "warm")
    local slot = assert(server.dir:read ".segue/last-good.a")
    local sync, close = syncer(server.dir:at "probe", #slot)
    for i = 1, 300 do
      server:write(1, "m" .. i)
      local status, body = server.client:request("POST", "/-/reload", nil,
        "Accept: application/json\r\n")
      assert(status == 200, body)
      local answer = cjson.decode(body)
      recorded[i], whole[i], plain[i] = answer.phases_ms.settled, answer.duration_ms, sync()
    end
    close()
    report { ours = median(recorded), theirs = 2 + 2 * median(plain),
      peer = "2 ms + 2 fdatasync", unit = "ms", at_most = 1 }
    report { ours = median(recorded), theirs = median(plain), peer = "a fdatasync", unit = "ms" }
    report { ours = sorted(recorded, 0.99), theirs = sorted(plain, 0.99), peer = "a fdatasync",
      unit = "ms p99" }
    report { ours = median(whole), peer = "(for the record)", unit = "ms a reload" }
  end)
end }

M.last_good = { title = "start from the last good generation", run = function(report)
  for _, n in ipairs { 1, 5000 } do
    local good, broken = {}, {}
    with(n, function(server)
      local function start_again(list)
        server.client:close()
        server.client = nil
        server.process:stop()
        local command = server:command()
        local began = client.now()
        server.process = process.start(command)
        wait.until_true(function() return server:live() == "good" end, 30000, "the first answer")
        list[#list + 1] = (client.now() - began) * 1000
        server.client = client.new(server.port)
      end
      server:measure(n, "good")
      for _ = 1, 15 do
        server:write(n, "good")
        start_again(good)
        server.dir:save("config.yaml", "mark: [")
        start_again(broken)
      end
    end)
    report { ours = median(broken), theirs = median(good), peer = "a start from its files",
      unit = ("ms, %d"):format(n), at_most = 2 }
  end
end }

-- A history of that many reloads and as many generations as are kept, made of the few that are
-- there: statements instead of reloads.
local function fill(server, reloads)
  local sql = ([[
PRAGMA journal_mode=WAL; BEGIN;
CREATE TEMP TABLE last AS SELECT max(id) AS id, (SELECT max(number) FROM generation) AS number,
  (SELECT max(reload) FROM generation) AS made FROM reload;
CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
  SELECT i FROM n;
INSERT INTO reload SELECT last.id + n.i, reload.wall_ms + n.i,  reload.outcome,
  replace(reload.summary, '"id":' || last.id || ',', '"id":' || (last.id + n.i) || ','),
  replace(reload.detail, '"id":' || last.id || ',', '"id":' || (last.id + n.i) || ',')
  FROM reload, last, n WHERE reload.id = last.id;
INSERT INTO generation SELECT last.number + n.i, last.id + n.i, hash, input,
  wall_ms + n.i, files, 0 FROM generation, last, n
  WHERE generation.number = last.number AND n.i <= 990;
INSERT INTO file SELECT last.number + n.i, path, blob FROM file, last, n
  WHERE generation = last.number AND n.i <= 990;
INSERT INTO document SELECT last.number + n.i, position, source, name, format, blob
  FROM document, last, n WHERE generation = last.number AND n.i <= 990;
INSERT INTO change SELECT path, below, last.number + n.i, what FROM change, last, n
  WHERE generation = last.number AND n.i <= 990;
COMMIT;]]):format(reloads)
  local p = process.run { "sqlite3", server.dir:at ".segue/history.db", stdin = sql,
    deadline_ms = 120000 }
  if p.code ~= 0 or p.stderr ~= "" then error(p:describe()) end
end

M.history = { title = "questions, 100,000 reloads in the history", run = function(report)
  with(100, function(server)
    local empty
    for i = 1, 5 do server:measure(100, "m" .. i) end
    client.pause(0.5)
    empty = server:memory()
    server.client:close()
    server.client = nil
    server.process:stop()
    fill(server, 100000)
    server.process = process.start(server:command())
    wait.until_true(function() return server:live() == "m5" end, 30000, "the first answer")
    server.client = client.new(server.port)
    server:measure(100, "m6")
    local kept = cjson.decode((select(2, server.client:request("GET", "/api/v1/reloads?limit=1"))))
    assert(kept[1].id > 100000, "the history was not filled")
    local _, status = server.client:request("GET", "/api/v1/status")
    local last = cjson.decode(status).generation
    for _, question in ipairs {
      { "history", "/api/v1/reloads?limit=100" },
      { "history, its middle", "/api/v1/reloads?limit=100&before=50000" },
      { "one reload", "/api/v1/reloads/50000" },
      { "diff", ("/api/v1/diff?from=%d&to=%d"):format(last - 900, last) },
      { "why", "/api/v1/why?path=mark" },
      { "why, never changed", "/api/v1/why?path=services.s7.port" },
    } do
      local times = {}
      for i = 1, 200 do
        local began = client.now()
        local code, body = server.client:request("GET", question[2])
        times[i] = (client.now() - began) * 1000
        if code ~= 200 then error(question[2] .. ": " .. tostring(body)) end
      end
      report { ours = median(times), theirs = 20, peer = "20 ms", unit = "ms, " .. question[1],
        at_most = 1 }
      report { ours = sorted(times, 0.99), peer = "(for the record)",
        unit = "ms p99, " .. question[1] }
    end
    for i = 7, 300 do server:measure(100, "m" .. i) end
    client.pause(0.5)
    report { ours = server:memory(), theirs = empty, peer = "a history of 6", unit = "MB",
      at_most = 1.25 }
  end)
end }

return M

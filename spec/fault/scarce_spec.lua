-- SPDX-License-Identifier: MIT
-- The daemon while allocations and system calls fail at random, in bursts: in the core, and in
-- every library of the process (fault/scarce.c). The daemon continues to serve, the next reload
-- works and is in the history, and no answer and no line of the log shows a secret.
local faults = require "spec.support.faults"
local ffi = require "ffi"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local seeds = require "spec.support.seeds"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

ffi.cdef [[
typedef struct {
  uint32_t seed, memory_one_in, calls_one_in, memory_failed, calls_failed;
} scarce_control;
void *mmap(void *at, size_t len, int prot, int flags, int fd, long offset);
int munmap(void *at, size_t len);
]]

local SANITIZED = (os.getenv "SEGUE_SPEC_SAN" or "") ~= ""

describe("the daemon", function()
  after_each(segue.cleanup)

  local policy = [[
local segue = require "segue"
return {
  name = "bursts",
  sources = { segue.file("config.yaml", { expand = "env" }) },
  secrets = { "db.password" },
  schema = "schema.json",
  triggers = { segue.http "127.0.0.1:@PORT@" },
  check = function(next) return next.n ~= 13, "n is 13" end,
}
]]
  local schema = [[{ "properties": { "db": { "properties": {
    "password": { "type": "string" }, "token": { "type": "string", "writeOnly": true } } } } }]]

  -- Each way to have a secret in a document, good and bad. @S is the secret, @N a number.
  local documents = {
    "n: @N\ndb: { password: @S, token: t@S }\n",
    "n: @N\ndb: { password: [@S], token: x }\n",
    "n: @N\ndb: { password: *@S }\n",
    "n: @N\ndb: { password: \"pa${@S\" }\n",
    "n: @N\ndb: { password: !!int @S }\n",
    "n: @N\ndb: { password: @S, password: @S }\n",
    "n: 13 # @N\ndb: { password: @S }\n",
  }
  local paths = { "/api/v1/config", "/api/v1/reloads", "/api/v1/diff", "/api/v1/diff?to=next",
    "/api/v1/status", "/api/v1/sources", "/metrics", "/api/v1/why?path=db.password" }

  -- Sends a request that may be rejected or cut off; returns its answer.
  local function attempt(d, request)
    local c = http.connect({ port = d.port }, true)
    if not c then return "" end
    request.port = d.port
    c:write(http.format(request))
    local ok, response = pcall(c.read_response, c)
    local text = ok and response.head .. response.body or c.input
    c:close()
    return text
  end

  local function shows_none(text, where)
    local at = text:find("s3cr3t", 1, true)
    assert(not at, at and ("%s: ...%s"):format(where, text:sub(math.max(1, at - 200), at + 40)))
  end

  local function start(env, dir)
    return segue.start { policy = policy, env = env, dir = dir, files = {
      ["config.yaml"] = "n: 0\ndb: { password: s3cr3t0 }\n", ["schema.json"] = schema } }
  end

  -- The record is written behind the answer.
  local function in_history(d, id)
    wait.until_true(function() return d:control("/api/v1/reloads/" .. id).status == 200 end, 1000,
      function() return ("the entry of reload %d: %s"):format(id, d:log():sub(-2000)) end)
  end

  -- fail(seed) begins the failures, cease() ends them.
  local function goes_on(d, count, fail, cease)
    local from = 1
    seeds.each(count, function(n)
      local secret, path = ("s3cr3t%dword"):format(n), paths[n % #paths + 1]
      d.dir:save("config.yaml", (documents[n % #documents + 1]:gsub("@N", n):gsub("@S", secret)))
      fail(n)
      shows_none(attempt(d, { method = "POST", path = "/-/reload" }), "the answer")
      shows_none(attempt(d, { path = path }), path)
      cease()
      assert.is_true(d.process:running(), d.process:describe())
      for _, each in ipairs(paths) do shows_none(d:control(each).body, each) end
      d.dir:save("config.yaml", ("n: %d\ndb: { password: %s }\n"):format(n + 1000, secret))
      local status, answer = d:reload()
      assert.equal(200, status, tostring(answer) .. d:log():sub(-2000))
      assert.equal(n + 1000, d:config().n)
      in_history(d, answer.id)
      shows_none(d:log():sub(from), "the log")
      from = #d:log() + 1
    end)
  end

  local function without_memory_of_its_own(count)
    local d = start(faults.memory_env)
    goes_on(d, count, function(n) faults.random_memory(d, n, 20 + n * 7 % 400) end,
      function() faults.memory(d, 0) end)
    assert.is_true(seeds.given ~= nil or faults.memory_failures(d) > count)
  end
  it("continues and shows no secret while its allocations fail",
    function() without_memory_of_its_own(28) end)
  it("continues and shows no secret while its allocations fail, for 1,000 reloads #long",
    function() without_memory_of_its_own(1000) end)

  -- A file that the daemon maps too: see fault/scarce.c.
  local function shared(dir)
    local file = assert(io.open(dir:write("scarce", ("\0"):rep(ffi.sizeof "scarce_control")), "r+"))
    ffi.cdef "int fileno(void *file);"
    local at = ffi.C.mmap(nil, ffi.sizeof "scarce_control", 3, 1, ffi.C.fileno(file), 0)
    file:close()
    assert(ffi.cast("intptr_t", at) ~= -1, "mmap")
    return ffi.cast("scarce_control *", at)
  end

  local function without_anything(count, memory_one_in, calls_one_in)
    local dir = tempdir.new()
    plugin.library(dir:at "scarce.so", "spec/fault/scarce.c", SANITIZED and "-DSANITIZED" or "")
    local control = shared(dir)
    local d = start({ LD_PRELOAD = dir:at "scarce.so", SPEC_SCARCE = dir:at "scarce",
      ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0" }, dir)
    goes_on(d, count, function(n)
      control.seed = n
      control.memory_one_in = memory_one_in > 0 and memory_one_in + n * 13 % 400 or 0
      control.calls_one_in = calls_one_in > 0 and calls_one_in + n % 20 or 0
    end, function() control.memory_one_in, control.calls_one_in = 0, 0 end)
    local failed = control.memory_failed + control.calls_failed
    ffi.C.munmap(control, ffi.sizeof "scarce_control")
    assert.is_true(seeds.given ~= nil or failed > count / 4, failed)
  end
  it("continues and shows no secret while system calls fail",
    function() without_anything(28, 0, 10) end)
  it("continues and shows no secret while system calls fail, for 300 reloads #long",
    function() without_anything(300, 0, 10) end)
  -- A sanitizer brings the allocator of the whole process, so scarce.c cannot replace it there.
  if not SANITIZED then
    it("continues and shows no secret while allocations of all libraries fail",
      function() without_anything(28, 100, 0) end)
  end
  it("continues and shows no secret while both fail, for 300 reloads #long",
    function() without_anything(300, 100, 20) end)
end)

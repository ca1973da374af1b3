-- SPDX-License-Identifier: MIT
-- Random documents, each with a secret and a mistake that makes a message want to quote it: nothing
-- of any secret is in an answer, the log, the history, the events, or on the command line.
-- (unit/planted_spec has 10,000 of them; here they pass through a daemon.) SEGUE_SPEC_SEED=number
-- repeats a run, #long specs take 20 times as many documents.
local cjson = require "cjson"
local files = require "spec.support.file"
local http = require "spec.support.http"
local planted = require "spec.support.planted"
local segue = require "spec.support.segue"
local uv = require "luv"
local web = require "spec.support.web"

local SEED = tonumber(os.getenv "SEGUE_SPEC_SEED" or "") or uv.hrtime() % 1000000007
local BATCH = 80

local HEAD = [[
local segue = require "segue"
return { name = "planted",
  sources = { segue.file "base.yaml", segue.dir("conf/*.yaml", { expand = "env" }),
    segue.dir("conf/*.json", { expand = "env" }) MORE },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  SECRETS
]]
local SECRETS = [[secrets = { "*.password", "*.vault", "**.api_key", "*.plain" },
  schema = "schema.json",]]

local function shows_nothing(text, what, file)
  local at = planted.find(text, file)
  assert(not at, at and ("seed %d: %s shows a secret: ...%s"):format(SEED, what, at))
end

-- A daemon whose folder conf/ is filled again for each reload.
local function start(check, more)
  local policy = HEAD:gsub("SECRETS", SECRETS):gsub("MORE", function() return more or "" end)
    .. (check or "") .. "}"
  local d = segue.start { policy = policy, args = { "--log-level", "debug" },
    files = { ["base.yaml"] = "base: 1\n", ["schema.json"] = planted.schema(),
      ["far.txt"] = "good\n", ["conf/good.yaml"] = "good: 1\n", ["conf/good.json"] = "{}" } }
  d.events = http.connect { socket = d:socket() }
  d.events:write(http.format { path = "/api/v1/events" })
  return d
end

-- fits: the document may be right in the format that the source has.
local function reload(d, fits)
  d.json = not d.json
  local answer = d:control { method = "POST", path = "/-/reload", deadline_ms = 30000,
    headers = { Accept = d.json and "application/json" or "text/plain" } }
  local fails = answer.status >= 422 and answer.status < 600 -- 400: the request was not understood
  assert.is_true(fails or fits and answer.status == 200, answer.body)
  shows_nothing(answer.body, "the answer")
  return answer.body
end

local function read(path) return files.try_read(path) or "" end

-- All text that is left when the daemon has ended. applied: documents with secrets were applied,
-- and are in the state folder as they are.
local function afterwards(d, applied)
  for _, path in ipairs { "/api/v1/status", "/api/v1/reloads?limit=1000", "/api/v1/sources",
    "/api/v1/diff?to=next", "/api/v1/modules", "/metrics", "/api/v1/audit" } do
    shows_nothing(d:control(path).body, path)
  end
  for _, args in ipairs { { "status" }, { "history" }, { "check" }, { "check", "--json" },
    { "plan" } } do
    shows_nothing(d:cli(unpack(args)).output, args[1])
  end
  shows_nothing(d.events.input, "the event stream")
  assert.is_truthy(d.events.input:find("event: settled", 1, true))
  d:stop()
  shows_nothing(d:log(), "the log")
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(d.dir:at(".segue"))) do
    if not applied then shows_nothing(read(d.dir:at(".segue/" .. name)), name, true) end
  end
end

-- Fills conf/ with documents that make() returns, and removes them after use().
local function with_documents(d, count, make, use)
  local paths = {}
  for i = 1, count do
    local text, ending = make("n" .. i)
    paths[i] = d.dir:write("conf/n" .. i .. ending, text)
  end
  use()
  for _, path in ipairs(paths) do os.remove(path) end
end

for _, length in ipairs { { "", 1 }, { " #long", 20 } } do
describe("a secret in a document with a mistake" .. length[1], function()
  after_each(function()
    segue.cleanup()
    web.cleanup()
  end)

  it("is shown by no error of reading", function()
    local planter, d = planted.new(SEED), start()
    local policy, schema = read(d.dir:at "reload.lua"), planted.schema()
    for batch = 1, 12 * length[2] do
      -- The secrets are known from the next generation, from the live one, or not at all.
      local open = batch % 4 == 1 and policy:gsub("secrets = .-schema.json\",", "")
      d.dir:write("reload.lua", open or policy)
      d.dir:write("schema.json", batch % 4 == 2 and '{"type": kQzX7}' or schema)
      with_documents(d, BATCH, function(name) return planter:broken(name) end,
        function() reload(d) end)
    end
    d.dir:write("reload.lua", policy)
    d.dir:write("schema.json", schema)
    with_documents(d, BATCH, function(name) return planter:broken(name) end,
      function() afterwards(d) end)
  end)

  it("is shown by no warning of a merge", function()
    local planter, d = planted.new(SEED), start()
    for n = 1, 5 * length[2] do
      local key = planter:word()
      d.dir:write("conf/a.yaml", ("x: { vault: { %s: [1, %d] } }"):format(key, n))
      d.dir:write("conf/b.yaml", ("x: { vault: { %s: [2] } }"):format(key))
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.matches("this list replaces", answer.errors[1].message)
      shows_nothing(cjson.encode(answer), "the answer")
    end
    d.dir:write("conf/a.yaml", "x: 1\n")
    d.dir:write("conf/b.yaml", "x: 2\n")
    shows_nothing(d:log(), "the log")
    shows_nothing(d.events.input, "the event stream")
    shows_nothing(d:control("/api/v1/reloads?limit=1000").body, "the history")
  end)

  it("is shown by no error of the schema", function()
    local planter, d = planted.new(SEED), start()
    for _ = 1, 4 * length[2] do
      with_documents(d, BATCH, function(name) return planter:unfit(name) end,
        function() reload(d) end)
    end
    with_documents(d, BATCH, function(name) return planter:unfit(name) end,
      function() afterwards(d) end)
  end)

  it("is shown by no hook that quotes it, in an error, a veto or a log line", function()
    local planter, d = planted.new(SEED), start([[
      check = function(next)
        local list = {}
        for _, entry in pairs(next) do
          if type(entry) == "table" and entry.password then list[#list + 1] = entry.password end
        end
        if not list[1] then return true end
        for i, secret in ipairs(list) do
          segue.log.info("looks at " .. secret, { number = i, field = secret })
        end
        local how, pad = next.how, ("."):rep(next.pad)
        local all = pad .. table.concat(list, how == "lines" and "\n" or " ")
        if how == "veto" or how == "lines" then return nil, all end
        if how == "error" then error(all) end
        if how == "object" then
          error(setmetatable({}, { __tostring = function() return all end }))
        end
        if how == "quoted" then return nil, ("%q"):format(all) end
        if how == "cut" then return nil, pad .. list[1]:sub(1, next.cut) .. "..." end
        if how == "assert" then assert(false, all) end
        local v = segue.validate(next)
        v:one_of("n1.password", { list[1] .. "x" }):integer("n2.password")
        v:string("n3.password", { max = 1 }):string("n4.password", { pattern = "^x" })
        return v:result()
      end]])
    local ways = { "veto", "lines", "error", "object", "quoted", "cut", "assert", "validate" }
    for n = 1, 48 * length[2] do
      d.dir:write("base.yaml", ("base: %d\nhow: %s\npad: %d\ncut: %d\n"):format(n,
        ways[n % #ways + 1], planter:number(2) == 1 and planter:number(200) + 350 or 0,
        planter:number(10) + 7))
      with_documents(d, 8, function(name)
        return ('{"%s":{"password":"%s"}}'):format(name, planter:word()), ".json"
      end, function() reload(d) end)
    end
    afterwards(d)
  end)

  -- No generation is live when the first of these errors come: no mask has learned a secret.
  it("is shown by no source in Lua that quotes what it has read", function()
    local planter, d = planted.new(SEED), start(nil, [[, segue.source { name = "far",
      fetch = function()
        local how, text = assert(segue.read "far.txt"):match "^(%w+)\n(.*)$"
        if how == "good" then return { n = 1 } end
        if how == "returned" then return nil, "vault answered " .. text end
        if how == "thrown" then error("vault answered " .. text) end
        if how == "placed" then error(text .. ":1: vault", 0) end
        if how == "cut" then return nil, ("."):rep(460) .. text end
        if how == "hex" then
          return nil, (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
        end
        if how == "object" then error { message = text, path = text, file = text } end
        if how == "parsed" then
          local value, why = segue.yaml.decode(text)
          return nil, why or segue.json.encode(value)
        end
        local list = {}
        for word in text:gmatch "%w+" do list[#list + 1] = word end
        return nil, table.concat(list, how == "words" and " vault " or "-")
      end }]])
    local ways = { "returned", "thrown", "placed", "cut", "hex", "object", "parsed", "words",
      "joined" }
    for n = 1, 45 * length[2] do
      d.dir:save("far.txt", ways[n % #ways + 1] .. "\n" .. planter:broken("far"))
      local body = reload(d, true)
      assert.matches("far", body)
      assert.is_nil(body:find("6b517a58", 1, true), body) -- the first mark in hexadecimal digits
    end
    afterwards(d)
  end)

  it("is shown by no error of a variable or a server", function()
    local planter, body = planted.new(SEED)
    local w = web.serve(function(_, client) client:write(web.answer(body)) end)
    body = "far: { password: good }"
    local d = start(nil, (", segue.url { %q, optional = true }"):format(w.url))
    for _ = 1, 50 * length[2] do
      repeat body = planter:broken("far") until not body:find("${", 1, true)
      reload(d, true)
    end
    afterwards(d, true)
    local folder = segue.folder { policy = [[return {
      sources = { require "segue".env { prefix = "APP_" } }, secrets = { "db" } }]] }
    for _ = 1, 12 * length[2] do
      local value = planter:fill(planter:pick { "D", "0xD", "De999999", "S\255", "-D" })
      local p = segue.cli({ "check", "-c", folder.dir:at "reload.lua" }, { cwd = folder.dir.path,
        env = { APP_DB__PASSWORD = value, ["APP_DB__" .. planter:word()] = "S\255" } })
      assert.equal(3, p.code, p.output)
      shows_nothing(p.output, "check")
    end
  end)
end)
end

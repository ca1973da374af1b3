-- SPDX-License-Identifier: MIT
-- The event stream and the metrics of a daemon that renders files.
local cjson = require "cjson"
local http = require "spec.support.http"
local process = require "spec.support.process"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
local function file(name)
  return { to = "out/" .. name, content = function(config)
    return (config[name] or "none") .. "\n"
  end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" }, secrets = { "pw" },
  modules = {
    web = { kind = "files", files = { file "a", file "b" }, removed = "remove",
      check = "! grep bad {staged:out/a}",
      apply = "if grep -q fail out/a; then echo no hunter2hunter; exit 3; fi" },
    @OTHER@ },
}]]

-- files nil: there is no module `other`.
local function fill(files)
  local other = files and ('other = { kind = "files", removed = "remove", files = { %s } }')
    :format(files)
  return (policy:gsub("@OTHER@", other or ""))
end

local function start()
  return segue.start { policy = fill 'file "c", file "d"',
    files = { ["a.yaml"] = "pw: hunter2hunter\n" } }
end

local function put(d, text)
  d.dir:save("a.yaml", "pw: hunter2hunter\n" .. text)
  return (d:reload())
end

-- The events of a kind, since the daemon was started: decoded, until one matches the pattern.
local function events(d, kind, pattern)
  local stream = http.connect { socket = d:socket() }
  stream:write(http.format { path = "/api/v1/events", headers = { ["Last-Event-ID"] = "0" } })
  local text, list = stream:read_until(pattern), {}
  stream:close()
  for data in text:gmatch("event: " .. kind .. "\ndata: ([^\n]+)\n") do
    list[#list + 1] = cjson.decode(data)
  end
  return list
end

describe("the event stream of a daemon that renders files", function()
  after_each(segue.cleanup)

  it("has each set of files when it is live, with its paths", function()
    local d = start()
    assert.equal(422, put(d, "a: bad\n"))
    assert.equal(500, put(d, "a: fail\n"))
    assert.equal(200, put(d, "a: 2\n"))
    d.dir:save("reload.lua", fill 'file "c"')
    assert.equal(200, put(d, "a: 2\nc: 3\n"))
    local list = events(d, "files",
      'event: files\ndata: {"module":"other","generation":3[^\n]+\n\n')
    local found = {}
    for i, event in ipairs(list) do
      local names = {}
      for k, path in ipairs(event.paths) do names[k] = path:match "/out/(%a)$" end
      found[i] = ("%s %d: %d %d %s"):format(event.module, event.generation, event.written,
        event.removed, table.concat(names, " "))
    end
    table.sort(found)
    assert.same({ "other 1: 2 0 c d", "other 3: 1 1 c d", "web 1: 2 0 a b", "web 2: 1 0 a" }, found)
  end)

  it("has the files that are removed, and of a large set the first names", function()
    local list = {}
    for i = 1, 50 do list[i] = ('file "f%d"'):format(i) end
    local d = segue.start { policy = fill(table.concat(list, ",")),
      files = { ["a.yaml"] = "pw: hunter2hunter\n" } }
    local first = events(d, "files", 'event: files\ndata: {"module":"other"[^\n]+\n\n')
    local event = first[1].module == "other" and first[1] or first[2]
    assert.same({ 50, 0, 20 }, { event.written, event.removed, #event.paths })
    d.dir:save("reload.lua", fill())
    assert.equal(200, (d:reload()))
    local found = events(d, "files", '"written":0,"removed":50[^\n]+\n\n')
    assert.equal(50, found[#found].removed)
  end)

  it("has each command that has ended, without secrets, and none of a plan", function()
    local d = start()
    assert.equal(422, put(d, "a: bad\n"))
    assert.equal(500, put(d, "a: fail\n"))
    d.dir:save("a.yaml", "a: 7\npw: hunter2hunter\n")
    d:control { method = "POST", path = "/api/v1/plan" }
    assert.equal(200, put(d, "a: 2\n"))
    local list, found = events(d, "command", 'event: settled\ndata: [^\n]+"generation":2[,}]'), {}
    for i, event in ipairs(list) do
      found[i] = ("%s %s %s"):format(event.module, event.step, tostring(event.ok))
      assert.matches(event.step == "check" and "^! grep bad" or "^if grep %-q fail", event.command)
      assert.equal("number", type(event.ms))
      assert.equal(event.ok, event.error == cjson.null)
    end
    assert.same({ "web check true", "web apply true", "web check false", "web check true",
      "web apply false", "web undo true", "web check true", "web apply true" }, found)
    assert.matches("exited with code 1: bad", list[3].error)
    assert.matches("exited with code 3: no %*%*%* %(after", list[5].error)
  end)
end)

describe("the metrics of a daemon with several modules of a kind", function()
  after_each(segue.cleanup)

  it("are accepted by promtool: each family once, with its help", function()
    local d = start()
    assert.equal(200, put(d, "a: 2\n"))
    local page = d:control("/metrics").body
    local checked = process.run { "promtool", "check", "metrics", stdin = page }
    assert.equal(0, checked.code, checked:describe())
    for _, name in ipairs { "segue_files_written_total", "segue_templates_rendered_total" } do
      local _, heads = page:gsub("# TYPE " .. name .. " ", "")
      assert.equal(1, heads, name)
      local first = page:find("# TYPE " .. name .. " ", 1, true)
      local family = page:sub(first + 1):match "^[^#]+"
      local _, samples = family:gsub("\n" .. name .. "{", "")
      assert.equal(2, samples, family)
    end
  end)
end)

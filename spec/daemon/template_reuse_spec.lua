-- SPDX-License-Identifier: MIT
-- Only templates whose data have changed are rendered again, and a module is replaced when a value
-- has changed that a function of its templates has read.
local segue = require "spec.support.segue"

local FILES = 200

local function policy(files, more)
  return ([[
local segue = require "segue"
local files = {}
for i = 1, %d do
  files[i] = { to = ("out/%%d.conf"):format(i), template = ("%%d.tmpl"):format(i) }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", config = "web", files = files,
    apply = "echo run >> runs" } }, %s
}]]):format(files, more or "")
end

local function config(values, more)
  local out = { "web:" }
  for i, v in ipairs(values) do out[#out + 1] = ("  k%d: %s"):format(i, v) end
  return table.concat(out, "\n") .. "\n" .. (more or "")
end

local function start(values, templates, more)
  local files = { ["a.yaml"] = config(values, more) }
  for i, text in ipairs(templates) do files[i .. ".tmpl"] = text end
  return segue.start { policy = policy(#templates), files = files }
end

local function reload(d, values, more)
  d.dir:save("a.yaml", config(values, more))
  local status, answer = d:reload()
  assert.equal(200, status)
  return answer
end

local function count(d, name)
  local text = d:control { path = "/metrics" }.body
  return tonumber(text:match("segue_templates_" .. name .. '_total{module="web"} (%d+)'))
end

describe("templates of a module", function()
  after_each(segue.cleanup)

  it("are rendered again only where their data have changed: 1 of 200", function()
    local values, templates = {}, {}
    for i = 1, FILES do
      values[i] = i
      templates[i] = ("{{with .k%d}}{{.}}{{end}}\n"):format(i)
    end
    local d = start(values, templates)
    assert.equal(FILES, count(d, "rendered"))
    values[77] = "changed"
    assert.equal("applied", reload(d, values).outcome)
    assert.equal("changed\n", d.dir:read "out/77.conf")
    assert.equal("78\n", d.dir:read "out/78.conf")
    assert.equal(FILES + 1, count(d, "rendered"))
    assert.equal(FILES - 1, count(d, "unchanged"))
  end)

  it("depend on what they read through variables, indexes, calls and else branches", function()
    local templates = {
      '{{$x := .k1}}{{define "t"}}{{with $}}{{.k2}}{{end}}{{end}}{{$x}}',
      '{{define "t"}}{{.k2}}{{end}}{{template "t" .}}',
      '{{index . "k3"}}{{if .none}}{{else}}{{.k4}}{{end}}',
      '{{$all := .}}{{range .k5}}{{.}}{{$all.k1}}{{end}}',
      '{{.}}',
      '{{with .none}}{{else}}{{$.k2}}{{end}}{{.k1.x}}',
    }
    local before = { 1, 2, 3, 4, "[5]" }
    local changes = { { 1, "{ x: 7 }", 4 }, { 2, 9, 3 }, { 3, 9, 2 }, { 4, 9, 2 }, { 5, "[6]", 2 } }
    templates[6] = '{{with .none}}{{else}}{{$.k2}}{{end}}{{with .k1}}{{end}}'
    local d = start(before, templates)
    local rendered = count(d, "rendered")
    assert.equal(#templates, rendered)
    for _, change in ipairs(changes) do
      before[change[1]] = change[2]
      reload(d, before)
      local now = count(d, "rendered")
      assert.equal(change[3], now - rendered, "k" .. change[1])
      rendered = now
    end
    assert.equal("map[x:7]", d.dir:read "out/1.conf")
    assert.equal("9", d.dir:read "out/2.conf")
    assert.equal("99", d.dir:read "out/3.conf")
    assert.equal("6map[x:7]", d.dir:read "out/4.conf")
    assert.equal("map[k1:map[x:7] k2:9 k3:9 k4:9 k5:[6]]", d.dir:read "out/5.conf")
  end)

  it("are rendered again when a value appears, and each time that they read the time", function()
    local d = start({ 1 }, { "{{.k2.x}}", "{{timestamp | len}}", "{{.k1}}" })
    assert.equal(3, count(d, "rendered"))
    -- .k2.x led nowhere, and now leads to an error.
    d.dir:save("a.yaml", config { 1, 7 })
    assert.equal(422, (d:reload()))
    reload(d, { 1, "{ x: 5 }" })
    assert.equal(5, count(d, "rendered"))
    assert.equal("5", d.dir:read "out/1.conf")
  end)

  it("follow values that their functions read in the whole configuration", function()
    local d = start({ 1 }, { '{{key "other/x"}} {{keyOrDefault "other/y" "none"}}' },
      "other: { x: 1 }\nmore: 1\n")
    assert.equal("1 none", d.dir:read "out/1.conf")
    local answer = reload(d, { 1 }, "other: { x: 1 }\nmore: 2\n")
    assert.equal("keep", answer.steps[1].action)
    answer = reload(d, { 1 }, "other: { x: 2 }\nmore: 2\n")
    assert.equal("other/x changed", answer.steps[1].why)
    assert.equal("2 none", d.dir:read "out/1.conf")
    reload(d, { 1 }, "other: { x: 2, y: 3 }\nmore: 2\n")
    assert.equal("2 3", d.dir:read "out/1.conf")
    assert.equal("run\nrun\nrun\n", d.dir:read "runs")
  end)

  it("read the part that the option keys names", function()
    local d = segue.start { policy = policy(1):gsub('template = ', 'keys = "store.a", template = '),
      files = { ["a.yaml"] = "web: 1\nstore: { a: { b/c: flat, d: [x, y] } }\n",
        ["1.tmpl"] = '{{key "b/c"}} {{key "d/1"}} {{range tree "d"}}{{.Key}}={{.Value}} {{end}}' } }
    assert.equal("flat y 0=x 1=y ", d.dir:read "out/1.conf")
  end)
end)

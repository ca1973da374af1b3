-- SPDX-License-Identifier: MIT
-- The readers of `segue import`: TOML and HCL, compared with the Go libraries that confd and
-- consul-template read them with. SEGUE_IMPORT_SEED: a seed of other random documents.
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
local cjson = require "cjson"
local go = require "spec.support.go"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

local readers = { toml = require "segue.import.toml", hcl = require "segue.import.hcl" }

local documents = { toml = {
  "", "# only a comment", "a = 1", "a = 1 # comment\nb = 2\r\nc=3",
  'a = "x\\ty\\"\\u00e9\\U0001F600"\n\'b c\' = \'C:\\dir\'\n"d\\te" = true',
  'a = """\nfirst\nsecond \\\n   third"""\nb = \'\'\'\nx\\n\'y\'\'\'',
  'a = """x""y"""\nb = """"quoted""""\n',
  "a = [1, 2,\n 3, # three\n]\nb = [[1], ['x']]\nc = []",
  "i = +17\nh = 0xff_00\no = 0o17\nb = 0b101\nn = -3\nu = 1_000\nz = 0",
  "f = 1.5\ng = -0.1e3\nh = 6e2", "t = true\nf = false",
  "[a]\nx = 1\n[a.b]\ny = 2\n[c.d.e]\nz = 3",
  "[[list]]\nname = 'a'\n[list.sub]\nk = 1\n[[list]]\nname = 'b'",
  "a.b.c = 1\na.b.d = 2\n[e]\nf.g = 3", "p = { x = 1, y.z = 'w', l = [1] }\ne = {}",
  '[template]\nsrc = "a.tmpl"\ndest = "/etc/a"\nkeys = [\n  "/a",\n  "/b",\n]\nmode = "0644"',
}, hcl = {
  "", "# c\n// c\n/* c\n */", "a = 1", 'a = "x"\nb = true\nc = false\nd = -2\ne = 1.5',
  'a = "tab\\tquote\\"\\u00e9 ${env("X")} \\\\"', "a = [1, 2, 3,]\nb = [\"x\", \"y\"]\nc = []",
  'template {\n  source = "a"\n  destination = "/b"\n}\ntemplate {\n  source = "c"\n}',
  'exec {\n  command = ["x", "y"]\n  env {\n    pristine = false\n    custom = ["A=b"]\n  }\n}',
  'block "one" "two" {\n  a = 1\n}', "a = <<EOF\nline\n  two\nEOF\nb = 1",
  "a = <<-EOF\n    line\n      two\n    EOF\n", '"quoted" = 1', "a-b.c = 1",
  'log_level = "warn"\nwait {\n  min = "5s"\n  max = "10s"\n}', "a = 0x10",
  '{ "a": 1, "b": { "c": "d" }, "e": [ { "f": 1 }, { "f": 2 } ] }',
} }

-- A value of a reader in the form of the Go library: HCL makes a list of each block.
local plain

local function plain_hcl(object)
  local map = {}
  for _, entry in ipairs(object.entries) do
    local v = plain(entry.value, "hcl")
    if type(entry.value) == "table" and entry.value.entries then
      for i = #(entry.labels or {}), 1, -1 do v = { { [entry.labels[i]] = v } } end
      local list = map[entry.name] or {}
      for _, item in ipairs(v) do list[#list + 1] = item end
      v = list
    end
    map[entry.name] = v
  end
  return map
end

function plain(v, format)
  if type(v) ~= "table" then return v end
  local made = {}
  if v.list then
    for i, item in ipairs(v) do
      made[i] = plain(item, format)
      if format == "hcl" and type(item) == "table" and item.entries then made[i] = made[i][1] end
    end
  elseif format == "hcl" then
    return { plain_hcl(v) }
  else
    for _, entry in ipairs(v.entries) do made[entry.name] = plain(entry.value, format) end
  end
  return made
end

local function read(format, text)
  local ok, result = pcall(readers[format], text, "file")
  if not ok then
    assert(type(result) == "table" and result.line and result.file == "file", tostring(result))
    return nil, ("%d: %s"):format(result.line, result.message)
  end
  return format == "hcl" and plain_hcl(result) or plain(result, format)
end

local function reference(cases)
  local program = go.build(tempdir.new(), "spec/support/go_config.go")
  local lines = {}
  for i, case in ipairs(cases) do lines[i] = cjson.encode(case) end
  local p = process.run { program, stdin = table.concat(lines, "\n") .. "\n", deadline_ms = 60000 }
  assert(p.code == 0, p:describe())
  local answers = {}
  for line in p.stdout:gmatch "[^\n]+" do answers[#answers + 1] = cjson.decode(line) end
  assert.equal(#cases, #answers)
  return answers
end

-- A document with one or two small changes.
local function changed(text)
  local marks = { "", '"', "'", "[", "]", "{", "}", "=", "\n", "#", ",", "a", "1", ".", "\\",
    " " }
  for _ = 1, math.random(2) do
    local at = math.random(#text + 1)
    text = text:sub(1, at - 1) .. marks[math.random(#marks)] .. text:sub(at + math.random(0, 1))
  end
  return text
end

describe("the readers of segue import", function()
  it("read what the libraries of confd and consul-template read", function()
    local cases = {}
    for format, texts in pairs(documents) do
      for _, text in ipairs(texts) do cases[#cases + 1] = { format = format, text = text } end
    end
    for i, answer in ipairs(reference(cases)) do
      local case = cases[i]
      local ours, message = read(case.format, case.text)
      local note = ("%s\nGo: %s\nours: %s"):format(case.text, answer.error, message)
      assert.is_true(answer.ok, note)
      assert.same(answer.value or {}, ours, note)
    end
  end)

  -- A setting twice: the libraries merge, replace or refuse it, each version in its own way.
  local function has_twice(text)
    local seen = {}
    for name in ("\n" .. text):gmatch "[\n{,]%s*[\"']?([%w_]+)[\"']?%s*[=:]" do
      if seen[name] then return true end
      seen[name] = true
    end
    return false
  end

  -- HCL: only values are compared. consul-template does not start with a document that its library
  -- refuses, so it is never imported.
  it("read changed documents as they do", function()
    math.randomseed(tonumber(os.getenv "SEGUE_IMPORT_SEED") or 7)
    local cases, compared = {}, 0
    for format, texts in pairs(documents) do
      for i = 1, 3000 do
        local text = changed(texts[i % #texts + 1])
        -- Version 1.2 of the TOML library keeps no line end behind an escaped one.
        if not has_twice(text) and not text:find "\\%s*\n" then
          cases[#cases + 1] = { format = format, text = text }
        end
      end
    end
    for i, answer in ipairs(reference(cases)) do
      local case = cases[i]
      local ours, message = read(case.format, case.text)
      local note = ("%s\nGo: %s\nours: %s"):format(case.text, answer.error, message)
      if case.format == "toml" then assert.equal(answer.ok, ours ~= nil, note) end
      if answer.ok and ours then
        assert.same(answer.value or {}, ours, note)
        compared = compared + 1
      end
    end
    assert.is_true(compared > 1000, compared .. " documents were compared")
  end)

  it("name the line of a mistake and what was expected", function()
    for _, case in ipairs {
      { "toml", "a = 1\nb = \n", "2: expected a value, found the end of the line" },
      { "toml", "a = 1\nb = yes\n", "2: 'yes' is no value: a text needs quotes" },
      { "toml", "a = 1 2\n", "1: expected the end of the line, found '2'" },
      { "toml", "[a\nb = 1", "1: expected ], found the end of the line" },
      { "toml", "a = \"x\nb", '1: the string has no end: " is missing' },
      { "toml", "a = '''\n\nx", "2: the string has no end: ''' is missing" },
      { "toml", 'a = "\\q"', "1: \\q is no escape: write \\\\ for a backslash" },
      { "toml", 'a = "\\ud800"', "1: \\u needs 4 hexadecimal digits of a character" },
      { "toml", "a = 1\na = 2", "2: 'a' is set twice (line 1)" },
      { "toml", "[a]\n[a]", "2: the table is here twice (line 1)" },
      { "toml", "a = 1\n[a.b]", "2: 'a' has a value already (line 1)" },
      { "hcl", "template {\n  source = \"a\"\n", "3: } is missing: the block began in line 1" },
      { "hcl", "a = <<EOF\nx", "2: the text has no end: a line EOF is missing" },
      { "hcl", "a = b", "1: 'b' is no value: a text needs quotes" },
      { "hcl", "/* x", "1: the comment has no end: */ is missing" },
      { "hcl", "a", "1: expected = or { after 'a', found the end of the file" },
      { "hcl", "= 1", "1: expected a setting, found '='" } } do
      local value, message = read(case[1], case[2])
      assert.is_nil(value)
      assert.equal(case[3], message)
    end
  end)
end)

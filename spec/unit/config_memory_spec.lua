-- SPDX-License-Identifier: MIT
-- Every allocation of parsing, merging, comparing, publishing and fetching fails once, each in its
-- turn: the answer is ENOMEM every time, and nothing is left behind.
local C = require "spec.support.c"
local document = require "spec.support.document"
local tempdir = require "spec.support.tempdir"
local ffi = C.ffi

-- Runs step() with the first, second, ... allocation failing until it succeeds. step answers a
-- code and frees what it made.
local function starve(step, at_least)
  -- Nothing that was made before may go in the meantime.
  local base = document.live()
  collectgarbage("stop")
  local n = 0
  repeat
    n = n + 1
    C.segue__mem_fail_at(n)
    local rc = step()
    C.segue__mem_fail_at(0)
    assert.equal(base, tonumber(C.segue__mem_live()), "allocation " .. n .. " left something")
    if rc ~= 0 then assert.equal("ENOMEM", C.name(rc), "allocation " .. n) end
  until rc == 0 or n > 5000
  assert.is_true(n > at_least, "only " .. n .. " allocations were tried")
  assert.is_true(n <= 5000)
end

-- Bytes for a document, or nil where memory is missing for them.
local function bytes(text)
  local p = ffi.cast("char *", C.segue__malloc(#text + 1))
  if p == nil then return nil end
  ffi.copy(p, text)
  return p
end

local function parse(text, format, expand)
  local out, err = ffi.new("segue__document *[1]"), C.error()
  local p = bytes(text)
  if p == nil then return -12 end
  local rc = C.segue__document_new(out, 1, "source", "file", format, p, #text)
  if rc == 0 then
    out[0].expand = expand or false
    rc = C.segue__document_parse(out[0], nil, nil, nil, err)
    assert(C.err(err).code == rc)
    C.segue__document_unref(out[0])
  end
  return rc
end

local wide = {}
for i = 1, 100 do wide[i] = ("key%d: [%d, {x: 'y'}]"):format(i, i) end
local yaml = table.concat(wide, "\n")
  .. "\nbase: &b {a: 1, b: 2}\nderived: {<<: [*b, {c: 3}], a: 0}\n"
  .. "long: !!float 3." .. ("14159265"):rep(12) .. "\n"
for i = 1, 40 do yaml = yaml .. ("n%d: &n%d {k: [*b]}\n"):format(i, i) end
yaml = yaml .. "deep: " .. ("["):rep(40) .. ("]"):rep(40) .. "\n"
local json = '{"s":"\\u00e9' .. ("x"):rep(5000) .. '","m":{"a":[1,2,{"b":' .. ("[1,"):rep(40) .. "1"
  .. ("]"):rep(40) .. "}]}}"

describe("out of memory", function()
  after_each(function()
    C.segue__mem_fail_at(0)
    collectgarbage("restart")
  end)

  it("while parsing is an error", function()
    starve(function() return parse(yaml, C.SEGUE__YAML) end, 20)
    starve(function() return parse(json, C.SEGUE__JSON) end, 12)
    starve(function()
      return parse("a: ${X:-1} ${Y:-" .. ("y"):rep(600) .. "}\nb: '${X:-1}'", C.SEGUE__YAML, true)
    end, 8)
  end)

  it("while a failure is reported leaves the failure or is reported itself", function()
    local base = document.live()
    for n = 1, 20 do
      C.segue__mem_fail_at(n)
      local rc = parse("a:\n  b: [1, *x]", C.SEGUE__YAML)
      C.segue__mem_fail_at(0)
      assert.is_true(rc == C.SEGUE_ESYNTAX or C.name(rc) == "ENOMEM")
      assert.equal(base, document.live())
    end
  end)

  it("while merging is an error", function()
    local a = document.good(yaml)
    local b = document.good("key1: 5\nnew: {x: {y: 1}}\nbase: {z: {w: 1}}")
    local c = document.good("new: {x: {z: 1}}\nkey2: ~\nbase: {z: {w: 2}}")
    local list = ffi.new("segue__document *[3]", { a, b, c })
    starve(function()
      local out = ffi.new("segue__config *[1]")
      local rc = C.segue__config_merge(out, list, 3, nil)
      assert.equal(rc ~= 0, out[0] == nil)
      C.segue__config_unref(out[0])
      return rc
    end, 20)
    starve(function()
      local out = ffi.new("segue__config *[1]")
      local rc = C.segue__config_merge(out, list, 0, nil)
      C.segue__config_unref(out[0])
      return rc
    end, 3)
  end)

  it("while comparing is an error", function()
    local a, b = document.good(yaml), document.good("other: {x: 1}\nkey7: [7, {x: z}]")
    starve(function()
      local changes = ffi.new("segue__changes[1]")
      local rc = C.segue__diff(a.root, b.root, changes)
      C.segue__changes_deinit(changes)
      return rc
    end, 100)
  end)

  it("while a path is parsed is an error, and while one is looked up finds nothing", function()
    starve(function()
      local path = ffi.new("segue__path[1]")
      local rc = C.segue__path_parse(path, [==[a."b\"c"[0]]==], nil)
      C.segue__path_deinit(path)
      return rc
    end, 2)
    local doc = document.good("'\"': 1")
    C.segue__mem_fail_at(1)
    assert.is_true(C.segue_node_get(doc.root, [["\""]]) == nil)
    C.segue__mem_fail_at(0)
    assert.is_false(C.segue_node_get(doc.root, [["\""]]) == nil)
  end)

  it("while writing JSON is reported by the buffer", function()
    local doc = document.good(yaml)
    starve(function()
      local buf = ffi.new("segue__buf[1]")
      C.segue__json_write(buf, doc.root, 2)
      local rc = buf[0].failed ~= 0 and -12 or 0
      C.segue__buf_deinit(buf)
      return rc
    end, 4)
  end)

  it("while building is an error", function()
    starve(function()
      local doc, b = ffi.new("segue__document *[1]"), ffi.new("segue__builder *[1]")
      local rc = C.segue__document_new(doc, 1, "s", "n", C.SEGUE__BUILT, nil, 0)
      if rc ~= 0 then return rc end
      rc = C.segue__builder_new(b, doc[0], nil)
      if rc == 0 then
        C.segue__builder_begin(b[0], C.SEGUE_MAP)
        for i = 1, 200 do
          local key = "key" .. i
          C.segue__builder_key(b[0], key, #key)
          C.segue__builder_string(b[0], key, #key)
        end
        C.segue__builder_end(b[0])
        rc = C.segue__builder_finish(b[0], nil)
        C.segue__builder_free(b[0])
      end
      C.segue__document_unref(doc[0])
      return rc
    end, 8)
  end)

  it("while publishing changes nothing", function()
    local config = document.merge(document.good("a: 1"))
    starve(function()
      local p, s = ffi.new("segue__publication *[1]"), ffi.new("segue_snapshot *[1]")
      local rc = C.segue__publication_new(p)
      if rc == 0 then
        rc = C.segue__snapshot_new(s, 1, config)
        for _ = 1, 2 do
          if rc == 0 then rc = C.segue__publish(p[0], s[0]) end
        end
        local reader = ffi.new("segue_reader *[1]")
        if rc == 0 then rc = C.segue__publication_reader(p[0], reader) end
        C.segue_reader_free(reader[0])
        C.segue_snapshot_unref(s[0])
        C.segue__publication_free(p[0])
      end
      return rc
    end, 4)
  end)

  it("while fetching is an error", function()
    local dir = tempdir.new()
    dir:write("a.yaml", "a: 1")
    dir:write("b.json", "{}")
    local os = C.segue__os_default()
    local function text(s) return ffi.new("char[?]", #s + 1, s) end
    local fields = { name = text "name", prefix = text "PA", separator = text "_",
      file = text(dir:at("a.yaml")), dir = text(dir:at("*")) }
    for kind, path in pairs { file = "file", dir = "dir", env = false } do
      local s = ffi.new("segue__source[1]")
      s[0].kind, s[0].name, s[0].format = C["segue__source_" .. kind], fields.name, -1
      s[0].prefix, s[0].separator = fields.prefix, fields.separator
      s[0].path = path and fields[path] or nil
      starve(function()
        local out, id, err = ffi.new("segue__documents[1]"), ffi.new("uint32_t[1]"), C.error()
        local rc = s[0].kind.fetch(s, os, nil, nil, id, out, err)
        if rc ~= 0 then assert.equal(rc, C.err(err).code) end
        C.segue__documents_deinit(out)
        return rc
      end, 4)
      starve(function()
        local names = ffi.new("segue__names[1]")
        local rc = s[0].kind.watch(s, names)
        C.segue__names_deinit(names)
        return rc
      end, kind == "env" and 0 or 2)
    end
    dir:remove()
  end)
end)

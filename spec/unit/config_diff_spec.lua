-- SPDX-License-Identifier: MIT
-- Structural difference: what is reported, and that its cost goes with what changed.
local C = require "spec.support.c"
local document = require "spec.support.document"
local ffi = C.ffi
local diff = document.diff

local function between(a, b)
  local from, to = document.good(a), document.good(b)
  return (diff(from.root, to.root))
end

describe("a difference", function()
  it("of equal trees is empty, whatever order their members have", function()
    assert.same({}, between("a: 1\nb: [1, {c: 2}]", "b: [1, {c: 2}]\na: 1"))
  end)

  it("names added, removed and changed values", function()
    assert.same({ "~ a 1 -> 2", "- b true", "+ c \"x\"" }, between("a: 1\nb: true", "a: 2\nc: x"))
    assert.same({ "~ m.x 1 -> 1.0", '- m."odd key" {"y":[1]}' },
      between("m: {x: 1, 'odd key': {y: [1]}, z: 0}", "m: {x: 1.0, z: 0}"))
    assert.same({ "~ a {\"b\":1} -> [1]" }, between("a: {b: 1}", "a: [1]"))
    assert.same({ "~ a null -> {}" }, between("a: ~", "a: {}"))
  end)

  it("of lists leaves out the common items at both ends", function()
    assert.same({ "+ l[0] 0" }, between("l: [1, 2, 3]", "l: [0, 1, 2, 3]"))
    assert.same({ "+ l[3] 4" }, between("l: [1, 2, 3]", "l: [1, 2, 3, 4]"))
    assert.same({ "- l[1] 2" }, between("l: [1, 2, 3]", "l: [1, 3]"))
    assert.same({ "~ l[1] 2 -> 9" }, between("l: [1, 2, 3]", "l: [1, 9, 3]"))
    assert.same({ "~ l[1] 2 -> 8", "+ l[2] 9" }, between("l: [1, 2, 3]", "l: [1, 8, 9, 3]"))
    assert.same({ "~ l[1] 2 -> 9", "- l[2] 3" }, between("l: [1, 2, 3, 4]", "l: [1, 9, 4]"))
    assert.same({ "- l[0] 1", "- l[1] 2" }, between("l: [1, 2]", "l: []"))
    assert.same({ "~ l[1].port 2 -> 3" },
      between("l: [{port: 1}, {port: 2}]", "l: [{port: 1}, {port: 3}]"))
    assert.same({ "- l[1] 1" }, between("l: [1, 1]", "l: [1]"))
  end)

  it("counts changes past the maximum, and keeps the first", function()
    local lines = {}
    for i = 1, 1500 do lines[i] = ("k%d: 1"):format(i) end
    local from, to = document.good(table.concat(lines, "\n")), document.good("{}")
    local list, total = diff(from.root, to.root)
    assert.equal(1000, #list)
    assert.equal(1500, total)
    assert.equal("- k1 1", list[1])
  end)

  it("finds one change among many in wide maps and lists, wherever it is", function()
    local lines, items = {}, {}
    for i = 0, 999 do
      lines[i + 1] = ("k%d: {v: %d}"):format(i, i)
      items[i + 1] = ("- {v: %d}"):format(i)
    end
    local function texts(at, line, item)
      local l, it = { unpack(lines) }, { unpack(items) }
      l[at + 1], it[at + 1] = line, item
      return table.concat(l, "\n"), "l:\n" .. table.concat(it, "\n")
    end
    local map, list = document.good(table.concat(lines, "\n")),
      document.good("l:\n" .. table.concat(items, "\n"))
    for _, at in ipairs { 0, 1, 63, 64, 65, 127, 128, 500, 959, 960, 998, 999 } do
      local m, l = texts(at, ("k%d: {v: x}"):format(at), "- {v: x}")
      assert.same({ ("~ k%d.v %d -> \"x\""):format(at, at) },
        (diff(map.root, document.good(m).root)))
      assert.same({ ("~ l[%d].v %d -> \"x\""):format(at, at) },
        (diff(list.root, document.good(l).root)))
      m, l = texts(at, ("n%d: 1\nk%d: {v: %d}"):format(at, at, at),
        ("- new\n- {v: %d}"):format(at))
      assert.same({ ("+ n%d 1"):format(at) }, (diff(map.root, document.good(m).root)))
      assert.same({ ("- n%d 1"):format(at) }, (diff(document.good(m).root, map.root)))
      assert.same({ ("+ l[%d] \"new\""):format(at) }, (diff(list.root, document.good(l).root)))
      assert.same({ ("- l[%d] \"new\""):format(at) }, (diff(document.good(l).root, list.root)))
    end
  end)
end)

-- Plain Lua values, changed at random; the difference must say exactly what was done.
describe("the difference of random trees", function()
  local function random_tree(depth)
    local pick = math.random(depth > 3 and 2 or 4)
    if pick <= 2 then return math.random(100) end
    local t = {}
    for i = 1, math.random(0, depth == 1 and 150 or 12) do
      t[pick == 3 and i or ("k" .. math.random(300))] = random_tree(depth + 1)
    end
    return { list = pick == 3, items = t }
  end

  local function text_of(v)
    if type(v) == "number" then return tostring(v) end
    local parts = {}
    if v.list then
      for _, item in ipairs(v.items) do parts[#parts + 1] = text_of(item) end
      return "[" .. table.concat(parts, ",") .. "]"
    end
    local keys = {}
    for k in pairs(v.items) do keys[#keys + 1] = k end
    table.sort(keys, function(a, b) return math.random() < 0.5 and a < b or a < b end)
    for _, k in ipairs(keys) do parts[#parts + 1] = ('"%s":%s'):format(k, text_of(v.items[k])) end
    return "{" .. table.concat(parts, ",") .. "}"
  end

  local function mutate(v)
    if type(v) == "number" then return math.random(3) == 1 and v + 1000 or v end
    local t = {}
    for k, item in pairs(v.items) do
      if v.list or math.random(20) ~= 1 then t[k] = math.random(8) == 1 and mutate(item) or item end
    end
    if v.list and math.random(3) == 1 then table.insert(t, math.random(#t + 1), 7777) end
    if not v.list and math.random(3) == 1 then t["new" .. math.random(99)] = 1 end
    return { list = v.list, items = t }
  end

  local function parse(v)
    return document.good('{"r":' .. text_of(v) .. "}", { format = "json" })
  end

  -- Every change is true at its path, and there are as many in either direction.
  local function check(from, to)
    local changes = ffi.new("segue__changes[1]")
    C.check(C.segue__diff(from.root, to.root, changes))
    for i = 0, tonumber(changes[0].count) - 1 do
      local c = changes[0].items[i]
      if c.from ~= nil then assert.equal(c.from, C.segue_node_get(from.root, c.path)) end
      if c.to ~= nil then assert.equal(c.to, C.segue_node_get(to.root, c.path)) end
      assert.equal(c.op == C.SEGUE__ADD, c.from == nil)
      assert.equal(c.op == C.SEGUE__REMOVE, c.to == nil)
      if c.from ~= nil and c.to ~= nil then
        assert.is_false(C.segue__node_equal(c.from, c.to))
        assert.not_equal(document.hash(c.from), document.hash(c.to))
      end
    end
    local total = tonumber(changes[0].total)
    C.segue__changes_deinit(changes)
    return total
  end

  -- Leaves that differ when maps are compared key by key (trees without lists).
  local function count(a, b)
    if type(a) == "number" or type(b) == "number" or a.list ~= b.list then
      return text_of(a) == text_of(b) and 0 or 1
    end
    local n = 0
    for k, item in pairs(a.items) do n = n + (b.items[k] and count(item, b.items[k]) or 1) end
    for k in pairs(b.items) do n = n + (a.items[k] and 0 or 1) end
    return n
  end

  local function has_list(v)
    if type(v) == "number" then return false end
    if v.list then return true end
    for _, item in pairs(v.items) do
      if has_list(item) then return true end
    end
    return false
  end

  it("is true, complete and the same in both directions", function()
    local counted = 0
    for seed = 1, 300 do
      math.randomseed(seed)
      local old = random_tree(1)
      local new = mutate(old)
      local from, to = parse(old), parse(new)
      local total = check(from, to)
      assert.equal(total, check(to, from), "seed " .. seed)
      assert.equal(document.hash(from.root) == document.hash(to.root), total == 0, "seed " .. seed)
      if not has_list(old) and not has_list(new) then
        counted = counted + 1
        assert.equal(count(old, new), total, "seed " .. seed)
      end
    end
    assert.is_true(counted > 50)
  end)
end)

-- SPDX-License-Identifier: MIT
-- A key space against a model, a plain map of Lua, over random histories: writes, removals, full
-- reads, documents that are freed in any order, and memory that fails.
local C = require "spec.support.c"
local seeds = require "spec.support.seeds"
local space = require "spec.support.space"

local names = { "a", "b", "c", "dd", "E", "0", "1", "2", "10" }
local values = { "1", "2", "x", "", "true", "1.5", "long text of some length", "null" }

local function picker(seed)
  local state = seed
  return function(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
end

-- A key of 1 to 4 parts; siblings above 64 and below.
local function key_of(pick)
  local parts = { names[pick(#names)] }
  for _ = 1, pick(4) - 1 do parts[#parts + 1] = names[pick(#names)] end
  if pick(4) == 1 then parts[#parts] = ("k%03d"):format(pick(300)) end
  return table.concat(parts, "/")
end

-- The tree of a map of keys as JSON, members in the order of their names; nil where a key is value
-- and folder.
local function model_json(map)
  local root = {}
  for key, value in pairs(map) do
    local at = root
    for part in key:gmatch("[^/]+/") do
      part = part:sub(1, -2)
      if type(at[part]) == "string" then return nil end
      at[part] = at[part] or {}
      at = at[part]
    end
    local last = key:match("[^/]+$")
    if at[last] ~= nil then return nil end
    at[last] = (value:match("^%d+$") or value:match("^%d%.%d$") or value == "true"
      or value == "null") and value or ('"%s"'):format(value)
  end
  local function write(node)
    if type(node) == "string" then return node end
    local keys, out = {}, {}
    for name in pairs(node) do keys[#keys + 1] = name end
    table.sort(keys)
    for i, name in ipairs(keys) do out[i] = ('"%s":%s'):format(name, write(node[name])) end
    return "{" .. table.concat(out, ",") .. "}"
  end
  return write(root)
end

local function copy(map)
  local new = {}
  for key, value in pairs(map) do new[key] = value end
  return new
end

-- One step of a history: the same change to the space and to the model.
local function step(s, model, pick, revision)
  local what = pick(100)
  if what <= 55 then
    local key, value = key_of(pick), values[pick(#values)]
    s:put(key, value, revision)
    model[key] = value
  elseif what <= 92 then
    local key = next(model, nil)
    for _ = 1, pick(20) do key = next(model, key) or key end
    if key then
      s:delete(key, revision)
      model[key] = nil
    end
  elseif what <= 94 then
    local prefix = names[pick(#names)] .. "/"
    s:delete_prefix(prefix)
    for key in pairs(model) do
      if key:sub(1, #prefix) == prefix then model[key] = nil end
    end
  elseif what <= 96 then
    local read, now = s:replace(), copy(model)
    for key, value in pairs(now) do
      if pick(10) == 1 then
        model[key] = nil
      else
        read:put(key, value, revision)
      end
    end
    read:done(revision)
  end
end

-- Documents that are held for a while: each must stay as it was.
local function hold(s, held, doc, json, pick)
  held[#held + 1] = { doc, json }
  if #held < 12 then return end
  local i = pick(#held)
  assert.equal(held[i][2], s:json(held[i][1]))
  s:drop(held[i][1])
  table.remove(held, i)
end

local function history(seed, steps)
  local pick, s, model, held = picker(seed), assert(space.open { prefix = "" }), {}, {}
  local refused, taken = 0, 0
  for revision = 1, steps do
    step(s, model, pick, revision)
    if pick(3) == 1 then
      local expected = model_json(model)
      local doc, err = s:take()
      if expected then
        assert.is_truthy(doc, err and err.text)
        local json = s:json(doc)
        assert.equal(expected, json, "seed " .. seed .. ", step " .. revision)
        taken = taken + 1
        hold(s, held, doc, json, pick)
      else
        assert.is_nil(doc, "seed " .. seed .. ", step " .. revision)
        refused = refused + 1
      end
    end
  end
  for _, pair in ipairs(held) do assert.equal(pair[2], s:json(pair[1])) end
  -- A patched document has the hash of one that is read at once.
  local doc = s:take()
  if doc then
    local fresh = assert(space.open { prefix = "" })
    fresh:fill(model)
    assert.equal(space.hash(fresh:take()), space.hash(doc))
    fresh:close()
  end
  s:close(pick(2) == 1)
  return taken, refused
end

describe("a key space", function()
  it("equals its model over 10,000 random changes", function()
    local live = tonumber(C.segue__mem_live())
    local all_taken, all_refused = 0, 0
    seeds.each(5, function(seed)
      local taken, refused = history(seed, 2000)
      all_taken, all_refused = all_taken + taken, all_refused + refused
    end)
    assert.is_true(all_taken + all_refused > 100)
    collectgarbage()
    assert.equal(live, tonumber(C.segue__mem_live()))
  end)

  it("keeps the document before, or has the next one, when memory fails", function()
    local live = tonumber(C.segue__mem_live())
    for n = 1, 60 do
      local s = assert(space.open { prefix = "", value_key = "_", lists = true })
      s:fill({ ["a/b"] = "1", ["a/c"] = "2", ["d/0"] = "x", ["e"] = "1" }, 1)
      local before = s:take()
      local json = s:json(before)
      C.segue__mem_fail_at(n)
      local failed = s:put("a/n/m", "5", 2) ~= 0
      failed = s:put("d/1", "y", 3) ~= 0 or failed
      failed = s:put("e/x", "7", 4) ~= 0 or failed
      failed = s:delete("a/b", 5) ~= 0 or failed
      local doc, _, rc = s:take()
      C.segue__mem_fail_at(0)
      assert.equal(json, s:json(before))
      if not doc then assert.equal("ENOMEM", C.name(rc)) end
      local after, err = s:take()
      if failed then
        assert.is_nil(after)
        assert.truthy(err.text:find("everything must be read again", 1, true), err.text)
        s:fill({ ["a/c"] = "2", ["a/n/m"] = "5", ["d/0"] = "x", ["d/1"] = "y", ["e"] = "1",
          ["e/x"] = "7" }, 6)
        after = s:take()
      end
      assert.equal('{"a":{"c":2,"n":{"m":5}},"d":["x","y"],"e":{"_":1,"x":7}}', s:json(after))
      s:close()
    end
    collectgarbage()
    assert.equal(live, tonumber(C.segue__mem_live()))
  end)

  it("follows 100,000 siblings and 100 levels", function()
    local s = assert(space.open { prefix = "/" })
    local read, deep = s:replace(), ("/d"):rep(100)
    for i = 1, 100000 do read:put(("/wide/k%06d"):format(i), "v" .. i, i) end
    read:put(deep, "bottom", 1)
    assert.equal(0, read:done("100000"))
    local first = s:take()
    assert.equal(100001, s:count())
    s:put("/wide/k050000", "changed", 100001)
    s:put("/wide/a", "first", 100002)
    s:delete("/wide/k099999", 100003)
    s:put(deep, "other", 100004)
    local second = s:take()
    local function at(doc, path) return C.str(C.segue_node_get(doc.root, path).v.s) end
    assert.equal("v50000", at(first, "wide.k050000"))
    assert.equal("changed", at(second, "wide.k050000"))
    assert.equal("v100000", at(second, "wide.k100000"))
    assert.equal("first", at(second, "wide.a"))
    assert.is_true(C.segue_node_get(second.root, "wide.k099999") == nil)
    local label = space.place(second, ("d."):rep(99) .. "d")
    assert.truthy(label:find("^%.%.%..+/d/d@100004$"), label) -- the end of a long key
    s:close()
  end)
end)

-- SPDX-License-Identifier: MIT
-- The diff of two texts: checked by patch(1), which has to make the one of the other.
local C = require "spec.support.c"
local ffi = C.ffi
local tempdir = require "spec.support.tempdir"

local function diff(before, after, o)
  o = o or {}
  local options, counts = ffi.new "segue__diff_options[1]", ffi.new "segue__diff_counts[1]"
  local buf = ffi.new "segue__buf[1]"
  C.segue__buf_init(buf)
  options[0].size = ffi.sizeof "segue__diff_options"
  options[0].before = { before, #before, o.before, o.before and #o.before or 0 }
  options[0].after = { after, #after, o.after, o.after and #o.after or 0 }
  options[0].before_name, options[0].after_name = "old", "new"
  options[0].room = o.room or 0
  local rc = C.segue__text_diff(buf, options, counts)
  local text = ffi.string(buf[0].data, buf[0].len)
  C.segue__buf_deinit(buf)
  return text, { added = tonumber(counts[0].added), removed = tonumber(counts[0].removed),
    left_out = tonumber(counts[0].left_out) }, rc
end

local dir

-- Returns the text that patch(1) makes of the first one with the diff.
local function patched(before, text)
  dir:save("old", before)
  dir:save("diff", text)
  local pipe = io.popen(("cd '%s' && patch --binary -s -F0 old diff 2>&1"):format(dir.path))
  local output = pipe:read "*a"
  pipe:close()
  return dir:read "old" or "", output
end

local function check(before, after)
  local text, counts, rc = diff(before, after)
  assert.equal(0, rc)
  if before == after then
    assert.equal("", text)
    return counts
  end
  local made, output = patched(before, text)
  assert.equal("", output)
  assert.equal(after, made)
  return counts
end

local function lines(n, make)
  local list = {}
  for i = 1, n do list[i] = make(i) end
  return table.concat(list, "\n") .. "\n"
end

describe("the diff of two texts", function()
  setup(function() dir = tempdir.new() end)
  teardown(function() dir:remove() end)

  it("has three lines around a change, and one hunk for changes that are near", function()
    local function text(change)
      return lines(30, function(i) return change[i] or "line " .. i end)
    end
    assert.equal([[
--- old
+++ new
@@ -7,7 +7,7 @@
 line 7
 line 8
 line 9
-line 10
+ten
 line 11
 line 12
 line 13
@@ -15,14 +15,14 @@
 line 15
 line 16
 line 17
-line 18
+eighteen
 line 19
 line 20
 line 21
 line 22
 line 23
 line 24
-line 25
+twenty-five
 line 26
 line 27
]] .. " line 28\n", (diff(text {}, text { [10] = "ten", [18] = "eighteen", [25] = "twenty-five" })))
  end)

  it("is right at both ends, for empty texts and for a last line without its end", function()
    for _, pair in ipairs {
      { "", "a\n" }, { "a\n", "" }, { "", "a" }, { "a", "a\n" }, { "a\n", "a" }, { "a", "b" },
      { "a\nb", "a\nb\nc" }, { "x\na\n", "a\n" }, { "a\n", "x\na\n" }, { "\n", "\n\n" },
      { "a\r\nb\r\n", "a\r\nc\r\n" }, { "same", "same" }, { "", "" },
    } do
      check(pair[1], pair[2])
    end
  end)

  it("makes the new text of the old one for random texts, by patch(1)", function()
    math.randomseed(20261130)
    for round = 1, 150 do
      local words = math.random(1, 12)
      local list = {}
      for i = 1, math.random(0, 60) do list[i] = "word" .. math.random(words) .. "\n" end
      local before = table.concat(list)
      for _ = 1, math.random(0, 12) do
        local at = math.random(1, #list + 1)
        if math.random() < 0.5 then
          table.insert(list, at, "word" .. math.random(words) .. "\n")
        else
          table.remove(list, math.min(at, math.max(#list, 1)))
        end
      end
      local after = table.concat(list)
      if round % 5 == 0 then after = after:gsub("\n$", "") end
      check(before, after)
    end
  end)

  it("is as short as it can be for small changes", function()
    local before = lines(2000, function(i) return "line " .. i % 7 end)
    local after = before:gsub("line 3", "line three", 1):gsub("line 5\nline 6\n", "line 5\n", 1)
    assert.same({ added = 1, removed = 2, left_out = 0 }, (check(before, after)))
  end)

  it("ends soon for 100,000 lines that have moved, changed or have nothing in common", function()
    local before = lines(100000, function(i) return "line " .. i end)
    local turned = lines(100000, function(i) return "line " .. 100001 - i end)
    local few = lines(100000, function(i) return i % 2 == 0 and "{" or "}" end)
    local mixed = lines(100000, function(i) return i * i % 65537 % 3 == 0 and "{" or "}" end)
    local other = lines(100000, function(i) return "other " .. i end)
    for _, pair in ipairs { { before, turned }, { few, mixed }, { before, other } } do
      local cpu = os.clock()
      check(pair[1], pair[2])
      assert.is_true(os.clock() - cpu < 20)
    end
  end)

  it("prints the lines to show in place of those that it compares", function()
    local text = diff("a\nsecret1\n", "a\nsecret2\n", { before = "a\n***\n", after = "a\n***\n" })
    assert.equal("--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-***\n+***\n", text)
    local _, _, rc = diff("a\nb\n", "a\n", { before = "a\n" })
    assert.equal("EINVAL", C.name(rc))
  end)

  it("keeps to its room and counts the lines that are left out", function()
    local before = lines(500, function(i) return "a" .. i end)
    local after = lines(500, function(i) return "b" .. i end)
    local text, counts = diff(before, after, { room = 1000 })
    assert.is_true(#text <= 1000)
    local printed = select(2, text:gsub("\n", "")) - 3
    assert.same({ added = 500, removed = 500, left_out = 1000 - printed }, counts)
    text, counts = diff("", ("x"):rep(100000) .. "\n", { room = 4096 })
    assert.is_true(#text < 200)
    assert.same({ added = 1, removed = 0, left_out = 1 }, counts)
  end)

  it("refuses texts that are too long", function()
    for _, text in ipairs { ("x"):rep(8 * 1024 * 1024 + 1), ("\n"):rep(400001) } do
      assert.equal(C.SEGUE_ELIMIT, (select(3, diff(text, ""))))
    end
  end)

  it("fails without memory, and leaves nothing behind", function()
    local before = lines(50, tostring)
    local after = lines(60, function(i) return tostring(i * 3 % 50) end)
    local base, n, rc = tonumber(C.segue__mem_live()), 0
    repeat
      n = n + 1
      C.segue__mem_fail_at(n)
      rc = select(3, diff(before, after, { before = before, after = after }))
      C.segue__mem_fail_at(0)
      assert.equal(base, tonumber(C.segue__mem_live()), "allocation " .. n .. " left something")
      if rc ~= 0 then assert.equal("ENOMEM", C.name(rc), "allocation " .. n) end
    until rc == 0
    assert.is_true(n > 10)
  end)
end)

-- SPDX-License-Identifier: MIT
-- Differences of several reloads as one: checked by patch(1), over random versions of a text.
local C = require "spec.support.c"
local ffi = C.ffi
local tempdir = require "spec.support.tempdir"

local dir

-- The unified diff of two texts as a reload keeps it; text nil: there is no file.
local function diff(before, after)
  local options, counts = ffi.new "segue__diff_options[1]", ffi.new "segue__diff_counts[1]"
  local buf = ffi.new "segue__buf[1]"
  C.segue__buf_init(buf)
  options[0].size = ffi.sizeof "segue__diff_options"
  options[0].before = { before or "", #(before or ""), nil, 0 }
  options[0].after = { after or "", #(after or ""), nil, 0 }
  options[0].before_name = before and "f" or "/dev/null"
  options[0].after_name = after and "f" or "/dev/null"
  C.check(C.segue__text_diff(buf, options, counts))
  local text = buf[0].len > 0 and ffi.string(buf[0].data, buf[0].len) or nil
  C.segue__buf_deinit(buf)
  return text
end

local function side(text)
  if not text then return { exists = false } end
  local hash = C.segue__hash_bytes(text, #text, ffi.new "segue__hash")
  local hex = ffi.new "char[33]"
  C.segue__hash_hex(hash, hex)
  return { exists = true, mode = tonumber("644", 8), size = #text, hash = ffi.string(hex) }
end

-- One reload: a list of { path, before, after, and fields that replace the computed ones }.
local function reload(fold, list)
  local items, strings = ffi.new("segue__file_change[?]", #list), {}
  local function text(s)
    if not s then return nil end
    strings[#strings + 1] = ffi.new("char[?]", #s + 1, s)
    return strings[#strings]
  end
  for i, file in ipairs(list) do
    local item = items[i - 1]
    item.module, item.path = text "web", text(file[1])
    item.before, item.after = side(file[2]), side(file[3])
    local shown = file.diff
    if shown == nil then shown = diff(file[2], file[3]) end
    item.diff, item.note = text(shown or nil), text(file.note)
    item.left_out = file.left_out or 0
    if file.mode then item.after.mode = file.mode end
  end
  return C.segue__file_fold_add(fold, ffi.new("segue__file_changes[1]", { { items, #list } })),
    strings
end

-- Folds a list of reloads. Returns the entries of the result.
local function fold(reloads, backward)
  local out = ffi.new "segue__file_fold *[1]"
  C.check(C.segue__file_fold_new(out))
  for _, list in ipairs(reloads) do C.check((reload(out[0], list))) end
  local changes, entries = ffi.new "segue__file_changes[1]", {}
  C.check(C.segue__file_fold_finish(out[0], backward or false, changes))
  for i = 0, tonumber(changes[0].count) - 1 do
    local item = changes[0].items[i]
    entries[#entries + 1] = { path = ffi.string(item.path), before = item.before.exists,
      after = item.after.exists, diff = item.diff ~= nil and ffi.string(item.diff) or nil,
      note = item.note ~= nil and ffi.string(item.note) or nil,
      added = tonumber(item.added), removed = tonumber(item.removed),
      left_out = tonumber(item.left_out), mode = item.after.mode }
  end
  C.segue__file_changes_deinit(changes)
  C.segue__file_fold_free(out[0])
  return entries
end

-- The reloads that take one file through these versions; false: there is no file.
local function through(versions)
  local reloads = {}
  for i = 2, #versions do
    if versions[i] ~= versions[i - 1] then
      reloads[#reloads + 1] = { { "f", versions[i - 1] or nil, versions[i] or nil } }
    end
  end
  return reloads
end

-- Returns the text that patch(1) makes; nil where there is no file afterwards.
local function patched(before, text)
  os.remove(dir:at "f")
  if before then dir:save("f", before) end
  dir:save("diff", text)
  local pipe = io.popen(("cd '%s' && patch --binary -s -F0 -E f diff 2>&1"):format(dir.path))
  local said = pipe:read "*a"
  pipe:close()
  assert.equal("", said, text)
  return dir:read "f"
end

local function check(versions)
  for _, backward in ipairs { false, true } do
    local first, last = versions[1], versions[#versions]
    if backward then first, last = last, first end
    local entries = fold(through(versions), backward)
    if first == last then
      assert.same({}, entries)
    elseif (first or "") == "" and (last or "") == "" then
      assert.is_nil(entries[1].diff)
    else
      assert.equal(1, #entries)
      assert.is_nil(entries[1].note)
      local made = patched(first, entries[1].diff)
      if last == "" then made = made or "" end -- patch -E removes a file without content
      assert.equal(last or nil, made)
      local _, added = (entries[1].diff:gsub("^[^\n]*\n[^\n]*", "")):gsub("\n%+", "")
      assert.equal(added, entries[1].added)
    end
  end
end

describe("the fold of differences", function()
  setup(function() dir = tempdir.new() end)
  teardown(function() dir:remove() end)

  it("is one difference from the first version to the last one", function()
    local function lines(list) return table.concat(list, "\n") .. "\n" end
    local base = {}
    for i = 1, 30 do base[i] = "line " .. i end
    local a, b, c = { unpack(base) }, { unpack(base) }, { unpack(base) }
    b[5] = "changed"
    c[5], c[20] = "line 5", "far"
    local entries = fold(through { lines(a), lines(b), lines(c) })
    assert.equal([[
--- f
+++ f
@@ -17,7 +17,7 @@
 line 17
 line 18
 line 19
-line 20
+far
 line 21
 line 22
 line 23
]], entries[1].diff)
    assert.same({ 1, 1 }, { entries[1].added, entries[1].removed })
  end)

  it("makes the last version of the first one, and the first one of the last one", function()
    math.randomseed(7)
    local words = { "a", "b", "c", "server x", "server y", "-- x", "++ y", "@@ -1 +1 @@", "" }
    local function random_text()
      local list = {}
      for i = 1, math.random(0, 25) do list[i] = words[math.random(#words)] end
      return table.concat(list, "\n") .. (math.random(4) > 1 and #list > 0 and "\n" or "")
    end
    local function changed(text)
      local list = {}
      for line in (text .. "\n"):gmatch("(.-)\n") do
        local what = math.random(12)
        if what == 1 then list[#list + 1] = words[math.random(#words)] end
        if what ~= 2 then list[#list + 1] = what == 3 and words[math.random(#words)] or line end
      end
      return table.concat(list, "\n")
    end
    for _ = 1, 60 do
      local versions = { math.random(6) > 1 and random_text() }
      for i = 2, math.random(2, 6) do
        local last = versions[i - 1]
        local what = math.random(8)
        if what == 1 then versions[i] = false
        elseif what == 2 then versions[i] = random_text()
        elseif what == 3 then versions[i] = versions[1]
        else versions[i] = last and changed(last) or random_text() end
      end
      check(versions)
    end
  end)

  it("never takes two masked lines for equal ones", function()
    local before, after = "pw one\nend\n", "pw two\nend\n"
    local masked = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n-pw ***\n+pw ***\n end\n"
    local entries = fold { { { "f", before, after, diff = masked } },
      { { "f", after, "pw six\nend\n", diff = masked } } }
    assert.equal(masked, entries[1].diff)
    assert.same({}, fold { { { "f", before, after, diff = masked } },
      { { "f", after, before, diff = masked } } })
  end)

  it("keeps files apart, and shows a changed mode", function()
    local entries = fold { { { "/a", "1\n", "2\n" }, { "/b", "1\n", "2\n" } },
      { { "/b", "2\n", "1\n" }, { "/c", nil, "new\n" } }, { { "/b", "1\n", "1\n", mode = 384 } } }
    assert.same({ "/a", "/b", "/c" }, { entries[1].path, entries[2].path, entries[3].path })
    assert.is_nil(entries[2].diff)
    assert.equal(384, entries[2].mode)
    assert.equal("--- /dev/null\n+++ /c\n@@ -0,0 +1 @@\n+new\n", entries[3].diff)
  end)

  it("has the reason in place of a difference that is not known", function()
    for reason, last in pairs {
      ["another program changed it in between"] = { "f", "other\n", "3\n" },
      ["only a part of its differences"] = { "f", "2\n", "3\n", left_out = 4 },
      ["^binary$"] = { "f", "2\n", "3\n", diff = false, note = "binary" },
      ["has only a part"] = { "f", "2\n", "3\n", diff = "--- f\n+++ f\n@@ -1 +1 @@\n*2\n" },
    } do
      local entries = fold { { { "f", "1\n", "2\n" } }, { last } }
      assert.matches(reason, entries[1].note)
      assert.is_nil(entries[1].diff)
    end
    local cut = ("@@ -9 +9 @@\n+x\n@@ -2 +2 @@\n+x\n")
    assert.truthy(fold({ { { "f", "1\n", "2\n", diff = "--- f\n+++ f\n" .. cut } } })[1].note)
  end)

  it("ends with an error where the lines of all reloads are too much work", function()
    local out = ffi.new "segue__file_fold *[1]"
    C.check(C.segue__file_fold_new(out))
    local long = ("x\n"):rep(200000)
    local list, codes = { { "f", "", long,
      diff = "--- f\n+++ f\n@@ -0,0 +1,200000 @@\n" .. ("+x\n"):rep(200000) } }, {}
    C.check((reload(out[0], list)))
    local there = { { "f", long, long .. "y\n",
      diff = "--- f\n+++ f\n@@ -200000 +200000,2 @@\n x\n+y\n" } }
    local back = { { "f", long .. "y\n", long,
      diff = "--- f\n+++ f\n@@ -200000,2 +200000 @@\n x\n-y\n" } }
    for i = 1, 30 do codes[i] = reload(out[0], i % 2 == 1 and there or back) end
    C.segue__file_fold_free(out[0])
    assert.equal(0, codes[20])
    assert.equal("SEGUE_ELIMIT", C.name(codes[30]))
  end)

  it("ends with an error where memory runs out", function()
    local reloads = through { "a\nb\n", "a\nc\n", "d\nc\n", "d\nc\ne\n" }
    local failed, n = 0, 1
    repeat
      local out, changes = ffi.new "segue__file_fold *[1]", ffi.new "segue__file_changes[1]"
      local before = tonumber(C.segue__mem_live())
      local prepared = reloads
      for _, list in ipairs(prepared) do list[1].diff = diff(list[1][2], list[1][3]) end
      C.segue__mem_fail_at(n)
      local rc = C.segue__file_fold_new(out)
      for _, list in ipairs(prepared) do
        if rc == 0 then rc = reload(out[0], list) end
      end
      if rc == 0 then rc = C.segue__file_fold_finish(out[0], false, changes) end
      C.segue__mem_fail_at(0)
      C.segue__file_changes_deinit(changes)
      C.segue__file_fold_free(out[0])
      assert.equal(before, tonumber(C.segue__mem_live()))
      failed, n = failed + (rc < 0 and 1 or 0), n + 1
    until rc == 0
    assert.is_true(failed > 10)
  end)
end)

-- SPDX-License-Identifier: MIT
-- The last good generation of large deliveries: what is written of a change, and what a start finds
-- after each kind of interruption.
local C = require "spec.support.c"
local Record = require "spec.support.record"
local ffi = C.ffi

local dir
Record.for_each_spec(function(folder) dir = folder end)

-- 10,000 keys; those of `changed` have the value of the table.
local function large(changed)
  local lines = {}
  for k = 1, 10000 do
    lines[k] = ("key%05d: %d\n"):format(k, changed and changed[k] or k * 7919)
  end
  return table.concat(lines)
end

local function slots()
  local s = Record.slots(dir.path, "last-good")
  C.check(C.segue__two_slot_file_log(s, dir.path, "last-good"))
  return s
end

local function write(s, generation, text)
  local info = ffi.new("segue__last_good[1]", { { generation = generation } })
  local files = Record.files { ["source:net"] = text, ["/reload.lua"] = "return {}" }
  local rc = C.segue__last_good_write(s, info, files)
  C.segue__files_unref(files)
  return rc
end

-- Returns the generation that a start finds, and its text.
local function start(s)
  local info, files = ffi.new("segue__last_good[1]"), ffi.new("segue__files *[1]")
  local rc = C.segue__last_good_read(s or slots(), info, files)
  if rc < 0 then return nil, C.name(rc) end
  local generation = tonumber(info[0].generation)
  C.segue__last_good_deinit(info)
  return generation, Record.file_table(files[0])["source:net"]
end

local function bytes(name) return #(dir:read(name) or "") end

local function overwrite(name, text)
  local file = assert(io.open(dir:at(name), "wb"))
  file:write(text)
  file:close()
end

-- Writes generation 1 as a whole and 2 to n as changes.
local function filled(n)
  local s, changed = slots(), {}
  for generation = 1, n do
    changed[generation * 37] = generation
    C.check(write(s, generation, large(changed)))
  end
  return s, changed
end

describe("a large last good generation", function()
  it("that changes a little is written as its changes, and found at a start", function()
    local s, changed = filled(20)
    assert.is_true(bytes "last-good.a" > 150000)
    assert.equal(0, bytes "last-good.b")
    assert.is_true(bytes "last-good.log" < 20 * 8000, tostring(bytes "last-good.log"))
    local generation, text = start()
    assert.equal(20, generation)
    assert.equal(large(changed), text)
    generation, text = start(s) -- the writer itself, while it continues
    assert.equal(20, generation)
    assert.equal(large(changed), text)
    C.check(write(s, 21, large { [1] = -1 }))
    generation, text = start()
    assert.equal(21, generation)
    assert.equal(large { [1] = -1 }, text)
  end)

  it("is found over a random history of insertions, removals and whole replacements", function()
    local s, random = slots(), 7
    local function pick(n)
      random = (random * 1103515245 + 12345) % 2147483648
      return math.floor(random / 65536) % n
    end
    local text = large()
    for generation = 1, 120 do
      local at, what = 1 + pick(#text), pick(10)
      if what == 0 then
        text = large { [pick(10000)] = generation }
      elseif what < 5 then
        text = text:sub(1, at) .. ("x"):rep(pick(5000)) .. text:sub(at + 1)
      else
        text = text:sub(1, at) .. text:sub(at + pick(3000))
      end
      C.check(write(s, generation, text))
      if generation % 10 == 0 then
        local found, content = start()
        assert.equal(generation, found)
        assert.is_true(content == text)
      end
    end
  end)

  it("begins a new base when the log is as large as it", function()
    local s = slots()
    for generation = 1, 12 do
      local changed = {}
      for k = 1, 10000, 20 do changed[k] = generation end
      C.check(write(s, generation, large(changed)))
    end
    assert.is_true(bytes "last-good.b" > 150000)
    assert.is_true(bytes "last-good.log" <= 200000, tostring(bytes "last-good.log"))
    assert.equal(12, (start()))
  end)

  it("cut short at any byte of its last change leaves the generation before", function()
    local _, changed = filled(3)
    local log = dir:read "last-good.log"
    filled(2)
    local before = bytes "last-good.log"
    changed[3 * 37] = nil
    for cut = before, #log - 1, 97 do
      overwrite("last-good.log", log:sub(1, cut))
      local generation, text = start()
      assert.equal(2, generation)
      assert.equal(large(changed), text)
    end
    overwrite("last-good.log", log)
    assert.equal(3, (start()))
  end)

  it("with a damaged change leaves the generation before it", function()
    filled(5)
    local log = dir:read "last-good.log"
    local middle = math.floor(#log / 2)
    local byte = string.char((log:byte(middle) + 1) % 256)
    overwrite("last-good.log", log:sub(1, middle - 1) .. byte .. log:sub(middle + 1))
    local generation = start()
    assert.is_true(generation >= 1 and generation < 5, tostring(generation))
  end)

  it("does not follow the log of another base", function()
    local s = filled(3)
    local log = dir:read "last-good.log"
    for generation = 4, 5 do
      local text = large { [generation] = generation }
      C.check(write(slots(), generation, text)) -- each process begins with a whole value
    end
    overwrite("last-good.log", log)
    assert.equal(5, (start()))
    assert.is_truthy(s)
  end)

  it("is written as a whole where the files were deleted meanwhile", function()
    local s = filled(2)
    for _, name in ipairs { "last-good.a", "last-good.log" } do os.remove(dir:at(name)) end
    C.check(write(s, 3, large { [5] = 5 }))
    assert.equal(3, (start()))
    os.remove(dir:at "last-good.log")
    C.check(write(s, 4, large { [5] = 6 }))
    assert.equal(4, (start()))
  end)

  it("is written as a whole where its log was cut meanwhile", function()
    local s = filled(3)
    overwrite("last-good.log", dir:read("last-good.log"):sub(1, 24)) -- its head
    C.check(write(s, 4, large { [5] = 6 }))
    assert.equal(4, (start()))
  end)

  for _, point in ipairs { "last_good.log", "last_good.log_sync" } do
    it("is written as a whole where " .. point .. " fails", function()
      local s = filled(3)
      C.check(C.segue__fault_arm(point .. "=fail:-5"))
      C.check(write(s, 4, large { [5] = 5 }))
      C.segue__fault_arm(nil)
      local generation, text = start()
      assert.equal(4, generation)
      assert.equal(large { [5] = 5 }, text)
    end)
  end

  it("that the disk refuses in both ways stays the one before", function()
    local s, changed = filled(3)
    C.check(C.segue__fault_arm("last_good.log_sync=fail:-28,last_good.write=fail:-28"))
    assert.equal("ENOSPC", C.name(write(s, 4, large { [5] = 5 })))
    C.segue__fault_arm(nil)
    local generation, text = start()
    assert.equal(3, generation)
    assert.equal(large(changed), text)
    C.check(write(s, 5, large { [5] = 6 }))
    assert.equal(5, (start()))
  end)

  it("is not written through a symbolic link", function()
    dir:write("victim", "mine")
    dir:link("victim", "last-good.log")
    local s = filled(2)
    assert.equal("mine", dir:read "victim")
    assert.equal(2, (start(s)))
  end)

  it("needs memory, and fails with ENOMEM or not at all", function()
    local s = filled(2)
    collectgarbage "stop"
    local n = 0
    repeat
      n = n + 1
      local text = large { [n] = -n }
      C.segue__mem_fail_at(n + 8)
      local rc = write(s, n + 2, text)
      C.segue__mem_fail_at(0)
      assert.is_true(rc == 0 or C.name(rc) == "ENOMEM")
      if rc == 0 then assert.equal(n + 2, (start())) end
    until n > 40
    collectgarbage "restart"
  end)
end)

-- SPDX-License-Identifier: MIT
-- Memory: allocations that can be made to fail, the arena, the growing buffer.
local C = require "spec.support.c"
local ffi = C.ffi
ffi.cdef "int mincore(void *address, size_t length, unsigned char *out);"

describe("the failing allocator", function()
  after_each(function() C.segue__mem_fail_at(0) end)

  it("fails exactly the n-th call", function()
    C.segue__mem_fail_at(2)
    local a, b, c = C.segue__malloc(8), C.segue__malloc(8), C.segue__malloc(8)
    assert.is_false(a == nil)
    assert.is_true(b == nil)
    assert.is_false(c == nil)
    C.segue__free(a)
    C.segue__free(c)
  end)

  local function pattern_of(n)
    local text = ""
    for _ = 1, n do
      local p = C.segue__malloc(8)
      text = text .. (p == nil and "x" or ".")
      C.segue__free(p)
    end
    return text
  end

  it("fails a burst of calls", function()
    C.segue__mem_fail_burst(3, 4)
    assert.equal("..xxxx....", pattern_of(10))
    C.segue__mem_fail_burst(1, 100)
    C.segue__mem_fail_at(0)
    assert.equal("...", pattern_of(3))
  end)

  it("fails random bursts until they are switched off, other ones with another seed", function()
    local patterns = {}
    for seed = 1, 8 do
      C.segue__mem_fail_random(seed, 20)
      local pattern = pattern_of(400)
      C.segue__mem_fail_at(0)
      assert.is_nil(patterns[pattern])
      patterns[pattern] = true
      local _, failed = pattern:gsub("x", "")
      assert.is_true(failed > 20 and failed < 250, pattern)
      assert.matches("xx", pattern)
      assert.equal("....................", pattern_of(20))
    end
  end)

  it("counts what is not yet freed", function()
    local before = C.segue__mem_live()
    local p = C.segue__calloc(3, 5)
    assert.equal(before + 1, C.segue__mem_live())
    C.segue__free(p)
    assert.equal(before, C.segue__mem_live())
  end)
end)

describe("a large block", function()
  it("returns its pages to the system when it is freed, wherever it lies", function()
    ffi.cdef "int mallopt(int option, int value);"
    local M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
    ffi.C.mallopt(M_MMAP_THRESHOLD, 2 ^ 30) -- in a heap, whose end is never trimmed
    ffi.C.mallopt(M_TRIM_THRESHOLD, 2 ^ 30)
    local size, there = 4 * 2 ^ 20, ffi.new("unsigned char[1]")
    local block = C.segue__malloc(size)
    ffi.fill(block, size, 1)
    local middle = ffi.cast("uintptr_t", block) + size / 2
    local page = ffi.cast("void *", middle - middle % 65536)
    assert.equal(0, ffi.C.mincore(page, 1, there))
    assert.equal(1, there[0] % 2)
    C.segue__free(block)
    local unmapped = ffi.C.mincore(page, 1, there) ~= 0 -- by a sanitizer's allocator
    assert.is_true(unmapped or there[0] % 2 == 0)
  end)
end)

describe("the arena", function()
  it("returns aligned memory that does not overlap and is freed as a whole", function()
    local before = C.segue__mem_live()
    local arena = C.new("segue__arena[1]")
    C.segue__arena_init(arena)
    local seen = {}
    for i = 1, 2000 do
      local p = ffi.cast("char *", C.segue__arena_alloc(arena, i % 97 + 1))
      assert.equal(0, tonumber(ffi.cast("uintptr_t", p) % 8))
      ffi.fill(p, i % 97 + 1, i % 251)
      seen[i] = p
    end
    for i = 1, 2000 do
      for k = 0, i % 97 do assert.equal(i % 251, seen[i][k] % 256) end
    end
    C.segue__arena_deinit(arena)
    assert.equal(before, C.segue__mem_live())
  end)

  it("serves a request larger than its largest block", function()
    local arena = C.new("segue__arena[1]")
    C.segue__arena_init(arena)
    local p = C.segue__arena_alloc(arena, 1000000)
    assert.is_false(p == nil)
    ffi.fill(p, 1000000, 1)
    C.segue__arena_deinit(arena)
  end)

  it("returns the pages of its large blocks to the system at once", function()
    local arena, there = C.new("segue__arena[1]"), ffi.new("unsigned char[1]")
    C.segue__arena_init(arena)
    for _ = 1, 64 do C.segue__arena_alloc(arena, 65536) end
    local page = ffi.cast("void *", ffi.cast("uintptr_t", arena[0].head))
    local mincore = ffi.C.mincore
    assert.equal(0, mincore(page, 1, there))
    C.segue__arena_deinit(arena)
    assert.equal(-1, mincore(page, 1, there)) -- ENOMEM: nothing is mapped there
  end)

  it("refuses a size that would overflow", function()
    local arena = C.new("segue__arena[1]")
    C.segue__arena_init(arena)
    assert.is_true(C.segue__arena_alloc(arena, ffi.cast("size_t", -1)) == nil)
    C.segue__arena_deinit(arena)
  end)
end)

describe("the buffer", function()
  local buf
  before_each(function()
    buf = C.new("segue__buf[1]")
    C.segue__buf_init(buf)
  end)
  after_each(function()
    C.segue__mem_fail_at(0)
    C.segue__buf_deinit(buf)
  end)

  it("grows and stays terminated", function()
    for i = 1, 1000 do C.segue__buf_addf(buf, "%d,", ffi.cast("int", i)) end
    C.segue__buf_addc(buf, string.byte("."))
    C.segue__buf_adds(buf, "end")
    local text = C.buf(buf[0])
    assert.equal("1,2,3,", text:sub(1, 6))
    assert.equal("1000,.end", text:sub(-9))
    assert.equal(0, buf[0].data[buf[0].len])
  end)

  it("formats a text longer than its scratch space", function()
    local long = ("x"):rep(5000)
    C.segue__buf_addf(buf, "<%s>", long)
    assert.equal("<" .. long .. ">", C.buf(buf[0]))
  end)

  it("remembers a failed append and ignores what follows", function()
    C.segue__buf_adds(buf, "kept")
    C.segue__mem_fail_at(1)
    C.segue__buf_add(buf, ("y"):rep(1000), 1000)
    C.segue__buf_adds(buf, "lost")
    assert.equal(1, buf[0].failed)
    assert.equal("kept", C.buf(buf[0]))
  end)
end)

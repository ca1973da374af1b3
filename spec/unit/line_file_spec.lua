-- SPDX-License-Identifier: MIT
-- The file under a log (core/os/line_file.h).
local C = require "spec.support.c"
local borrowed = require "spec.support.borrowed"
local file = require "spec.support.file"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local EAGAIN, ENOENT, ENXIO, ENOSPC = -11, -2, -6, -28
local LINES = 2000 -- 100 KB, more than a pipe holds
local TEXT = (("x"):rep(49) .. "\n"):rep(LINES)

describe("the file under a log", function()
  local dir, log
  before_each(function()
    dir = tempdir.new()
    log = borrowed.keep(ffi.new "segue__line_file")
    log.fd = -1
  end)
  after_each(function()
    C.segue__line_file_close(log)
    tempdir.remove_all()
  end)

  local MODE = tonumber("640", 8)
  local function open(name) return C.segue__line_file_open(log, dir:at(name), MODE) end
  local function write(text)
    local lost = ffi.new "size_t[1]"
    return C.segue__line_file_write(log, text, #text, lost), tonumber(lost[0])
  end
  local function fifo()
    assert(os.execute("mkfifo " .. dir:at "pipe") == 0)
    return assert(uv.fs_open(dir:at "pipe", uv.constants.O_RDONLY + uv.constants.O_NONBLOCK, 0))
  end
  local function drain(fd)
    local all = {}
    for chunk in function() return (uv.fs_read(fd, 65536, -1)) end do
      all[#all + 1] = chunk
      if #chunk == 0 then break end
    end
    return table.concat(all)
  end

  it("is created, appended to, and kept from other users", function()
    assert.equal(0, open "log")
    assert.equal(0, (write "one\n"))
    assert.equal(0, open "log")
    assert.equal(0, (write "two\n"))
    assert.equal("one\ntwo\n", file.read(dir:at "log"))
    assert.equal(0, uv.fs_stat(dir:at "log").mode % 8)
    assert.is_true(log.is_regular)
  end)

  it("stays in use where it cannot be opened again", function()
    assert.equal(0, open "log")
    local fd = log.fd
    assert.equal(ENOENT, open "none/log")
    assert(os.execute("mkfifo " .. dir:at "pipe") == 0)
    assert.equal(ENXIO, open "pipe") -- at once: the pipe has no reader
    assert.equal(fd, log.fd)
    assert.equal(0, (write "one\n"))
    assert.equal("one\n", file.read(dir:at "log"))
  end)

  it("is known to be deleted, but not to be moved", function()
    assert.equal(0, open "log")
    assert.is_false(C.segue__line_file_is_deleted(log))
    assert(os.rename(dir:at "log", dir:at "log.1"))
    assert.is_false(C.segue__line_file_is_deleted(log))
    assert(os.remove(dir:at "log.1"))
    assert.is_true(C.segue__line_file_is_deleted(log))
    assert.equal(0, open "log")
    assert.is_false(C.segue__line_file_is_deleted(log))
  end)

  it("counts the lines that are not whole, and begins a new line after a torn one", function()
    local reader = fifo()
    assert.equal(0, open "pipe")
    local rc, lost = write(TEXT)
    local got = drain(reader)
    local _, whole = got:gsub("\n", "")
    assert.same({ EAGAIN, LINES - whole }, { rc, lost })
    assert.equal(got:sub(-1) ~= "\n", log.torn)
    assert.is_true(log.torn and #got % 50 ~= 0)
    assert.equal(0, (write "next\n"))
    assert.equal("\nnext\n", drain(reader))
    assert.equal(0, (write "later\n"))
    assert.equal("later\n", drain(reader))
    assert.equal(#got + #"\nnext\nlater\n", tonumber(log.bytes))
    uv.fs_close(reader)
  end)

  it("stays torn while not even the new line can be written", function()
    local reader = fifo()
    assert.equal(0, open "pipe")
    local rc = write(TEXT)
    local rc_2, lost = write "next\n"
    assert.same({ EAGAIN, EAGAIN, 1 }, { rc, rc_2, lost })
    drain(reader)
    assert.equal(0, (write "later\n"))
    assert.equal("\nlater\n", drain(reader))
    uv.fs_close(reader)
  end)

  it("gets the rest of a line where its owner tries again", function()
    local reader, got, calls = fifo(), {}, 0
    log.again = borrowed.keep(ffi.cast("bool (*)(void *, int)", function(_, error)
      calls = calls + 1
      assert(error == EAGAIN)
      got[#got + 1] = drain(reader)
      return true
    end))
    assert.equal(0, open "pipe")
    local rc, lost = write(TEXT)
    got[#got + 1] = drain(reader)
    assert.same({ 0, 0 }, { rc, lost })
    assert.is_true(calls > 0 and table.concat(got) == TEXT)
    log.again = nil
    uv.fs_close(reader)
  end)

  it("reports a full disk, and is as new after it was opened elsewhere", function()
    assert.equal(0, C.segue__line_file_open(log, "/dev/full", 0))
    assert.is_false(log.is_regular)
    local rc, lost = write "one\ntwo\n"
    assert.same({ ENOSPC, 2 }, { rc, lost })
    assert.equal(0, open "log")
    assert.equal(0, (write "three\n"))
    assert.equal("three\n", file.read(dir:at "log"))
  end)
end)

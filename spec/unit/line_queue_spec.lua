-- SPDX-License-Identifier: MIT
-- Queues of lines and the thread that writes them (core/os/line_queue.h), and the file under it
-- (core/os/line_file.h).
local C = require "spec.support.c"
local borrowed = require "spec.support.borrowed"
local file = require "spec.support.file"
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"
local ffi = C.ffi

local EAGAIN = -11
local QUEUE = 65536

describe("a queue of lines", function()
  local queue
  before_each(function()
    local memory = borrowed.keep(ffi.new("uint64_t[?]", QUEUE / 8))
    local writer = borrowed.keep(ffi.new "segue__line_writer")
    queue = borrowed.keep(ffi.new "segue__line_queue")
    C.segue__line_queue_init(queue, memory, QUEUE, writer)
  end)
  after_each(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  local function put(text)
    local line = ffi.new "segue__line_put"
    line.text, line.len, line.time_ns = text, #text, #text
    return C.segue__line_queue_put(queue, line)
  end

  -- The text of the first line and the lines that were lost before it; nil if there is none.
  local function take()
    local record = C.segue__line_queue_get(queue)
    if record == nil then return nil end
    local text, lost = ffi.string(record.text, record.len), record.lost
    assert.equal(#text, tonumber(record.time_ns))
    C.segue__line_queue_next(queue)
    return text, lost
  end

  local function fill(text)
    local count = 0
    while put(text) == 0 do count = count + 1 end
    return count
  end

  it("gives lines of any length in their order, also past the end of its memory", function()
    local first, last = 1, 0
    for round = 1, 400 do
      for _ = 1, round % 7 + 1 do
        last = last + 1
        assert.equal(0, put(("%d "):format(last) .. ("x"):rep(last * 37 % 3000)))
      end
      while first <= last - round % 3 do
        assert.equal(("%d "):format(first) .. ("x"):rep(first * 37 % 3000), (take()))
        first = first + 1
      end
    end
    while first <= last do
      assert.equal(first, tonumber(take():match "^%d+"))
      first = first + 1
    end
    assert.is_nil(take())
    assert.is_true(C.segue__line_queue_is_empty(queue))
  end)

  it("refuses a line without room, and accepts it when one was taken", function()
    local count = fill(("x"):rep(1000))
    assert.is_true(count > 60 and count * 1000 <= QUEUE, count)
    assert.equal(EAGAIN, put(("x"):rep(1000)))
    take()
    assert.equal(0, put(("x"):rep(1000)))
    assert.equal(EAGAIN, put(("x"):rep(1000)))
    for _ = 1, count do assert.equal(1000, #take()) end
    assert.is_nil(take())
  end)

  it("refuses a line that is longer than a quarter of it for ever", function()
    local longest = tonumber(C.segue__line_queue_longest(queue))
    assert.equal(C.SEGUE_ELIMIT, put(("x"):rep(longest + 1)))
    assert.equal(0, put(("x"):rep(longest)))
    assert.equal(longest, #take())
  end)

  it("reports a loss before the line that follows it, and once", function()
    local count = fill "a line"
    for _ = 1, 3 do C.segue__line_queue_lost(queue) end
    take()
    assert.equal(0, put "next")
    for _ = 2, count do assert.same({ "a line", 0 }, { take() }) end
    assert.same({ "next", 3 }, { take() })
    assert.equal(0, put "later")
    assert.same({ "later", 0 }, { take() })
    assert.is_nil(take())
  end)

  it("reports a loss that no line follows, and is not empty before", function()
    put "last"
    C.segue__line_queue_lost(queue)
    C.segue__line_queue_lost(queue)
    assert.equal("last", (take()))
    assert.is_false(C.segue__line_queue_is_empty(queue))
    assert.same({ "", 2 }, { take() })
    assert.is_true(C.segue__line_queue_is_empty(queue))
    assert.is_true(C.segue__line_queue_get(queue) == nil)
  end)

  it("has room for a thread that was suspended while others filled it", function()
    local dir = tempdir.new()
    plugin.program(dir:at "program", "spec/unit/line_queue_suspended.c core/os/thread.c -pthread")
    local program = process.run { dir:at "program" }
    assert.equal("put=0 text=late\n", program.stdout, program:describe())
  end)

  it("wakes a writer that naps only for urgent lines, or when it fills", function()
    local dir = tempdir.new()
    plugin.program(dir:at "program", "spec/unit/line_queue_wakes.c core/os/thread.c -pthread")
    local program = process.run { dir:at "program" }
    assert(program.code == 0, program:describe())
    assert.equal("a line: naps on\na loss: naps on\na warning: woken\n"
      .. "an eighth of the queue: naps on\nmore than a quarter: woken\n"
      .. "a line, when it sleeps: woken\na loss, when it sleeps: woken\na poke: woken\n",
      program.stdout)
  end)
end)

describe("a writer of lines", function()
  local dir, writer
  before_each(function()
    dir, writer = tempdir.new(), nil
  end)
  after_each(function()
    C.line_harness_disk_bytes(0)
    if writer then
      C.line_harness_release(writer)
      C.line_harness_end(writer, 10000, ffi.new "line_harness_counts")
    end
    tempdir.remove_all()
  end)

  local function start(options)
    local o = ffi.new "line_harness_options"
    local path = dir:at "log"
    o.path, o.threads, o.lines, o.queue_bytes = path, 4, 20000, QUEUE
    for key, value in pairs(options) do o[key] = value end
    writer = C.line_harness_start(o)
    assert(writer ~= nil)
  end

  local function finish(limit_ms)
    local counts = ffi.new "line_harness_counts"
    local ended = C.line_harness_end(writer, limit_ms or 80000, counts)
    writer = nil
    return counts, ended
  end

  -- Reads the files in this order: what each thread wrote. Each line is whole; numbers go up; where
  -- some are missing, as many were reported as lost. Returns the lines, and the lost ones.
  local function read(names, exact)
    local last, lines, lost, gap = {}, 0, 0, 0
    for _, name in ipairs(names) do
      for line in file.read(dir:at(name)):gmatch "([^\n]*)\n" do
        local reported = line:match "^lost (%d+)$"
        local thread, number, text = line:match "^(%d) (%d+) (x*)$"
        number = tonumber(number)
        if reported then
          gap, lost = gap + tonumber(reported), lost + tonumber(reported)
        else
          assert(number and #text == number % 50, line)
          local before = last[thread] or 0
          assert(number > before, line)
          if exact then assert.equal(gap, number - before - 1, line) end
          last[thread], lines, gap = number, lines + 1, 0
        end
      end
    end
    return lines, lost, gap
  end

  for title, options in pairs {
    ["that share a queue"] = { one_queue = true },
    ["that have a queue each"] = { rest_ms = 1 },
    ["that write one line now and then"] = { one_queue = true, naps_ms = 100, lines = 2000 },
  } do
    it("keeps the order of threads " .. title .. ", and loses and tears nothing", function()
      start(options)
      local counts, ended = finish()
      assert.is_true(ended)
      local all = 4 * (options.lines or 20000)
      assert.same({ all, all, 0 }, { counts.put, counts.written, counts.dropped })
      local lines, lost = read { "log" }
      assert.same({ all, 0 }, { lines, lost })
    end)
  end

  it("loses and tears nothing over files that are moved while lines flow", function()
    start { one_queue = true, lines = 50000 }
    local names = {}
    for i = 1, 20 do
      names[i] = "log." .. i
      assert(os.rename(dir:at "log", dir:at(names[i])))
      C.line_harness_reopen(writer)
      wait.until_true(function() return C.line_harness_reopened(writer) == i end)
    end
    names[#names + 1] = "log"
    local counts = finish()
    assert.same({ 200000, 200000 }, { counts.put, counts.written })
    assert.equal(200000, (read(names)))
  end)

  it("has bounded memory, and reports each line without room in its place", function()
    start { threads = 1, drops = true, held = true }
    C.line_harness_join(writer)
    C.line_harness_release(writer)
    local counts = finish()
    assert.is_true(counts.dropped > 10000 and counts.put * 80 > QUEUE / 2)
    local lines, lost, gap = read({ "log" }, true)
    assert.same({ counts.put, counts.dropped, counts.dropped }, { lines, lost, gap })
  end)

  it("reports losses in their places while lines flow", function()
    start { threads = 1, drops = true, lines = 100000 }
    local counts = finish()
    local lines, lost = read({ "log" }, true)
    assert.same({ counts.put, counts.dropped }, { lines, lost })
    assert.equal(100000, lines + lost)
  end)

  it("reports all losses of threads that share a queue", function()
    start { one_queue = true, drops = true, lines = 50000 }
    local counts = finish()
    local lines, lost = read { "log" }
    assert.same({ counts.put, counts.dropped }, { lines, lost })
  end)

  it("loses and tears nothing on a disk that is full and comes back, if it tries again", function()
    assert.equal(0, C.line_harness_disk_bytes(10001))
    start { one_queue = true, retries = true }
    wait.until_true(function() return #file.read(dir:at "log") == 10001 end)
    assert.equal(0, C.line_harness_disk_bytes(0))
    local counts = finish()
    assert.same({ 80000, 80000, 0 }, { counts.put, counts.written, counts.failed })
    assert.equal(80000, (read { "log" }))
  end)

  it("counts the lines that a full disk did not take, and continues on a new line", function()
    assert.equal(0, C.line_harness_disk_bytes(10001))
    start { threads = 1, held = true, lines = 500 } -- one batch
    C.line_harness_join(writer)
    C.line_harness_release(writer)
    assert.is_true(C.line_harness_flush(writer, 80000))
    wait.until_true(function() return C.line_harness_sleeps(writer) end)
    local whole, torn = file.read(dir:at "log"):match "^(.*\n)([^\n]+)$"
    assert.equal(10001, #whole + #torn)
    assert.equal(0, C.line_harness_disk_bytes(0))
    assert.equal(0, C.line_harness_put(writer, 1, 7))
    assert.is_true(C.line_harness_flush(writer, 80000))
    local counts = finish()
    assert.equal(whole .. torn .. "\n1 7 xxxxxxx\n", file.read(dir:at "log"))
    local _, written = whole:gsub("\n", "")
    assert.same({ written + 1, 500 - written }, { counts.written, counts.failed })
  end)

  it("writes all lines before it ends", function()
    start { threads = 4, lines = 100, held = true }
    C.line_harness_join(writer)
    assert.is_false(C.line_harness_flush(writer, 1))
    C.line_harness_release(writer)
    finish()
    assert.equal(400, (read { "log" }))
  end)

  it("that hangs is left alone when the time is over", function()
    start { threads = 1, lines = 10, held = true }
    local hangs = writer
    local _, ended = finish(1)
    assert.is_false(ended)
    C.line_harness_release(hangs)
    C.line_harness_bury(hangs)
  end)

  it("that sleeps is woken for a line, and for a loss", function()
    start { threads = 1, lines = 1 }
    C.line_harness_join(writer)
    for i = 2, 20 do
      wait.until_true(function() return C.line_harness_sleeps(writer) end)
      assert.equal(0, C.line_harness_put(writer, 0, i))
      assert.is_true(C.line_harness_flush(writer, 20000))
      wait.until_true(function() return C.line_harness_sleeps(writer) end)
      C.line_harness_lose(writer)
      assert.is_true(C.line_harness_flush(writer, 20000))
    end
    finish()
    local lines, lost = read { "log" }
    assert.same({ 20, 19 }, { lines, lost })
  end)

  it("returns from taking lines while others are put without an end", function()
    start { threads = 1, held = true, lines = 10, endless = true }
    C.line_harness_join(writer)
    C.line_harness_release(writer)
    C.line_harness_reopen(writer)
    wait.until_true(function() return C.line_harness_reopened(writer) == 1 end, 2000)
    local counts = finish()
    assert.is_true(counts.written > counts.put)
    assert.equal(counts.written, (read { "log" }))
  end)

  it("sleeps without lines, and is not woken by a forked child", function()
    start { threads = 1, lines = 10 }
    C.line_harness_join(writer)
    wait.until_true(function() return C.line_harness_sleeps(writer) end)
    assert.equal(0, C.line_harness_fork(writer))
    assert.is_true(C.line_harness_sleeps(writer))
    finish()
    local lines, lost = read { "log" }
    assert.same({ 10, 0 }, { lines, lost })
  end)
end)

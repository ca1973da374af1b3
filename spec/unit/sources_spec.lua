-- SPDX-License-Identifier: MIT
-- The sources of an engine without an engine: sets come and go, and their owner learns by functions
-- that a source has changed, that its health has changed, and that a call has ended.
local borrowed = require "spec.support.borrowed"
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local ffi = C.ffi

local ENOMEM, ECONNREFUSED = -12, -111

describe("sources without an engine", function()
  local loop, sources, set, net, calls
  local hash = ffi.new "segue__hash"

  -- Its memory is freed with the answer.
  local function answer(call, status, err)
    call.answered = true
    C.segue_op_done(call.op, status, err)
  end

  -- Ends a fetch with one document of this text.
  local function deliver(call, text)
    local doc = ffi.new("segue__document *[1]")
    local data, len = C.bytes(text)
    C.check(C.segue__document_new(doc, 1, "net", "net", C.SEGUE__YAML, data, len))
    C.check(C.segue__documents_add(call.out.documents, doc[0]))
    answer(call, 0)
    C.segue__loop_advance(loop.ptr, 0)
  end

  local function owner(address) return ffi.cast("void *", address) end

  local function set_of(address)
    return ffi.new("segue__source_set", { owner(address), net, 1, 10000, false })
  end

  before_each(function()
    calls = { held = 0, fetches = {}, changed = {}, health = 0, ended = 0 }
    loop = Loop.manual(1, 1)
    local ops = borrowed.keep(ffi.new("segue__remote_ops[1]"))
    ops[0].fetch = loop:cb("void (*)(const segue__source *, const char *, segue__emission *, "
      .. "segue_op *)", function(_, revision, out, op)
        calls.fetches[#calls.fetches + 1] = { revision = revision ~= nil, out = out, op = op }
      end)
    local kind = borrowed.keep(ffi.new("segue__source_kind[1]"))
    kind[0].name, kind[0].remote = "net", ops
    net = borrowed.keep(ffi.new("segue__source[1]"))
    net[0].kind, net[0].name, net[0].spec = kind, ffi.cast("char *", "net"), hash
    net[0].interval_ms = 1000
    local options = ffi.new "segue__sources_options"
    options.size, options.loop = ffi.sizeof(options), loop.ptr
    options.hold = loop:cb("void (*)(void *)", function() calls.held = calls.held + 1 end)
    options.release = loop:cb("void (*)(void *)", function() calls.held = calls.held - 1 end)
    options.changed = loop:cb("int (*)(void *, const segue__source *, bool, const char *)",
      function(_, _, pushed, cause)
      calls.changed[#calls.changed + 1] = (pushed and "push: " or "poll: ") .. ffi.string(cause)
      return calls.refuses or 0
    end)
    options.on_health = loop:cb("void (*)(void *)", function() calls.health = calls.health + 1 end)
    options.on_ended = loop:cb("void (*)(void *)", function() calls.ended = calls.ended + 1 end)
    options.scrub = loop:cb("void (*)(void *, segue_error *)", function() end)
    options.nothing_secret = loop:cb("bool (*)(void *, void *)", function() return true end)
    options.random = loop:cb("uint64_t (*)(void *)", function() return 0 end)
    local out = ffi.new("segue__sources *[1]")
    C.check(C.segue__sources_new(out, options))
    sources = out[0]
    set = set_of(8)
    C.segue__sources_settle(sources, set)
  end)

  after_each(function()
    C.segue__sources_stop(sources)
    for _, call in ipairs(calls.fetches) do
      if not call.answered then answer(call, C.SEGUE_ECANCELLED) end
    end
    C.segue__loop_advance(loop.ptr, 0)
    assert.is_false(C.segue__sources_busy(sources))
    C.segue__sources_free(sources)
    assert.equal(0, calls.held)
    loop:close()
  end)

  local function status()
    local out = ffi.new "segue__source_status"
    C.segue__sources_status(sources, 0, out)
    return out
  end

  it("are fetched by the clock, and report content that is new, once", function()
    C.segue__loop_advance(loop.ptr, 1000)
    assert.equal(1, #calls.fetches)
    assert.equal(1, calls.held)
    deliver(calls.fetches[1], "n: 1\n")
    assert.same({ "poll: net changed" }, calls.changed)
    assert.equal(1, calls.ended)
    assert.is_true(status().up)
    C.segue__loop_advance(loop.ptr, 1000)
    deliver(calls.fetches[2], "n: 1\n")
    assert.equal(1, #calls.changed)
  end)

  it("report it again where the owner could not take it", function()
    calls.refuses = ENOMEM
    C.segue__loop_advance(loop.ptr, 1000)
    deliver(calls.fetches[1], "n: 1\n")
    calls.refuses = nil
    C.segue__loop_advance(loop.ptr, 1000)
    deliver(calls.fetches[2], "n: 1\n")
    assert.equal(2, #calls.changed)
  end)

  it("of a set that is tried have states of their own until it settles", function()
    C.segue__loop_advance(loop.ptr, 1000)
    deliver(calls.fetches[1], "n: 1\n")
    local tried = set_of(16)
    local fetched = 0
    local waiter = borrowed.keep(ffi.new("segue__fetch_waiter[1]"))
    waiter[0].fetched = loop:cb("void (*)(void *)", function() fetched = fetched + 1 end)
    assert.is_false(C.segue__sources_must_fetch(sources, tried, net))
    C.check(C.segue__sources_fetch(sources, tried, net, waiter))
    deliver(calls.fetches[2], "n: 2\n")
    assert.equal(1, fetched)
    assert.equal(1, #calls.changed) -- a run waits for it: nothing is requested
    assert.equal(1, tonumber(C.segue__sources_count(sources)))
    assert.equal(1, tonumber(status().fetches))
    C.segue__sources_settle(sources, tried)
    assert.equal(2, tonumber(status().fetches))
    assert.equal(1, tonumber(C.segue__sources_count(sources)))
  end)

  it("that fail are fetched again, and an ended trial leaves nothing", function()
    C.segue__loop_advance(loop.ptr, 1000)
    local err = C.error()
    C.segue__errorf(err, ECONNREFUSED, "away")
    answer(calls.fetches[1], ECONNREFUSED, err)
    C.segue__loop_advance(loop.ptr, 0)
    assert.is_false(status().up)
    assert.equal("net", ffi.string(status().error.source))
    assert.equal("away", ffi.string(status().error.message))
    C.check(C.segue__sources_fetch(sources, set_of(16), net, nil))
    C.segue__sources_forget(sources)
    deliver(calls.fetches[2], "n: 9\n")
    assert.same({}, calls.changed)
    C.segue__loop_advance(loop.ptr, 1)
    deliver(calls.fetches[3], "n: 1\n")
    assert.is_true(status().up)
  end)
end)

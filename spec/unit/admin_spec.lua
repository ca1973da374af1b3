-- SPDX-License-Identifier: MIT
-- Parts of the admin API that need no daemon: "did you mean", durations, values, reloads as text.
local C = require "spec.support.c"
local ffi = C.ffi

local function buffer(fn)
  local b = C.new("segue__buf[1]")
  C.segue__buf_init(b)
  fn(b)
  local text = C.buf(b[0])
  C.segue__buf_deinit(b)
  return text
end

describe("segue__suggest", function()
  local words = { "reload", "status", "check", "plan", "diff" }
  local function nearest(word)
    local list = C.new("const char *[?]", #words)
    for i, w in ipairs(words) do list[i - 1] = w end
    return C.str(C.segue__suggest(word, list, #words))
  end

  it("finds the intended word", function()
    assert.equal("reload", nearest "relaod")
    assert.equal("reload", nearest "reloda")
    assert.equal("status", nearest "stat us")
    assert.equal("check", nearest "chek")
    assert.equal("diff", nearest "dif")
  end)

  it("does not guess if no word is near", function()
    assert.is_nil(nearest "frobnicate")
    assert.is_nil(nearest "")
    assert.is_nil(nearest(("x"):rep(500)))
  end)
end)

describe("segue__render_duration", function()
  local function text(us)
    return buffer(function(b) C.segue__render_duration(b, us) end)
  end

  it("uses the unit that a person would", function()
    assert.equal("0 us", text(0))
    assert.equal("999 us", text(999))
    assert.equal("1.5 ms", text(1500))
    assert.equal("12.0 s", text(12000000))
  end)
end)

describe("segue__render_time", function()
  local function text(ms)
    return buffer(function(b) C.segue__render_time(b, ms) end)
  end

  it("is RFC 3339 in UTC with milliseconds, and null for never", function()
    assert.equal("null", text(0))
    assert.equal('"1970-01-01T00:00:00.001Z"', text(1))
    assert.equal('"2026-11-22T15:51:33.120Z"', text(ffi.cast("int64_t", 1795362693120LL)))
  end)
end)

describe("segue__render_error_json", function()
  it("returns the known values and null for the rest", function()
    local err = C.error()
    C.segue__errorf(err, C.SEGUE_ESYNTAX, "%s", 'a "quoted" thing')
    C.segue__error_set_place(err, "config.yaml", 4, 3)
    C.segue__error_path(err, "a.b")
    local json = require("cjson").decode(buffer(function(b)
      C.segue__render_error_json(b, err)
    end))
    assert.equal("SEGUE_ESYNTAX", json.code)
    assert.equal('a "quoted" thing', json.message)
    assert.equal("config.yaml", json.file)
    assert.equal(4, json.line)
    assert.equal(3, json.column)
    assert.equal("a.b", json.path)
    assert.equal(require("cjson").null, json.source)
    assert.equal("null", buffer(function(b) C.segue__render_error_json(b, nil) end))
  end)
end)

describe("segue__metrics_label", function()
  it("escapes quotes, backslashes and line ends", function()
    assert.equal([["a\"b\\c\nd"]], buffer(function(b) C.segue__metrics_label(b, 'a"b\\c\nd') end))
    assert.equal('""', buffer(function(b) C.segue__metrics_label(b, nil) end))
  end)
end)

describe("segue__render_status", function()
  it("maps every outcome to an HTTP status", function()
    local want = { APPLIED = 200, UNCHANGED = 200, HELD = 409, REJECTED = 422, FAILED = 500,
      REVERTED = 500 }
    for name, status in pairs(want) do
      assert.equal(status, C.segue__render_status(C["SEGUE__" .. name]))
    end
  end)
end)

-- SPDX-License-Identifier: MIT
-- Secret values in texts: very many of them, values that begin alike, texts that were cut.
local C = require "spec.support.c"
local ffi = C.ffi
local document = require "spec.support.document"

-- Returns a mask that knows count values sk-live-0000001, sk-live-0000002 ...
local function mask_of(count)
  local members = {}
  for i = 1, count do members[i] = ('"sk-live-%07d"'):format(i) end
  local mask = document.mask { "keys" }
  local doc = document.good('{"keys":[' .. table.concat(members, ",") .. "]}", { format = "json" })
  C.check(C.segue__mask_learn(mask, document.at(doc, "")))
  return mask
end

local function scrub(mask, text, was_cut)
  local buf = ffi.new("char[?]", #text + 1, text)
  local found = C.segue__mask_scrub(mask, buf, was_cut or false)
  return ffi.string(buf), found
end

describe("the secrets of a mask", function()
  it("are found however many there are", function()
    local mask = mask_of(200100)
    for _, i in ipairs { 1, 2, 100000, 200000, 200001, 200100 } do
      local text = ("the key sk-live-%07d is old"):format(i)
      assert.is_true(C.segue__mask_finds(mask, text))
      assert.same({ "the key *** is old", true }, { scrub(mask, text) })
      local err = C.error()
      C.segue__errorf(err, C.SEGUE_ESCHEMA, "%s", ffi.cast("const char *", text))
      C.segue__mask_error(mask, err)
      assert.equal("the key *** is old", C.err(err).message)
    end
  end)

  it("cost no pass over all that begin alike", function()
    local text = ("sk-live-x "):rep(2000)
    local function cost(count)
      local mask, least = mask_of(count), math.huge
      for _ = 1, 3 do
        local before = os.clock()
        assert.equal(("***x "):rep(2000), (scrub(mask, text)))
        least = math.min(least, os.clock() - before)
      end
      return least
    end
    -- 100 times as many words take two or three times as long, not 100 times.
    assert.is_true(cost(100000) < 20 * math.max(cost(1000), 0.0005))
  end)

  it("are found where a command's output or a message was cut inside of them", function()
    local mask = mask_of(10)
    for text, clean in pairs {
      ["it said sk-l"] = "it said ***", ["it said sk-live-"] = "it said ***",
      ["it said sk-li... (exit 1)"] = "it said ***... (exit 1)",
      ["it_said_sk-li... (exit 1)"] = "it_said_***... (exit 1)",
      ["itsaidsk-li... (exit 1)"] = "itsaid***... (exit 1)",
      ["itsaidsk-l"] = "itsaid***",
      ["sk- is short"] = "sk- is short", ["sk-... ends"] = "sk-... ends", ["sk-l.."] = "***..",
    } do
      assert.same({ clean, clean ~= text }, { scrub(mask, text) })
    end
  end)

  it("are found where a sentence continues behind a value that was cut", function()
    local mask = mask_of(10)
    for text, clean in pairs {
      ["sk-l is short"] = "*** is short", ["value 'sk-li' is bad"] = "value '***' is bad",
      ["key=sk-liv, 7"] = "key=***, 7", ["(sk-live)"] = "(***)", ["sk-l/x"] = "***/x",
      ["ask-l is"] = "ask-l is", ["sk-lx is"] = "sk-lx is", ["sk-l_x"] = "sk-l_x",
      ["sk-l\195\164"] = "sk-l\195\164",
    } do
      assert.same({ clean, clean ~= text }, { scrub(mask, text) })
      assert.equal(clean ~= text, C.segue__mask_finds(mask, text))
    end
  end)

  it("are found where a text was cut in front of their end", function()
    local mask = mask_of(10)
    for text, clean in pairs {
      ["it ends in ...0007 today"] = "it ends in ...*** today", ["...-0000010"] = "...***",
      ["....0007"] = "....***", ["...sk-live-0000001"] = "...***",
      ["...007"] = "...007", ["...0000"] = "...0000", ["...00071"] = "...***1",
      ["... 0007"] = "... 0007", ["..0007"] = "..0007", ["...live"] = "...live",
    } do
      assert.same({ clean, clean ~= text }, { scrub(mask, text) })
      assert.equal(clean ~= text, C.segue__mask_finds(mask, text))
    end
    assert.equal(("...*** "):rep(8) .. "...*** ...***",
      (scrub(mask, ("...0007 "):rep(8) .. "...word ...0007")))
  end)

  it("are found where some are the beginning of others", function()
    local mask = document.mask { "k" }
    local doc = document.good("k: [abcd, abcdef, abcdefg, abcdefghij, abcdefghzz, 1234, 12345]")
    C.check(C.segue__mask_learn(mask, document.at(doc, "")))
    for text, clean in pairs { abcd = "***", abcde = "***", abcdef = "***", abcdefg = "***",
      abcdefgh = "***", abcdefghi = "***", abcdefghij = "***", abcdefghzz = "***",
      abcdefghy = "***y", abc = "abc", xabcdx = "x***x", ["1234 12345 123456"] = "*** *** ***6",
      abcdefx = "***x" } do
      assert.same({ clean, clean ~= text }, { scrub(mask, text) })
      assert.equal(clean ~= text, C.segue__mask_finds(mask, text))
    end
  end)

  it("leave no part at the end of a text that was cut", function()
    local mask, secret = mask_of(3), "sk-live-0000002"
    for n = 1, #secret do
      assert.equal(n < 4 and "it is " or "it is ***",
        (scrub(mask, "it is " .. secret:sub(1, n), true)))
    end
    assert.equal("it is sk-", (scrub(mask, "it is sk-", false)))
  end)

  it("of a file and a source are removed from an error", function()
    local mask, err = mask_of(3), C.error()
    C.segue__errorf(err, C.SEGUE_ESYNTAX, "wrong")
    C.segue__error_set_place(err, "doc-sk-live-0000001", 7, 1)
    C.segue__error_source(err, "from sk-live-0000002")
    C.segue__mask_error(mask, err)
    assert.equal("doc-***", ffi.string(err[0].file))
    assert.equal("from ***", ffi.string(err[0].source))
  end)

  it("leave the lines of a text where they are, also those that they go over", function()
    local mask = document.mask { "keys" }
    local doc = document.good('{"keys":["sk-live-1","first line\\nsecond line\\nAB="]}',
      { format = "json" })
    C.check(C.segue__mask_learn(mask, document.at(doc, "")))
    local function lines(text)
      local buf = ffi.new "segue__buf[1]"
      C.segue__buf_init(buf)
      local found = C.segue__mask_lines(mask, text, #text, buf)
      local out = ffi.string(buf[0].data, buf[0].len)
      C.segue__buf_deinit(buf)
      return out, found
    end
    assert.same({ "a ***\nb\n", true }, { lines "a sk-live-1\nb\n" })
    assert.same({ "k=***\n***\n***\nb\n", true }, { lines "k=first line\nsecond line\nAB=\nb\n" })
    assert.same({ "a\0b\n\n", false }, { lines "a\0b\n\n" })
    assert.same({ "a\0***", true }, { lines "a\0sk-live-1" })
  end)
end)

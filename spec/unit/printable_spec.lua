-- SPDX-License-Identifier: MIT
-- Text for a terminal: sequences that it obeys are escaped, in a line, in a sentence, in a page,
-- and in JSON.
local C = require "spec.support.c"

local function written(call, text, ...)
  local buf = C.new("segue__buf")
  call(buf, text, #text, ...)
  local out = C.buf(buf)
  C.segue__buf_deinit(buf)
  return out
end

local function line(text) return written(C.segue__printable_add, text) end
local function sentence(text) return written(C.segue__printable_lines, text) end
local function page(text, colour) return written(C.segue__printable_page, text, colour or false) end
local function json(text) return written(C.segue__json_string, text) end

describe("text in a line", function()
  it("is not changed where a terminal only displays it", function()
    for _, text in ipairs { "", "plain", "Grüße, 世界 \240\159\142\181", "a\\nb", "\194\160" } do
      assert.equal(text, line(text))
    end
  end)

  it("has no control character of C0 or C1, no DEL, no line break", function()
    assert.equal("a\\nb\\rc\\td\\x1b[2Je\\x7f\\x00", line("a\nb\rc\td\27[2Je\127\0"))
    assert.equal("\\u0080\\u009b31m\\u009f", line("\194\128\194\15531m\194\159"))
    assert.equal("\\u2028\\u2029", line("\226\128\168\226\128\169"))
  end)

  it("has no characters that change its direction", function()
    local turned = { "\216\156", "\226\128\142", "\226\128\143" }
    for code = 0xaa, 0xae do turned[#turned + 1] = "\226\128" .. string.char(code) end
    for code = 0xa6, 0xa9 do turned[#turned + 1] = "\226\129" .. string.char(code) end
    for _, text in ipairs(turned) do
      assert.matches("^a\\u%x%x%x%xb$", line("a" .. text .. "b"))
    end
    assert.equal("\226\128\175 \226\129\165", line("\226\128\175 \226\129\165")) -- their neighbours
  end)

  it("shows a byte that is not UTF-8 as that byte", function()
    assert.equal("\\x9b\\xc2\\xff!", line("\155\194\255!"))
  end)
end)

describe("a sentence", function()
  it("has its lines indented, so that none looks like a row", function()
    assert.equal("nginx says:\n    emerg\n    \\x1b[1mdone",
      sentence("nginx says:\nemerg\n\27[1mdone\n"))
  end)
end)

describe("a page", function()
  it("keeps its lines, and its colours where they are wanted", function()
    local text = "A\tB\n\27[31mred\27[0m \27]0;title\7 \27[2J\27[1"
    assert.equal("A\tB\n\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x1b[2J\\x1b[1", page(text))
    assert.equal("A\tB\n\27[31mred\27[0m \\x1b]0;title\\x07 \\x1b[2J\\x1b[1", page(text, true))
  end)
end)

describe("a JSON string", function()
  it("means the same, and contains no character that a terminal obeys", function()
    assert.equal('"\\u001b\\u009b\\u202eé\\n"', json("\27\194\155\226\128\174é\n"))
  end)
end)

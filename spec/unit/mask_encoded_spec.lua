-- SPDX-License-Identifier: MIT
-- Secrets that a template or a command writes in another way: base64, hex, escapes of URLs, JSON
-- and HTML. Random secrets between random neighbours. SEGUE_SPEC_SEED=number repeats a run.
local C = require "spec.support.c"
local ffi = C.ffi
local document = require "spec.support.document"
local uv = require "luv"

local SEED = tonumber(os.getenv "SEGUE_SPEC_SEED" or "") or uv.hrtime() % 1000000007
local STANDARD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function mask_of(secrets)
  local cjson = require "cjson"
  local mask = document.mask { "keys" }
  local doc = document.good(cjson.encode { keys = secrets }, { format = "json" })
  C.check(C.segue__mask_learn(mask, document.at(doc, "")))
  return mask
end

local function cleaned(by)
  return function(mask, text)
    local buf = ffi.new "segue__buf[1]"
    C.segue__buf_init(buf)
    C[by](mask, text, #text, buf)
    local out = ffi.string(buf[0].data, buf[0].len)
    C.segue__buf_deinit(buf)
    return out
  end
end

local lines, diff = cleaned "segue__mask_lines", cleaned "segue__mask_diff"

local function scrub(mask, text, was_cut)
  local buf = ffi.new("char[?]", #text + 1, text)
  C.segue__mask_scrub(mask, buf, was_cut or false)
  return ffi.string(buf)
end

local function base64(text, padded)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 3, 3 - (c and 3 or b and 2 or 1), -1 do
      local digit = math.floor(n / 64 ^ k) % 64
      out[#out + 1] = STANDARD:sub(digit + 1, digit + 1)
    end
  end
  return table.concat(out) .. (padded and ("="):rep(-#text % 3) or "")
end

local function base64_url(text) return (base64(text):gsub("%+", "-"):gsub("/", "_")) end
local function hex(text, form)
  return (text:gsub(".", function(c) return form:format(c:byte()) end))
end

local writings = {
  ["base64"] = function(text) return base64(text, true) end,
  ["base64 without padding"] = base64,
  ["base64 for URLs"] = base64_url,
  ["base64 in lines"] = function(text) return (base64(text, true):gsub(("."):rep(16), "%0\n")) end,
  ["hex"] = function(text) return hex(text, "%02x") end,
  ["hex in lines"] = function(text) return (hex(text, "%02x"):gsub(("."):rep(16), "%0\n  ")) end,
  ["upper hex"] = function(text) return hex(text, "%02X") end,
  ["a URL"] = function(text)
    return (text:gsub("[^%w_.~-]", function(c) return ("%%%02X"):format(c:byte()) end))
  end,
  ["a query"] = function(text)
    return (text:gsub("[^%w _.~-]", function(c) return ("%%%02x"):format(c:byte()) end)
      :gsub(" ", "+"))
  end,
  ["JSON"] = function(text) return (text:gsub("[<>&'\"/\\ ]", { ["\\"] = "\\\\", ['"'] = '\\"',
    ["/"] = "\\/", [" "] = "\\u0020", ["<"] = "\\u003c", [">"] = "\\u003E", ["&"] = "\\u0026",
    ["'"] = "\\x27" })) end,
  ["HTML"] = function(text)
    return (text:gsub("[<>&'\"]", { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;",
      ["'"] = "&#39;", ['"'] = "&#34;" }))
  end,
}

-- A secret whose every part can be recognised: no two of its bytes stand together anywhere else.
local ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=%&<>'\" -_\\"
local function random(n, from)
  local list = {}
  for i = 1, n do
    local at = math.random(#from)
    list[i] = from:sub(at, at)
  end
  return table.concat(list)
end

-- Whether the text has a piece of the writing of the secret that no neighbour has.
local function shows(clean, writing)
  for i = 1, #writing - 7 do
    local piece = writing:sub(i, i + 7)
    if not piece:find("\n", 1, true) and clean:find(piece, 1, true) then return piece end
  end
end

-- One character of base64 or hex digits is no whole byte; an escape that was cut is none either.
local function no_byte(left)
  left = left:gsub("%s", "")
  return #left < 2 or (#left < 6 and left:find "^[%%\\&]" ~= nil)
end

describe("a secret in another writing", function()
  it("is hidden at each place of other bytes, in text and in lines", function()
    math.randomseed(SEED)
    local found = 0
    for round = 1, 400 do
      local secrets = {}
      for i = 1, 3 do secrets[i] = random(math.random(8, 40), ALPHABET) end
      if round % 10 == 0 then secrets[2] = random(700, ALPHABET) end
      local mask = mask_of(secrets)
      for name, write in pairs(writings) do
        local secret = secrets[round % 3 + 1]
        local before = random(math.random(0, 5), "uvw:")
        local behind = random(math.random(0, 4), ";ab")
        local text = "x = \"" .. write(before .. secret .. behind) .. "\"\n"
        local bare = write(secret)
        for _, clean in ipairs { lines(mask, text), scrub(mask, text) } do
          local piece = shows(clean, bare)
          if piece then
            error(("seed %d, %s: %q\nof %q\nshows %q"):format(SEED, name, clean, text, piece))
          end
          assert.matches('^x = "', clean)
          assert.truthy(clean:find("***", 1, true), ("seed %d, %s: %q"):format(SEED, name, text))
          found = found + 1
        end
        assert.is_true(C.segue__mask_finds(mask, text))
      end
    end
    assert.equal(400 * 2 * 11, found)
  end)

  it("is hidden whole, with what shares a character with it, and nothing else", function()
    local mask = mask_of { "hunter2hunter", "p@ss w0rd" }
    for text, clean in pairs {
      ["Basic " .. base64("user:hunter2hunter", true) .. " end"] = "Basic dXNlcj*** end",
      [base64("hunter2hunter", true)] = "***==", [base64 "hunter2hunter"] = "***",
      [hex("ahunter2hunterb", "%02x")] = "61***62", ["p%40ss+w0rd&x"] = "***&x",
      ["a%20hunter2hunter%20b"] = "a%20***%20b",
      [base64 "another text without it"] = base64 "another text without it",
      [base64("a\n") .. "\n"] = base64("a\n") .. "\n",
      [hex("hunte", "%02x") .. " end"] = "68756e7465 end",
    } do
      assert.equal(clean, lines(mask, text))
      assert.equal(clean, scrub(mask, text))
      assert.equal(clean ~= text, C.segue__mask_finds(mask, text))
    end
  end)

  it("keeps the number of lines", function()
    local secret = ("secret of many bytes "):rep(20)
    local mask = mask_of { secret }
    local text = "a\n" .. base64(secret):gsub(("."):rep(64), "%0\n") .. "\nb\n"
    local clean = lines(mask, text)
    assert.equal(select(2, text:gsub("\n", "")), select(2, clean:gsub("\n", "")))
    assert.matches("^a\n%*%*%*\n.*%*%*%*\nb\n$", clean)
    assert.not_matches("[%w+/][%w+/]", clean)
  end)

  it("has six bytes or more; other text stays as it is", function()
    local mask = mask_of { "abcde", "abcdef", "longer secret" }
    assert.equal(hex("abcde", "%02x"), lines(mask, hex("abcde", "%02x")))
    assert.equal("***", lines(mask, hex("abcdef", "%02x")))
    local text = random(20000, STANDARD .. "\n \\%&;")
    assert.equal(text, lines(mask, text))
  end)

  it("is hidden where the text was cut inside of it, and before \"...\"", function()
    local secret = "h@nter <2> \\ & h/nter"
    local mask = mask_of { secret }
    for name, write in pairs(writings) do
      local writing = write(secret)
      for cut = 1, #writing do
        local part = writing:sub(1, cut)
        local left = scrub(mask, 'x = "' .. part, true):match('^x = "%*?%*?%*?(.*)$')
        assert.is_true(no_byte(left), ("%s, %q shows %q"):format(name, part, left))
        local clean = scrub(mask, 'x = "' .. part .. '..."')
        local shown = clean:match('^x = "%*%*%*(.*)%.%.%."$')
        if cut > 24 then assert.is_true(shown and no_byte(shown), name .. ": " .. clean) end
      end
    end
    assert.equal("the word abc", scrub(mask, "the word abc", true))
    assert.equal("6874 end", scrub(mask, "6874 end", true))
  end)

  it("is hidden in the lines of a diff, also where a hunk begins inside of it", function()
    local secret = ("first part of a key;"):rep(4) .. ("second part of it."):rep(6)
    local mask = mask_of { secret, "short\nlines\nof a\nvalue" }
    for name, write in pairs { base64 = function(text) return base64(text, true) end,
      hex = function(text) return hex(text, "%02x") end } do
      local written = write(secret):gsub(("."):rep(64), "%0\n") .. "\n"
      local list = {}
      for line in written:gmatch "[^\n]+" do list[#list + 1] = line end
      for _, sign in ipairs { "+", "-", " " } do
        for first = 1, #list - 1 do
          local hunk = { sign .. "  " .. list[first] }
          for i = first + 1, #list do
            -- Lines of the other version stand between.
            if sign ~= " " then hunk[#hunk + 1] = (sign == "+" and "-" or "+") .. "other " .. i end
            hunk[#hunk + 1] = sign .. "  " .. list[i]
          end
          local text = "--- /a\n+++ /a\n@@ -7,9 +7,9 @@\n" .. table.concat(hunk, "\n") .. "\n end\n"
          local clean = diff(mask, text)
          for i = first, #list do
            assert.is_nil(clean:find(list[i]:sub(-12), 1, true), name .. first .. "\n" .. clean)
          end
          assert.equal(select(2, text:gsub("\n.", "%0")), select(2, clean:gsub("\n.", "%0")))
          local signs = function(t) return (t:gsub("([^\n])[^\n]*\n", "%1")) end
          assert.equal(signs(text), signs(clean))
          assert.matches("^%-%-%- /a\n%+%+%+ /a\n@@ %-7,9 %+7,9 @@\n", clean)
          assert.matches("\n end\n$", clean)
        end
      end
    end
    assert.equal("--- f\n+++ f\n@@ -1,2 +1,4 @@\n-a\n-b\n+***\n+***\n+***\n+***\n+c\n",
      diff(mask, "--- f\n+++ f\n@@ -1,2 +1,4 @@\n-a\n-b\n+short\n+lines\n+of a\n+value\n+c\n"))
    local other = "--- f\n+++ f\n@@ -1 +1 @@\n-QUJDRA==\n\\ No newline at end of file\n+QUJD\n"
    assert.equal(other, diff(mask, other))
  end)
end)

-- SPDX-License-Identifier: MIT
-- Values in error messages of the readers: shown where no secret can be, "***" elsewhere.
local C = require "spec.support.c"
local ffi = C.ffi
local document = require "spec.support.document"

-- Returns the result of the reader for a text under a mask (patterns; false: secrets are not
-- known).
local function refused(text, options)
  options = options or {}
  options.mask = options.mask and document.mask(options.mask)
  local doc, err = document.parse(text, options)
  assert(not doc, text .. " is read")
  return err.text
end

-- Documents with one mistake, each with the value that its message shows.
local mistakes = {
  { "yaml", "db: { password: 20240912345678901234567 }", "20240912345678901234567" },
  { "yaml", "db: { password: 0x20240912345678901 }", "0x20240912345678901" },
  { "yaml", "db: { password: 1e999999 }", "1e999999" },
  { "yaml", "db: { password: *s3cr3t-word }", "s3cr3t-word" },
  { "yaml", "db: { password: &s3cr3t-word [*s3cr3t-word] }", "s3cr3t-word" },
  { "yaml", "db: { password: !!int s3cr3t-word }", "s3cr3t-word" },
  { "yaml", "db: { password: !s3cr3t-word x }", "s3cr3t-word" },
  { "yaml", "db: { password: !s3cr3t-word { a: 1 } }", "s3cr3t-word" },
  { "yaml", "db:\n  password:\n  *s3cr3t-word : x", "s3cr3t-word", stray = true },
  { "yaml", "db: { a: &s3cr3t-word [1], *s3cr3t-word : x }", "s3cr3t-word", stray = true },
  { "yaml", "db: { password: { s3cr3t-word: 1, s3cr3t-word: 2 } }", "s3cr3t-word" },
  { "yaml", "db: { password: { s3cr3t-word: @x } }", "s3cr3t-word", path = true },
  { "yaml", "db: { password: @s3cr3t-word }", "'@'", stray = true },
  { "yaml", "db: { password: \"s3cr3t\255\" }", "0xff", stray = true, loose = true },
  { "json", '{"db":{"password":20240912345678901234567}}', "20240912345678901234567" },
  { "json", '{"db":{"password":0123}}', "01" },
  { "json", '{"db":{"password":s3cr3t}}', "'s'", stray = true },
  { "json", '{"db":{"password":"a" s3cr3t}}', "'s'", stray = true },
  { "json", '{"db":{"password":{"s3cr3t":1,"s3cr3t":2}}}', "s3cr3t" },
  { "yaml", "db: { password: 'pa${s3cr3t-word' }", "s3cr3t-word", expand = true },
  { "yaml", "db: { password: 'pa${s3cr3t-word}' }", "s3cr3t-word", expand = true },
  { "yaml", "db: { password: 'pa${S3CR3T_WORD}' }", "S3CR3T_WORD", expand = true },
  { "yaml", "db: { password: '${s3cr3tword}' }", "s3cr3tword", expand = true },
  { "json", '{"db":{"password":"${s3cr3tword}x"}}', "s3cr3tword", expand = true },
}

describe("an error of reading", function()
  for _, m in ipairs(mistakes) do
    local format, text, value = m[1], m[2], m[3]
    local function read(mask)
      return refused(text, { format = format, mask = mask, expand = m.expand })
    end
    it("shows no secret of " .. format .. ": " .. text:gsub("[%c\127-\255]", " "), function()
      assert.is_truthy(read():find(value, 1, true), read())
      if not m.loose then assert.is_truthy(read({ "db.other" }):find("db", 1, true)) end
      if not m.stray then
        assert.is_truthy(read({ "db.other" }):find(value, 1, true), read({ "db.other" }))
      end
      for _, patterns in ipairs { { "db.password" }, { "**.password" }, { "db" }, { "**" } } do
        local reported = read(patterns)
        assert.is_nil(reported:find(value, 1, true), reported)
        assert.is_nil(reported:find("s3cr3t", 1, true), reported)
        if not m.path then assert.is_truthy(reported:find("***", 1, true), reported) end
      end
    end)
    it("shows neither value nor path where the secrets are unknown: " .. format .. " "
        .. text:gsub("[%c\127-\255]", " "), function()
      local reported = read(false)
      assert.is_nil(reported:find(value, 1, true), reported)
      assert.is_nil(reported:find("password", 1, true), reported)
      assert.matches("^file:%d+:%d+: ", reported)
    end)
  end

  it("names a variable that is the whole value, secret or not", function()
    assert.equal("file:1:4: environment variable DB_PASSWORD is not set: set it or write "
      .. "${DB_PASSWORD:-default} (at p)",
      refused("p: ${DB_PASSWORD}", { expand = true, mask = { "p" } }))
  end)

  it("cuts its path at the topmost secret", function()
    assert.equal("file:1:21: key '***' is here twice, in line 1 and in line 1: remove one "
      .. "(at vault)",
      refused("vault: { a: { b: 1, b: 2 } }", { mask = { "vault" } }))
    assert.equal("file:1:15: integer *** does not fit into 64 bits: quote it to keep it as text, "
      .. "or write it as a float (at users[1].pin)",
      refused("users: [{}, { pin: 99999999999999999999 }]", { mask = { "users[*].pin" } })
        :gsub("1:%d+", "1:15"))
  end)

  it("shows nothing if no memory is left to decide", function()
    local other = document.limits { mask = document.mask { "nothing.else" } }
    local secret = document.limits { mask = document.mask { "db.password" } }
    collectgarbage() -- frees the masks if the limits do not keep them alive
    local seen = 0
    for n = 2, 121 do
      local limits = n % 2 == 0 and other or secret
      local doc = document.new("db: { password: *s3cr3t-word }")
      local err = C.error()
      C.segue__mem_fail_at(math.floor(n / 2))
      local rc = C.segue__document_parse(doc, limits, nil, nil, err)
      C.segue__mem_fail_at(0)
      assert.is_true(rc ~= 0)
      local reported = C.err(err)
      local hidden = reported.message:find("***", 1, true)
      assert.is_true(limits == other or not reported.message:find("s3cr3t", 1, true),
        reported.message)
      if limits == other and reported.code == C.SEGUE_ESYNTAX and hidden then seen = seen + 1 end
      document.free(doc)
    end
    assert.is_true(seen > 0, "no failure met the decision")
  end)
end)

describe("a quote", function()
  it("is cut in whole characters, and marks the cut", function()
    local out = ffi.new("segue__quoted")
    local text = ("é"):rep(60)
    assert.equal(("é"):rep(40) .. "...", C.str(C.segue__quote_text(out, true, text, #text)))
    assert.equal("***", C.str(C.segue__quote_text(out, false, text, #text)))
    assert.equal("a list of 2", C.str(C.segue__quote_node(out, false,
      document.at(document.good("a: [1, 2]"), "a"))))
  end)
end)

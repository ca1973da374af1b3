-- SPDX-License-Identifier: MIT
-- Tokens from files, and the rate limit of attempts: the two parts of the access rules that are
-- pure functions.
local C = require "spec.support.c"
local ffi = C.ffi

describe("tokens", function()
  local tokens, specs

  local function add(text, name)
    local spec = C.new("segue__token_spec")
    local file = C.bytes((name or "ops") .. ".token")
    local label = C.bytes(name or "ops")
    spec.file, spec.name, spec.role = file, label, 2
    specs[#specs + 1] = { spec, file, label }
    local e = C.error()
    local code = C.segue__tokens_add(tokens, spec, text, #text, e)
    if code < 0 then return C.err(e) end
  end

  local function found(text)
    local token = C.segue__tokens_find(tokens, text, #text)
    return token ~= nil and C.str(token.name) or nil
  end

  before_each(function()
    tokens, specs = C.new("segue__tokens"), {}
  end)
  after_each(function()
    C.segue__tokens_deinit(tokens)
    for _, held in ipairs(specs) do
      C.segue__free(held[2])
      C.segue__free(held[3])
    end
  end)

  it("are read one per line, without comments, blank lines and white space around", function()
    assert.is_nil(add("# the old one\nold-token-0123456\n\n"
      .. " \t new-token-0123456 \r\n  # no more\n"))
    assert.is_nil(add("reader-token-01234", "ro"))
    assert.equal("ops:2", found "old-token-0123456")
    assert.equal("ops:4", found "new-token-0123456")
    assert.equal("ro", found "reader-token-01234")
    for _, wrong in ipairs { "", "old-token-012345", "old-token-01234567", "Old-token-0123456",
      "# the old one", ("x"):rep(300), ("\0"):rep(256), "old-token-0123456\0" } do
      assert.is_nil(found(wrong), wrong)
    end
  end)

  it("find one of the greatest length, and none that only begins with it", function()
    local longest = ("t"):rep(256)
    assert.is_nil(add(longest))
    assert.equal("ops", found(longest))
    assert.is_nil(found(longest .. "t"))
    assert.is_nil(found(longest:sub(1, 255)))
  end)

  it("refuse an invalid file by name and line, and never show its content", function()
    local cases = {
      { "# nothing\n\n", 0, "the file must contain a token" },
      { "", 0, "the file must contain a token" },
      { "good-token-0123456\nshort-secret\n", 2, "16 to 256 characters, not 12" },
      { ("x"):rep(257), 1, "16 to 256 characters, not 257" },
      { "\nwith a space-0123456", 2, "printable ASCII without spaces" },
      { "with-\200-umlaut-0123456", 1, "printable ASCII" },
      { "good-token-0123456\ngood-token-0123456", 2, "occurs twice" },
    }
    for _, case in ipairs(cases) do
      C.segue__tokens_deinit(tokens)
      local e = assert(add(case[1]), case[3])
      assert.equal("SEGUE_EPOLICY", e.name)
      assert.equal("ops.token", e.file)
      assert.equal(case[2], e.line)
      assert.matches(case[3], e.message, 1, true)
      assert.is_nil(e.message:find("short-secret", 1, true))
      assert.is_nil(e.message:find("good-token", 1, true))
    end
    C.segue__tokens_deinit(tokens)
    assert.is_nil(add("good-token-0123456"))
    assert.matches("occurs twice", add("good-token-0123456", "other").message)
  end)

  it("are 256 at most", function()
    local lines = {}
    for i = 1, 256 do lines[i] = ("token-number-%04d"):format(i) end
    assert.is_nil(add(table.concat(lines, "\n")))
    assert.equal("ops:200", found "token-number-0200")
    assert.matches("too many tokens", add("one-token-too-many", "more").message)
  end)
end)

describe("the limiter", function()
  local limiter
  before_each(function() limiter = ffi.new("segue__limiter") end)

  local function key(peer, salt) return C.segue__limiter_key(peer, salt or 0) end

  local function take(who, rate, burst, now)
    local first = ffi.new("bool[1]")
    local wait = C.segue__limiter_take(limiter, key(who), rate, burst, now, first)
    return tonumber(wait), first[0]
  end

  it("admits a burst, then one for each refilled token", function()
    for _ = 1, 5 do assert.equal(0, (take("10.0.0.1:1", 10, 5, 1000))) end
    local wait, first = take("10.0.0.1:2", 10, 5, 1000)
    assert.equal(100, wait)
    assert.is_true(first)
    wait, first = take("10.0.0.1:3", 10, 5, 1050)
    assert.equal(50, wait)
    assert.is_false(first)
    assert.equal(0, (take("10.0.0.1:4", 10, 5, 1100)))
    assert.is_true(select(2, take("10.0.0.1:4", 10, 5, 1100)))
    for _ = 1, 5 do assert.equal(0, (take("10.0.0.1:5", 10, 5, 600000))) end
    assert.are_not.equal(0, (take("10.0.0.1:5", 10, 5, 600000)))
  end)

  it("counts slow rates too", function()
    assert.equal(0, (take("10.0.0.1:1", 1 / 3600, 1, 0)))
    local wait = take("10.0.0.1:1", 1 / 3600, 1, 0)
    assert.is_true(wait > 3590000 and wait <= 3600000, tostring(wait))
    assert.equal(0, (take("10.0.0.1:1", 1 / 3600, 1, 3600500)))
  end)

  it("knows clients by address, network or user, whatever their port or process", function()
    assert.is_true(key "10.0.0.1:1" == key "10.0.0.1:65535")
    assert.is_false(key "10.0.0.1:1" == key "10.0.0.2:1")
    assert.is_true(key "[2001:db8:1:2::1]:1" == key "[2001:db8:1:2:ffff::9]:2")
    assert.is_false(key "[2001:db8:1:2::1]:1" == key "[2001:db8:1:3::1]:1")
    assert.is_true(key "unix:pid=1,uid=5" == key "unix:pid=9,uid=5")
    assert.is_false(key "unix:pid=1,uid=5" == key "unix:pid=1,uid=6")
    assert.is_false(key("10.0.0.1:1", 1) == key("10.0.0.1:1", 2))
    local long = "[" .. ("f"):rep(99) .. "]:1"
    for _, odd in ipairs { "", ":", "[", "[]:1", "[zz]:1", "unix:", long } do
      assert.is_false(key(odd) == 0)
    end
  end)

  it("forgets the client whose last request is oldest, and keeps present ones", function()
    for _ = 1, 3 do take("10.9.9.9:1", 1, 3, 0) end
    for i = 1, 60000 do
      local peer = ("10.%d.%d.%d:1"):format(math.floor(i / 65536), math.floor(i / 256) % 256,
        i % 256)
      take(peer, 1, 3, i)
      if i % 100 == 0 then
        local wait = take("10.9.9.9:1", 0.0001, 3, i)
        assert.is_true(wait > 0, "forgotten after " .. i)
      end
    end
  end)
end)

-- SPDX-License-Identifier: MIT
-- Errors as plain data: what does not fit into one.
local C = require "spec.support.c"

describe("the path of an error", function()
  local function path_of(path)
    local err = C.error()
    C.segue__error_path(err, path)
    return C.str(err[0].path)
  end

  it("is kept whole while the message has room", function()
    for _, path in ipairs { "", "a.b[0]", ("x"):rep(255), ("ab."):rep(85) } do
      assert.equal(path, path_of(path))
    end
  end)

  it("loses its middle, in whole parts, where it is too long", function()
    for _, step in ipairs { "[0]", ".ab", "[17]", ".a-long-name" } do
      local path = "first" .. step:rep(300) .. ".last"
      local shown = path_of(path)
      assert.is_true(#shown <= 255 and #shown > 220, #shown)
      local head, tail = shown:match("^(.*)…(.*)$")
      assert.equal(path:sub(1, #head), head)
      assert.equal(path:sub(-#tail), tail)
      assert.equal(0, (#head - #"first") % #step)
      assert.equal(0, (#tail - #".last") % #step)
    end
  end)

  it("is not cut inside a character where it has only one part", function()
    for _, before in ipairs { "", "x", "xy" } do
      local shown = path_of(before .. ("é"):rep(300))
      local head, tail = shown:match("^(.*)…(.*)$")
      assert.equal(before .. ("é"):rep((#head - #before) / 2), head)
      assert.equal(("é"):rep(#tail / 2), tail)
      assert.is_true(#shown > 240, #shown)
    end
  end)
end)

-- SPDX-License-Identifier: MIT
-- A policy's schema in a reload: the first thing that the check phase does, off the loop.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

local SCHEMA = '{"properties":{"x":{"type":"integer","maximum":9}}}'

describe("a transaction with a schema", function()
  local e
  after_each(function()
    C.segue__fault_arm(nil)
    if e then e:close() end
    e = nil
  end)

  local function started(options)
    options = options or {}
    options.schema = "s.json"
    options.files = options.files or { ["a.yaml"] = "x: 1\n", ["s.json"] = SCHEMA }
    return engine.started(options)
  end
  local function reload(text, options)
    if text then e:write("a.yaml", text) end
    local w = e:reload(options)
    e:step()
    return w
  end
  local function errors(w)
    local lines = {}
    for i = 0, tonumber(w:result().errors.count) - 1 do lines[#lines + 1] = w:error(i).text end
    return table.concat(lines, "\n")
  end

  it("applies a valid configuration, and rejects all others before the policy's check", function()
    e = started { check = engine.OK, modules = { { "m" } } }
    assert.equal("applied", reload("x: 9\n"):outcome())
    e:journal()
    local w = reload("y: 1\nx: 10.5\n")
    assert.equal("rejected", w:outcome())
    assert.equal("SEGUE_ESCHEMA", w:error().name)
    assert.equal("a.yaml:2:4: x must be an integer, not a float (at x)", errors(w))
    assert.equal("#3 collect\n#3 check\n#3 settled rejected\n", e:journal())
    assert.equal("9", e:value("x"))
    w = reload("x: [\n")
    assert.equal("SEGUE_ESYNTAX", w:error().name)
  end)

  it("reports every breach, up to a hundred, and counts the rest", function()
    e = started { files = { ["a.yaml"] = "{}\n", ["s.json"] = '{"additionalProperties":false}' } }
    local lines = {}
    for i = 1, 150 do lines[i] = "k" .. i .. ": 1" end
    local w = reload(table.concat(lines, "\n"))
    assert.equal("rejected", w:outcome())
    assert.equal(100, tonumber(w:result().errors.count))
    assert.equal(150, tonumber(w:result().errors.total))
  end)

  it("includes the bytes of the schema in its input", function()
    e = started()
    assert.equal("unchanged", reload():outcome())
    e:write("s.json", '{"properties":{"x":{"const":2}}}')
    local w = reload()
    assert.equal("rejected", w:outcome())
    assert.equal("a.yaml:1:4: x must be 2, not 1 (at x)", errors(w))
    w = reload(nil, { trigger = "watch" })
    e:advance(100)
    assert.is_true(w:result().skipped)
    e:write("s.json", '{"properties":{"x":{"const":1}}}')
    assert.equal("applied", reload():outcome())
  end)

  it("refuses a schema that is wrong, by keyword and place", function()
    e = started()
    e:write("s.json", '{"type":"objekt",\n "minimum":"x"}')
    local w = reload("x: 2\n")
    assert.equal("rejected", w:outcome())
    assert.matches('^s.json:1:2: type: "objekt" is none of .* %(at #/type%)\n'
      .. "s.json:2:2: minimum: it must be a number %(at #/minimum%)$", errors(w))
    e:write("s.json", '{"type"')
    assert.matches("^s.json:1:8: ", errors(reload("x: 3\n")))
    assert.equal("1", e:value("x"))
  end)

  it("fails where the schema cannot be read, and is tried again", function()
    e = started()
    e:remove("s.json")
    local w = reload("x: 2\n")
    assert.equal("failed", w:outcome())
    assert.matches("s.json", errors(w))
    e:write("s.json", SCHEMA)
    e:advance(120000)
    assert.equal("2", e:value("x"))
  end)

  it("validates formats, unless the policy ignores them", function()
    local files = { ["a.yaml"] = "x: 127.0.0.1\n",
      ["s.json"] = '{"properties":{"x":{"format":"ipv4"}}}' }
    e = started { files = files }
    assert.equal("rejected", reload("x: 127.0.0\n"):outcome())
    e:close()
    e = started { files = files, set = { formats_ignored = true } }
    assert.equal("applied", reload("x: 127.0.0\n"):outcome())
  end)

  it("ends, whatever the schema requires", function()
    e = started()
    e:write("s.json", '{"properties":{"x":{"pattern":"^(a+)+$"}}}')
    local w = reload("x: " .. ("a"):rep(60) .. "b\n")
    assert.equal("rejected", w:outcome())
    assert.equal("SEGUE_ELIMIT", w:error().name)
    assert.matches("takes too much work", errors(w))
  end)

  describe("whose job hangs", function()
    local observer, callback
    -- From the check phase on jobs stay where they are.
    local function hang()
      callback = C.ffi.cast("void (*)(segue__observer *, const segue__result *, segue__phase)",
        function(_, _, phase)
          if phase == C.SEGUE__PHASE_CHECK then C.segue__loop_hold_jobs(e.loop, true) end
        end)
      observer = C.ffi.new("segue__observer")
      observer.on_phase = callback
      C.segue__engine_observe(e.c, observer)
    end
    local function release()
      if observer then C.segue__engine_unobserve(e.c, observer) end
      if callback then callback:free() end
      observer, callback = nil, nil
      C.segue__loop_hold_jobs(e.loop, false)
    end

    it("is abandoned at the check's time limit", function()
      e = started()
      hang()
      local w = reload("x: 2\n")
      assert.equal("nothing yet", w:outcome())
      e:advance(4999)
      assert.equal("nothing yet", w:outcome())
      e:advance(1)
      assert.equal("rejected", w:outcome())
      assert.equal("the check by s.json was not done after 5000 ms", errors(w))
      release()
      assert.equal("applied", reload():outcome())
    end)

    it("does not delay the end", function()
      e = started()
      hang()
      local w = reload("x: 2\n")
      local stopped = C.ffi.new("bool[1]")
      C.scripted_engine_stop(e.c, stopped)
      e:step()
      assert.is_true(stopped[0])
      assert.matches("shutting down", errors(w))
      release()
    end)
  end)

  describe("with further documents of the schema", function()
    local files = { ["a.yaml"] = "x: 1\n", ["s.json"] = [[{"properties":{
      "x":{"$ref":"part.json"},"y":{"$ref":"https://example.com/y#/$defs/y"}}}]],
      ["part.json"] = '{"maximum":9}',
      ["y.yaml"] = "$id: urn:example:y\n$defs: { y: { properties: { z: { default: [1] } } } }\n" }
    local with = { { "part.json" }, { "y.yaml", "https://example.com/y" } }

    it("validates by all of them, and includes their bytes in its input", function()
      e = started { files = files, schema_with = with }
      assert.equal("rejected", reload("x: 10\n"):outcome())
      assert.equal("applied", reload("x: 9\n"):outcome())
      assert.equal("unchanged", reload():outcome())
      e:write("part.json", '{"maximum":8}')
      local w = reload()
      assert.equal("rejected", w:outcome())
      assert.equal("a.yaml:1:4: x must be at most 8, not 9 (at x)", errors(w))
      e:write("part.json", '{"maximum":"8"}')
      assert.matches("^part.json:1:2: maximum: it must be a number", errors(reload()))
      e:write("part.json", '{"maximum"')
      assert.matches("^part.json:1:11: ", errors(reload()))
      e:remove("part.json")
      w = reload()
      assert.equal("failed", w:outcome())
      assert.matches("part.json", errors(w))
      e:write("part.json", files["part.json"])
      assert.equal("unchanged", reload():outcome())
    end)

    it("fills in their defaults, which stay when the documents are read again", function()
      e = started { files = files, schema_with = with, set = { schema_defaults = true } }
      assert.equal("applied", reload("y: {}\n"):outcome())
      assert.equal("[1]", e:value("y.z"))
      e:write("y.yaml", "$defs: { y: true }\n")
      e:write("s.json", (files["s.json"]:gsub("}}}$", "}} }")))
      e:write("part.json", '{"maximum":7}')
      assert.equal("[1]", e:value("y.z"))
      assert.equal("applied", reload("y: {}\nx: 7\n"):outcome())
      assert.equal("null", e:value("y.z") or "null")
    end)

    it("reports two documents with one name", function()
      e = started { files = files, schema_with = with }
      e:write("y.yaml", "$id: part.json\n")
      local w = reload("x: 2\n")
      assert.equal("rejected", w:outcome())
    end)
  end)

  it("compiles once as long as the schema stays the same", function()
    e = started()
    C.segue__fault_arm("check.schema=fail")
    assert.equal("applied", reload("x: 2\n"):outcome())
    e:write("s.json", SCHEMA .. " ")
    local w = reload("x: 3\n")
    assert.equal("failed", w:outcome())
    assert.matches("the schema cannot be compiled", errors(w))
    assert.equal(2, C.segue__fault_reached("check.schema")) -- the first and the changed one
  end)
end)

-- SPDX-License-Identifier: MIT
-- ${NAME} in values: what it stands for, and that another environment is another document.
local C = require "spec.support.c"
local document = require "spec.support.document"

local env = { PORT = "8080", NAME = "a b", EMPTY = "", LIST = "[1, 2]", TRUE = "true",
  BAD = "\255", DOLLAR = "${PORT}", _X1 = "x", HUGE = "99999999999999999999" }

local function value(text, options)
  options = options or {}
  options.expand = options.expand ~= false
  options.env = options.env or env
  return document.value(text, options)
end

local function parse(text, values)
  return document.good(text, { expand = true, env = values })
end

describe("a variable in a value", function()
  it("is replaced; plain YAML gets its type afterwards, what is quoted stays text", function()
    assert.equal('{"a":8080,"b":"8080","c":"8080","d":"port 8080","e":true}', (value(
      "a: ${PORT}\nb: \"${PORT}\"\nc: '${PORT}'\nd: port ${PORT}\ne: ${TRUE}")))
    assert.equal('{"a":"8080\\n","b":"8080","c":8080}', (value(
      "a: |\n  ${PORT}\nb: !!str ${PORT}\nc: !!int '${PORT}'")))
    assert.equal('{"a":8080,"b":["x8080y",80808080]}',
      (value("a: ${PORT}\nb:\n- x${PORT}y\n- ${PORT}${PORT}")))
    assert.equal('{"a":"[1, 2]","b":"a b","c":"x"}', (value("a: ${LIST}\nb: ${NAME}\nc: ${_X1}")))
  end)

  it("is replaced in JSON strings", function()
    assert.equal('{"a":"8080","b":["x8080"]}',
      (value('{"a":"${PORT}","b":["x${PORT}"]}', { format = "json" })))
  end)

  it("has a default where it is not set or empty", function()
    assert.equal('{"a":1,"b":"x y","c":"","d":2,"e":8080,"f":"a:-b"}', (value(
      "a: ${NO:-1}\nb: ${NO:-x y}\nc: ${NO:-}\nd: ${EMPTY:-2}\ne: ${PORT:-3}\nf: ${NO:-a:-b}")))
    assert.equal('{"a":"","b":""}', (value("a: ${EMPTY}\nb: '${EMPTY}'")))
  end)

  it("gets a type in plain YAML only where writing that type gives the same text back", function()
    for text, json in pairs { ["0042"] = '"0042"', ["1.10"] = '"1.10"', ["12345e7"] = '"12345e7"',
      ["42"] = "42", ["1.5"] = "1.5", ["+1"] = '"+1"', ["0x1F"] = '"0x1F"', ["True"] = '"True"',
      ["false"] = "false", ["null"] = "null", ["~"] = '"~"', ["-0"] = '"-0"',
      [("9"):rep(23)] = '"' .. ("9"):rep(23) .. '"' } do
      assert.equal(('{"a":%s}'):format(json), (value("a: ${V}", { env = { V = text } })))
    end
    assert.equal('{"a":644}', (value("a: 0644"))) -- written in the file: by the core schema
  end)

  it("has a default that may hold variables with defaults", function()
    local nested = { USERNAME = "me", HOST = "h" }
    for text, want in pairs {
      ["${DB:-${USERNAME}}"] = "me", ["${DB:-x${USERNAME}y${HOST}}"] = "xmeyh",
      ["${A:-${B:-${HOST}}}"] = "h", ["${A:-${B:-deep}}!"] = "deep!", ["${HOST:-${B:-deep}}"] = "h",
      ["${A:-$${HOST}"] = "${HOST", ["${A:-$x}"] = "$x",
    } do
      assert.equal(('{"a":"%s"}'):format(want), (value('a: "' .. text .. '"', { env = nested })))
    end
    assert.equal("environment variable USERNAME is not set: set it or write "
      .. "${USERNAME:-default}", select(2, value("a: ${DB:-${USERNAME}}", { env = {} })).message)
    assert.equal("defaults are nested more than 16 deep", select(2,
      value('a: "' .. ("${A:-"):rep(18) .. ("}"):rep(18) .. '"', { env = {} })).message)
    assert.equal("SEGUE_ESYNTAX", select(2, value("a: '${A:-${B}'", { env = {} })).name)
  end)

  it("is not replaced twice, not in keys, not behind $$, and only on request", function()
    assert.equal('{"a":"${PORT}","b":"${PORT} $PORT $ $$ 5$","c":"$$${PORT}"}',
      (value("a: ${DOLLAR}\nb: $${PORT} $PORT $ $$ 5$\nc: $$$${PORT}")))
    assert.equal('{"${PORT}":1}', (value("${PORT}: 1")))
    assert.equal('{"a":"${PORT}"}', (value("a: ${PORT}", { expand = false })))
  end)

  it("is refused where it is not set, with its name and place", function()
    local text, err = value("a:\n  - ok\n  - x ${MISSING}")
    assert.equal("SEGUE_ESOURCE", err.name)
    assert.equal("file:3:5: environment variable MISSING is not set: set it or write "
      .. "${MISSING:-default} (at a[1])", text)
    text = value('{"a":{"b":"${MISSING}"}}', { format = "json" })
    assert.equal("file:1:11: environment variable MISSING is not set: set it or write "
      .. "${MISSING:-default} (at a.b)", text)
  end)

  it("is refused where its syntax is wrong", function()
    for text, message in pairs {
      ["a: '${PORT'"] = "'${PORT' has no '}': write $${ for a literal ${",
      ["a: ${}"] = "'${}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
      ["a: ${1A}"] = "'${1A}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
      ["a: ${A-b}"] = "'${A-b}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
      ["a: ${A B}"] = "'${A B}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
      ["a: '${A:}'"] = "'${A:}' is not ${NAME} or ${NAME:-default}: write $${ for a literal ${",
    } do
      local reported, err = value(text)
      assert.equal("SEGUE_ESYNTAX", err and err.name, text)
      assert.equal("file:1:4: " .. message .. " (at a)", reported)
    end
    assert.equal("file:1:4: environment variable BAD is not valid UTF-8 (at a)",
      (value("a: ${BAD}")))
  end)

  it("counts in the hashes of tree and document", function()
    local text = "a: ${A}\nb: ${B:-1}"
    local one = parse(text, { A = "1" })
    local same = parse(text, { A = "1" })
    local other = parse(text, { A = "2" })
    local unset = parse(text, { A = "1", B = "1" })
    local empty = parse(text, { A = "1", B = "" })
    assert.equal(document.hash(one), document.hash(same))
    assert.not_equal(document.hash(one), document.hash(other))
    assert.not_equal(document.hash(one.root), document.hash(other.root))
    -- The same tree from another environment: equal in value, another document.
    assert.equal(document.hash(one.root), document.hash(unset.root))
    assert.not_equal(document.hash(one), document.hash(unset))
    assert.not_equal(document.hash(one), document.hash(empty))
  end)

  it("is remembered once, with its value", function()
    local doc = parse("a: ${A}\nb: ${A} ${B:-x}\nc: ${A}", { A = "1" })
    local seen = {}
    local v = doc.variables
    while v ~= nil do
      seen[#seen + 1] = C.str(v.name) .. "=" .. tostring(C.str(v.value))
      v = v.next
    end
    table.sort(seen)
    assert.same({ "A=1", "B=nil" }, seen)
  end)
end)

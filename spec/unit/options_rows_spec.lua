-- SPDX-License-Identifier: MIT
-- One row is an option: it is validated, filled, and in every text that is made from the tables.
-- And the defaults of the rows are those that the engine has for policies without tables.
local borrowed = require "spec.support.borrowed"
local C = require "spec.support.c"
local document = require "spec.support.document"
local schema = require "spec.support.schema"
local ffi = C.ffi

local function text_of(write)
  local buf = ffi.new("segue__buf[1]")
  write(buf)
  local text = C.buf(buf[0])
  C.segue__buf_deinit(buf)
  return text
end

local function has(text, part)
  assert.is_truthy(text:find(part, 1, true), part .. " in:\n" .. text)
end

describe("a new option of a new kind", function()
  -- Everything that an author writes: a struct, a row, a table, and its place in a family.
  ffi.cdef "typedef struct options_parrot { uint64_t words; } options_parrot;"
  local keep = borrowed.keep
  local row = keep(ffi.new("segue_option[1]", { { name = "words", type = C.SEGUE_OPTION_COUNT,
    offset = ffi.offsetof("options_parrot", "words"), fallback = "12", max = 40,
    doc = "how many it knows" } }))
  local nowhere = ffi.cast("size_t", -1)
  local parrot = keep(ffi.new("segue_option_table[1]", { {
    size = ffi.sizeof "segue_option_table", row_size = ffi.sizeof "segue_option", name = "parrot",
    doc = "A parrot.", rows = row, count = 1, struct_size = ffi.sizeof "options_parrot",
    key_offset = nowhere, kind_offset = nowhere } }))
  local kinds = keep(ffi.new("segue__option_kind[?]", tonumber(C.options_topics.count) + 1))
  for i = 0, tonumber(C.options_topics.count) - 1 do kinds[i] = C.options_topics.items[i] end
  kinds[C.options_topics.count] = { family = "pet", name = "parrot", table = parrot }
  local topics = ffi.new("segue__topics[1]", { { kinds, C.options_topics.count + 1 } })
  local topic = C.segue__topic_find(topics, "pet parrot")

  -- The struct of the kind, or nil and the messages.
  local function validate(yaml)
    local doc = document.good(yaml)
    local out, errors = ffi.new("options_all[1]"), ffi.new("segue__errors[1]")
    local env = ffi.new("segue__options_env[1]",
      { { kinds = kinds, kind_count = C.options_topics.count + 1 } })
    local rc = C.segue__options_fill(C.options_all_table, doc.root, out, env, errors)
    local messages = {}
    for i = 0, tonumber(errors[0].count) - 1 do
      messages[#messages + 1] = C.err(errors[0].items + i).text
    end
    C.segue__errors_deinit(errors)
    if rc ~= 0 then return nil, table.concat(messages, "\n") end
    local words = ffi.cast("options_parrot *", out[0].pets.items[0].kind.options).words
    C.segue__options_clear(C.options_all_table, out)
    return tonumber(words)
  end

  it("is validated, and fills its struct", function()
    assert.equal(12, validate "pets: {rio: {kind: parrot}}")
    assert.equal(30, validate "pets: {rio: {kind: parrot, words: 30}}")
    has(select(2, validate "pets: {rio: {kind: parrot, words: 41}}"),
      "pets.rio.words must be between 1 and 40, not 41")
    has(select(2, validate "pets: {rio: {kind: parrot, wrds: 1}}"),
      'pets.rio.wrds is not a known key here: did you mean "words"?')
    has(select(2, validate "pets: {rio: {kind: fish}}"), '"parrot"')
  end)

  it("is in the manual", function()
    local text = text_of(function(buf) C.segue__describe_man(topics, topic, buf) end)
    has(text, '.It Ic words No = Ar "number"\nHow many it knows.\nDefault: 12.\n1 to 40.\n')
  end)

  it("is in the types for editors", function()
    local text = text_of(function(buf) C.segue__describe_lua(topics, buf) end)
    has(text, "---@class segue.PetParrot: segue.Pet\n")
    has(text, "--- how many it knows. Default: 12. 1 to 40.\n---@field words? ")
  end)

  it("is in the help", function()
    local text = text_of(function(buf) C.segue__describe_help(topics, topic, buf) end)
    has(text, "pet parrot: A parrot.\n")
    has(text, "how many it knows. Default: 12. 1 to 40.\n")
  end)

  it("is in the JSON Schema, which accepts what the validation accepts", function()
    local text = text_of(function(buf)
      C.segue__describe_schema(topics, C.options_all_table, buf)
    end)
    assert.equal("valid", (schema.validate(text, '{"pets":{"rio":{"kind":"parrot","words":30}}}')))
    assert.are_not.equal("valid",
      (schema.validate(text, '{"pets":{"rio":{"kind":"parrot","words":41}}}')))
    assert.are_not.equal("valid",
      (schema.validate(text, '{"pets":{"rio":{"kind":"parrot","wrds":1}}}')))
  end)
end)

describe("the kinds of sources", function()
  it("are the topics of sources, each with the table of its own name", function()
    local room, names = ffi.new("segue__option_kind[96]"), {}
    local topics = C.options_policy_topics(room)
    for i = 0, tonumber(topics.count) - 1 do
      local topic = topics.items[i]
      if ffi.string(topic.family) == "source" then
        local kind = ffi.cast("const segue__source_kind *", topic.data)
        local name = ffi.string(topic.name)
        names[#names + 1] = name
        assert.equal(name, ffi.string(kind.name))
        assert.equal(name, ffi.string(topic.table.name))
        assert.is_true(kind.fetch ~= nil or kind.remote ~= nil or name == "plugin", name)
      end
    end
    assert.equal("file dir lua env value url source plugin", table.concat(names, " "))
  end)
end)

describe("the default of a row", function()
  local room = borrowed.keep(ffi.new("segue__option_kind[96]"))
  local topics = ffi.new("segue__topics[1]", { C.options_policy_topics(room) })

  -- The row of "drain.within" in a table.
  local function find(table, path)
    local name, rest = path:match("^([^.]+)%.?(.*)$")
    local row = C.segue__options_find(table, name, #name)
    assert(row ~= nil, "there is no option " .. path)
    return rest == "" and row or find(row.table, rest)
  end

  local function value_of(row)
    local text = row.fallback ~= nil and row.fallback or row.absent
    local node = ffi.new("segue_node[1]")
    local at, errors = ffi.new("uint64_t[1]"), ffi.new("segue__errors[1]")
    local number = tonumber(ffi.string(text))
    node[0].type = number and C.SEGUE_FLOAT or C.SEGUE_STRING
    if number then
      node[0].v.f = number
    else
      node[0].v.s, node[0].count = text, #ffi.string(text)
    end
    assert.equal(0, C.segue__option_validate(row, node, at, nil, errors))
    return tonumber(at[0])
  end

  local i = 0
  while C.options_constants[i].topic ~= nil do
    local constant = C.options_constants[i]
    local topic, path = ffi.string(constant.topic), ffi.string(constant.row)
    i = i + 1
    it("is the engine's own: " .. topic .. ", " .. path, function()
      local found = C.segue__topic_find(topics, topic)
      assert(found ~= nil, topic)
      assert.equal(constant.value, value_of(find(found.table, path)))
    end)
  end
end)

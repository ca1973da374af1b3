-- SPDX-License-Identifier: MIT
-- The manual, the help, the types for editors and the JSON Schema are made from the rows.
local C = require "spec.support.c"
local schema = require "spec.support.schema"
local ffi = C.ffi

local topics = ffi.cast("const segue__topics *", C.options_topics)

local function described(fn, ...)
  local buf = ffi.new("segue__buf[1]")
  fn(...)(buf)
  local text = C.buf(buf[0])
  C.segue__buf_deinit(buf)
  return text
end

local function topic(title)
  local found = C.segue__topic_find(topics, title)
  return found ~= nil and found or nil
end

local function help(title)
  return described(function()
    return function(buf) C.segue__describe_help(topics, title and topic(title), buf) end
  end)
end

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.is_truthy(text:find(part, 1, true), part .. "\n" .. text)
  end
end

describe("a topic", function()
  it("is found by its title, or by its name", function()
    assert.equal("cat", ffi.string(topic("pet cat").name))
    assert.equal("cat", ffi.string(topic("cat").name))
    assert.is_true(topic("pet").name == nil)
    assert.is_nil(topic("fish"))
  end)
end)

describe("the help", function()
  it("lists the topics", function()
    has(help(), "  all                   A row of each type.\n", "  pet cat               A cat.\n")
  end)

  it("shows each option with its type, default and range", function()
    has(help("all"), '  choice = "swap" | "handover" | "restart"\n',
      'one of three. Default: "handover".',
      "  duration = duration             a time. Default: 1s. 100ms to 1h.\n",
      "  count = number                  a number. Default: 3. 1 to 256.\n",
      "  texts = text | list of texts    texts. At most 3 items.\n",
      "    within = duration             time for it. Default: 10s. Longer than 0.\n",
      "  pets = table of pets")
  end)

  it("shows the rows of the family with those of a kind", function()
    has(help("cat"), "  home = path", "Required.", "and as every pet:\n  legs = number")
  end)
end)

describe("the manual", function()
  it("has an item for each option, nested where the table is", function()
    local text = described(function()
      return function(buf) C.segue__describe_man(topics, topic("all"), buf) end
    end)
    has(text, '.It Ic duration No = Ar "duration"\nA time.\nDefault: 1s.\n100ms to 1h.\n',
      '.It Ic choice No = Ar "\\(dqswap\\(dq | ', '.It Ic within No = Ar "duration"')
    local _, opened = text:gsub("%.Bl", "")
    local _, closed = text:gsub("%.El", "")
    assert.equal(opened, closed)
  end)
end)

describe("the types for editors", function()
  it("are a class for each table", function()
    local text = described(function()
      return function(buf) C.segue__describe_lua(topics, buf) end
    end)
    has(text, "---@class segue.All\n", "---@field [integer]? string the same as texts\n",
      "--- a time. Default: 1s. 100ms to 1h.\n---@field duration? segue.Duration\n",
      "--- a table\n---@field drain? true|segue.Duration|segue.Drain\n",
      "--- animals by name\n---@field pets? table<string, segue.PetCat|segue.PetDog>\n",
      "---@class segue.PetCat: segue.Pet\n", "---@field home string\n")
  end)
end)

describe("the JSON Schema", function()
  local text = described(function()
    return function(buf) C.segue__describe_schema(topics, C.options_all_table, buf) end
  end)

  it("accepts what the validation accepts", function()
    for _, good in ipairs { "{}", '{"duration":"5s"}', '{"drain":true}', '{"drain":"5s"}',
        '{"texts":"a"}', '{"texts":["a","b"]}',
        '{"pets":{"tom":{"kind":"cat","home":"x","legs":3}}}',
        '{"pairs":{"a":["x",1],"b":false}}' } do
      assert.equal("valid", (schema.validate(text, good)), good)
    end
  end)

  it("rejects what the validation rejects", function()
    for _, bad in ipairs { '{"txt":1}', '{"count":0}', '{"count":257}', '{"choice":"x"}',
        '{"drain":{"witin":1}}', '{"texts":["a","b","c","d"]}', '{"pets":{"tom":{"kind":"fish"}}}',
        '{"pets":{"tom":{"kind":"cat"}}}', '{"text":""}' } do
      assert.are_not.equal("valid", (schema.validate(text, bad)), bad)
    end
  end)
end)

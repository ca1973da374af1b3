-- SPDX-License-Identifier: MIT
-- Random documents with a secret in each, and one mistake that makes a message want to quote it.
-- All secrets begin with one mark and end with another, so that one search finds a piece of any.
local M = {}

M.marks = { "kQzX7", "wJvY3", "20240917", "99887766" }
local ALLOWED = "hT5wE" -- of values that the schema allows for a secret
local letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

--- A source of documents: M.new(seed); the same seed gives the same documents.
local Planter = {}
Planter.__index = Planter

function M.new(seed)
  return setmetatable({ state = seed % 2147483646 + 1 }, Planter)
end

function Planter:number(n)
  self.state = self.state * 16807 % 2147483647
  return self.state % n + 1
end

function Planter:pick(list) return list[self:number(#list)] end

--- A secret word, and a secret number of 24 digits: more than 64 bits.
function Planter:word()
  local out = {}
  for i = 1, self:number(12) + 3 do
    local at = self:number(#letters)
    out[i] = letters:sub(at, at)
  end
  return M.marks[1] .. table.concat(out) .. M.marks[2]
end

function Planter:digits()
  return M.marks[3] .. ("%08d"):format(self:number(99999999)) .. M.marks[4]
end

-- Values for "password:" in YAML; S is a secret word, D a secret number, U capital letters.
M.yaml = { "D", "-D", "0xD", "De999999", "*S", "&S [*S]", "&S {a: *S}", "!!int S", "!!float S",
  "!!null S", "!S x", "!S [x]", "!S {x: 1}", "!!map S", "!<S> x", "@S", "`S", "%S", "|S\n      x",
  '"S', "'S", '"S\\q"', '"S" S', "'S' S: S", "[S", "{S", "{S: [}", "S: S", "- S", "*S : x",
  "[*S]", "[D]", "{a: D}", "{a: *S}", "{S: 1, S: 2}", "{[S]: 1}", "{? {S: 1} : 2}", "{S: D}",
  "{S: @S}", "{S: 1, *S : 2}", "'pa${S'", "'pa${S}'", "'${S}'", "'${S:x}'", "'${S-x}'", "'pa${U}'",
  "'${U}${U}'", "{a: 'pa${S}'}", '"S\255"', '"S\0"', '"S\\0"', '"\\xS"', "S\n--- S", "S\n... S",
  "S\n\tS: S", "S\n   S: S", "&S", "<<: S", "{<<: S}", "{<<: [S]}" }

-- The same in JSON, for "password":.
M.json = { "D", "-D", "De99999", "S", "0D", "+D", "'S'", '"S', '"S\\q"', '"S\\u12"', '"S" S',
  '"S" "S"',
  '"S",]', "{S:1}",
  '{"S":D}', '{"S":1,"S":2}', '{"S" 1}', '{"S":}', '{"a":S}', '["S" "S"]', "[D]",
  "[S]", '"pa${S"', '"pa${S}"', '"${S:x}"', '"${U}x"', '"S\n"', '"S\255"', '"\\ud800S"', "tS", "nS",
  '/* S */ 1', "# S" }

--- Fills S, D and U of a mistake.
function Planter:fill(text)
  local word, digits = self:word(), self:digits()
  return (text:gsub("%f[%a]U%f[%A]", (word:upper():gsub("[^%w]", "_")))
    :gsub("S", function() return word end):gsub("D", function() return digits end))
end

-- Where the value stands; every path of these is a secret.
local places = { { "password", "" }, { "password", "" }, { "vault", "" }, { "api_key", "users" } }

--- One YAML or JSON document with one mistake: text, and the ending of its file's name.
function Planter:broken(name)
  local place = self:pick(places)
  if self:number(3) == 1 then
    local value = self:fill(self:pick(M.json))
    local inner = ('{"host":"h","%s":%s,"port":1}'):format(place[1], value)
    if place[2] ~= "" then inner = ('{"%s":[%s]}'):format(place[2], inner) end
    return ('{"%s":%s}'):format(name, inner), ".json"
  end
  local value = self:fill(self:pick(M.yaml))
  if place[2] ~= "" then
    return ("%s:\n  %s:\n    - host: h\n      %s: %s\n      port: 1\n"):format(name, place[2],
      place[1], value), ".yaml"
  end
  return ("%s:\n  host: h\n  %s: %s\n  port: 1\n"):format(name, place[1], value), ".yaml"
end

-- Members that break the rule of their name in the schema below.
local unfit = { type = '"S"', enum = '"S"', const = '"S"', pattern = '"S"', maximum = "N",
  minimum = "-N", multiple = "N", less = "N", more = "-N", length = '"S"', short = '"S"',
  format = '"S"',
  one = '"S"', none = '"S"', any = '"S"', no = '"S"', items = '["S", "S"]', map = '{"S": 1}',
  names = '{"S": 1}', closed = '{"S": "S"}', required = '{"S": "S"}', deep = '{"a": {"S": ["S"]}}',
  tuple = '["S"]', few = '["S"]', contains = '["S"]', rest = '{"S": 1}', cond = '"S"' }

-- "secret" is marked writeOnly; the same rules stand under "plain", which the policy calls secret.
local rules = [[{
  "type": { "type": "integer" }, "enum": { "enum": ["hT5wEaaa", 1] },
  "const": { "const": "hT5wEbbb" }, "pattern": { "pattern": "^a", "description": "an a" },
  "maximum": { "maximum": 9 }, "minimum": { "minimum": 9 }, "multiple": { "multipleOf": 7.5 },
  "less": { "exclusiveMaximum": 9 }, "more": { "exclusiveMinimum": 9 },
  "length": { "minLength": 500 }, "short": { "maxLength": 1 }, "format": { "format": "ipv4" },
  "one": { "oneOf": [{ "type": "string" }, { "minLength": 1 }] },
  "none": { "oneOf": [{ "const": 1 }, { "const": 2 }] },
  "any": { "anyOf": [{ "const": "hT5wEccc" }, { "type": "null" }] },
  "no": { "not": { "type": "string" } }, "items": { "uniqueItems": true },
  "map": { "additionalProperties": { "type": "string" } },
  "names": { "propertyNames": { "maxLength": 1 } },
  "closed": { "properties": { "hT5wEddd": true }, "additionalProperties": false },
  "required": { "required": ["x"] },
  "deep": { "properties": { "a": { "additionalProperties": { "items": { "type": "null" } } } } },
  "tuple": { "prefixItems": [{ "const": 1 }] }, "few": { "items": false, "minItems": 2 },
  "contains": { "contains": { "type": "integer" } }, "rest": { "unevaluatedProperties": false },
  "cond": { "if": { "type": "string" }, "then": { "enum": [1] } } }]]

--- The schema that goes with Planter:unfit.
function M.schema()
  local text = [[{ "additionalProperties": { "properties": {
    "secret": { "writeOnly": true, "properties": RULES }, "plain": { "properties": RULES } } } }]]
  return (text:gsub("RULES", function() return rules end))
end

local kinds = {}
for kind in pairs(unfit) do kinds[#kinds + 1] = kind end
table.sort(kinds)

--- A document that can be read and does not fit the schema.
function Planter:unfit(name)
  local kind, word = self:pick(kinds), self:word()
  local number = M.marks[3] .. ("%08d"):format(self:number(99999999))
  local value = unfit[kind]:gsub("S", function() return word end):gsub("N", number)
  return ('{"%s":{"%s":{"%s":%s}}}'):format(name, self:pick { "secret", "plain" }, kind, value),
    ".json"
end

local function around(text, piece)
  local at = text:find(piece, 1, true)
  return at and text:sub(math.max(1, at - 200), at + 60)
end

--- Returns the text around a piece of a secret, or nil if the text shows none. file: it may contain
--- the schema.
function M.find(text, file)
  for _, mark in ipairs(M.marks) do
    local enough = mark:match("^%d") and 7 or 4 -- shorter numbers may be a process or a time
    local found = around(text, mark:sub(1, enough)) or around(text, mark:sub(-enough))
    if found then return found end
  end
  return not file and around(text, ALLOWED) or nil
end

return M

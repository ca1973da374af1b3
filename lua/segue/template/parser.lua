-- SPDX-License-Identifier: MIT
-- The parser of templates: Go's text/template/parse/parse.go. Tokens are in arrays, so that backing
-- up is a smaller index.
local lexer = require "segue.template.lexer"
local number = require "segue.template.number"
local quote = require "segue.template.quote"
local node = require "segue.template.node"

---@class segue.template.node: table
---@field k string its kind: "list", "text", "action", "if", "pipe", "field" ... (node.lua)
---@field pos integer of its first byte, from 1

---@class segue.template.trees
---@field name string
---@field text string
---@field templates table<string, segue.template.node> the lists by their name

-- Nested blocks and parentheses use the stack of Lua, which ends at about 65,000 slots.
local BLOCKS_MAX, PARENTHESES_MAX = 500, 1000

---@class segue.template.parser
local P = {}
P.__index = P

function P:fail(message, ...)
  if select("#", ...) > 0 then message = message:format(...) end
  local line = node.line(self.text, self.tokens.pos[self.furthest] or 1)
  error({ message = ("template: %s:%d: %s"):format(self.name, line, message), line = line }, 0)
end

-- The kind and the index of the next token.
function P:next()
  local at = self.at
  if at > self.furthest then self.furthest = at end
  if at < self.tokens.count then self.at = at + 1 end
  return self.kind[at], at
end

function P:peek()
  local at = self.at
  if at > self.furthest then self.furthest = at end
  return self.kind[at], at
end

function P:peek_word()
  if self.kind[self.at] == "space" then self.at = self.at + 1 end
  return self:peek()
end

function P:next_word()
  self:peek_word()
  return self:next()
end

function P:value(at)
  return self.tokens.value[at]
end

function P:pos(at)
  return self.tokens.pos[at]
end

function P:unexpected(at, context)
  local shown = lexer.describe(self.tokens, at)
  if self.kind[at] ~= "error" then self:fail("%s", "unexpected " .. shown .. " in " .. context) end
  local extra = ""
  local begun = self.action and node.line(self.text, self.action)
  if begun and begun ~= node.line(self.text, self:pos(at)) then
    extra = (" in action started at %s:%d"):format(self.name, begun)
    if shown:find " action$" then extra = extra:sub(#" in action" + 1) end
  end
  self:fail("%s", shown .. extra)
end

function P:expect(kind, context)
  local found, at = self:next_word()
  if found ~= kind then self:unexpected(at, context) end
  return at
end

function P:unquote(at)
  local text = quote.unquote(self:value(at))
  if not text then self:fail "invalid syntax" end
  return text
end

-- ---- Templates ----------------------------------------------------------------------------------

local function is_empty(list)
  for _, item in ipairs(list) do
    if item.k ~= "text" or item.text:find "[^ \t\r\n\v\f]" then return false end
  end
  return true
end

function P:add(name, list)
  local old = self.templates[name]
  if not old or is_empty(old) then
    if not old then self.order[#self.order + 1] = name end
    self.templates[name] = list
  elseif not is_empty(list) then
    self:fail("%s", "template: multiple definition of template " .. quote.quote(name))
  end
end

-- Parses a body with its own scope, of a define or block, to its end.
function P:body(context)
  local vars, depth, action = self.vars, self.range_depth, self.action
  self.vars, self.range_depth, self.action = { "$" }, 0, nil
  local head = self.furthest
  local list, ending = self:item_list()
  if ending.k ~= "end" then
    -- Go reports it with the line of the block's head, but with that of a define's end.
    if context == "block clause" then self.furthest = head end
    self:fail("unexpected %s in %s", node.text(ending), context)
  end
  return list, function() self.vars, self.range_depth, self.action = vars, depth, action end
end

function P:template_name(context)
  local kind, at = self:next_word()
  if kind ~= "string" and kind ~= "raw" then self:unexpected(at, context) end
  return self:unquote(at), at
end

function P:definition()
  local context = "define clause"
  local name = self:template_name(context)
  self:expect("right", context)
  local list, restore = self:body(context)
  self:add(name, list)
  restore()
end

function P:root()
  local list = { k = "list", pos = 1 }
  while self:peek() ~= "eof" do
    local kind, at = self:peek()
    local is_define = false
    if kind == "left" then
      self:next()
      is_define = self:next_word() == "define"
      if not is_define then self.at = at end
    end
    if is_define then
      self:definition()
    else
      local n = self:text_or_action()
      if n.k == "end" or n.k == "else" then self:fail("unexpected %s", node.text(n)) end
      list[#list + 1] = n
    end
  end
  self:add(self.name, list)
end

function P:item_list()
  local list = { k = "list", pos = self:pos(select(2, self:peek_word())) }
  while self:peek_word() ~= "eof" do
    local n = self:text_or_action()
    if n.k == "end" or n.k == "else" then return list, n end
    list[#list + 1] = n
  end
  self:fail "unexpected EOF"
end

function P:text_or_action()
  local kind, at = self:next_word()
  if kind == "text" then
    return { k = "text", pos = self:pos(at), text = self:value(at), at = at }
  end
  if kind ~= "left" then self:unexpected(at, "input") end
  self.action = self:pos(at)
  local n = self:read_action()
  self.action = nil
  return n
end

-- ---- Actions ------------------------------------------------------------------------------------

local controls = {}

function P:read_action()
  local kind, at = self:next_word()
  local control = controls[kind]
  if control then return control(self, at) end
  self.at = at
  return { k = "action", pos = self:pos(at), pipe = self:pipeline("command", "right") }
end

local function loop_control(name)
  return function(self, at)
    local kind, next_at = self:next_word()
    if kind ~= "right" then self:unexpected(next_at, "{{" .. name .. "}}") end
    if self.range_depth == 0 then self:fail("%s", "{{" .. name .. "}} outside {{range}}") end
    return { k = name, pos = self:pos(at) }
  end
end
controls["break"] = loop_control "break"
controls["continue"] = loop_control "continue"

controls["end"] = function(self)
  return { k = "end", pos = self:pos(self:expect("right", "end")) }
end

controls["else"] = function(self)
  local kind, at = self:peek_word()
  if kind == "if" or kind == "with" then return { k = "else", pos = self:pos(at) } end
  return { k = "else", pos = self:pos(self:expect("right", "else")) }
end

-- A chain of else-ifs is read in a loop: there are templates with thousands of them.
local function control(self, context)
  local outer, vars = nil, #self.vars
  local first
  self.blocks = self.blocks + 1
  if self.blocks > BLOCKS_MAX then self:fail("blocks are nested more than %d deep", BLOCKS_MAX) end
  while true do
    local pipe = self:pipeline(context, "right")
    local n = { k = context, pos = pipe.pos, pipe = pipe }
    if outer then outer.otherwise = { k = "list", pos = n.pos, n, chained = true } end
    first = first or n
    if context == "range" then self.range_depth = self.range_depth + 1 end
    local ending
    n.list, ending = self:item_list()
    if context == "range" then self.range_depth = self.range_depth - 1 end
    if ending.k == "end" then break end
    if context == "range" or self:peek() ~= context then
      n.otherwise, ending = self:item_list()
      if ending.k ~= "end" then self:fail("expected end; found %s", node.text(ending)) end
      break
    end
    self:next()
    outer = n
  end
  self.blocks = self.blocks - 1
  for i = #self.vars, vars + 1, -1 do self.vars[i] = nil end
  return first
end
for _, context in ipairs { "if", "with", "range" } do
  controls[context] = function(self) return control(self, context) end
end

controls["template"] = function(self)
  local context = "template clause"
  local name, at = self:template_name(context)
  local n = { k = "template", pos = self:pos(at), name = name }
  local kind, next_at = self:next_word()
  if kind ~= "right" then
    self.at = next_at
    n.pipe = self:pipeline(context, "right")
  end
  return n
end

controls["block"] = function(self)
  local context = "block clause"
  local name, at = self:template_name(context)
  local n = { k = "template", pos = self:pos(at), name = name }
  n.pipe = self:pipeline(context, "right")
  self.blocks = self.blocks + 1
  if self.blocks > BLOCKS_MAX then self:fail("blocks are nested more than %d deep", BLOCKS_MAX) end
  local list, restore = self:body(context)
  self:add(name, list)
  restore()
  self.blocks = self.blocks - 1
  return n
end

-- ---- Entry --------------------------------------------------------------------------------------

P.PARENTHESES_MAX = PARENTHESES_MAX
P.parse_number = number.parse
require "segue.template.pipeline"(P)

local parser = {}

-- Parses a text and the templates that it defines.
---@param name string the template's name, for messages
---@param text string
---@param functions table<string, any> the names that may be called
---@param left? string
---@param right? string
---@return segue.template.trees? trees
---@param tokens? segue.template.tokens of the text, where they are there already
---@return { message: string, line: integer }? problem
function parser.parse(name, text, functions, left, right, tokens)
  tokens = tokens or lexer.run(text, left, right)
  local self = setmetatable({
    name = name, text = text, tokens = tokens, kind = tokens.kind, functions = functions,
    at = 1, furthest = 1, vars = { "$" }, range_depth = 0, blocks = 0, depth = 0, templates = {},
    order = {},
  }, P)
  local good, problem = pcall(self.root, self)
  if good then
    return { name = name, text = text, templates = self.templates, order = self.order,
      nested_variables = self.nested_variables }
  end
  if type(problem) ~= "table" then error(problem, 0) end
  return nil, problem
end

return parser

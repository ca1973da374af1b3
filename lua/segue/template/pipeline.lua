-- SPDX-License-Identifier: MIT
-- The part of the parser that reads pipelines, commands and operands.
local node = require "segue.template.node"
local quote = require "segue.template.quote"

local begins_operand = {}
for _, kind in ipairs { "bool", "character", "complex", "dot", "field", "identifier", "number",
  "nil", "raw", "string", "variable", "(" } do
  begins_operand[kind] = true
end
local not_executable = { bool = true, dot = true, ["nil"] = true, number = true, string = true }

---@param P segue.template.parser gets the methods
return function(P)
  -- $x :=, $x =, and in range also $i, $x :=
  function P:declarations(pipe, context)
    local kind, at = self:peek_word()
    if kind ~= "variable" then return end
    self:next()
    local after = self:peek_word()
    if after == "assign" or after == "declare" then
      pipe.assigns = after == "assign"
      self:next()
    elseif after ~= "char" or self:value(self.at) ~= "," then
      self.at = at
      return
    end
    local n = #pipe.vars + 1
    pipe.vars[n] = { k = "variable", pos = self:pos(at), name = self:value(at), fields = {} }
    self.vars[#self.vars + 1] = self:value(at)
    if after == "assign" or after == "declare" then return end
    self:next()
    if context == "range" and n < 2 then
      local following = self:peek_word()
      if following == "variable" or following == "right" or following == ")" then
        return self:declarations(pipe, context)
      end
      self:fail "range can only initialize variables"
    end
    self:fail("too many declarations in %s", context)
  end

  function P:pipeline(context, ending)
    local _, first = self:peek_word()
    local pipe = { k = "pipe", pos = self:pos(first), vars = {} }
    self:declarations(pipe, context)
    if ending == ")" and #pipe.vars > 0 then self.nested_variables = true end
    while true do
      local kind, at = self:next_word()
      if kind == ending then break end
      if not begins_operand[kind] then self:unexpected(at, context) end
      self.at = at
      pipe[#pipe + 1] = self:command()
    end
    if #pipe == 0 then self:fail("missing value for %s", context) end
    for i = 2, #pipe do
      if not_executable[pipe[i][1].k] then
        self:fail("non executable command in pipeline stage %d", i)
      end
    end
    return pipe
  end

  function P:command()
    local _, first = self:peek_word()
    local command = { k = "command", pos = self:pos(first) }
    while true do
      self:peek_word()
      local operand = self:operand()
      if operand then command[#command + 1] = operand end
      local kind, at = self:next()
      if kind ~= "space" then
        if kind == "right" or kind == ")" then
          self.at = at
        elseif kind ~= "pipe" then
          self:unexpected(at, "operand")
        end
        break
      end
    end
    if #command == 0 then self:fail "empty command" end
    return command
  end

  -- A term, and the fields behind it.
  function P:operand()
    local term = self:term()
    if not term then return nil end
    local kind, at = self:peek()
    if kind ~= "field" then return term end
    local fields = {}
    while self:peek() == "field" do
      local _, field = self:next()
      fields[#fields + 1] = self:value(field):sub(2)
    end
    if term.k == "field" or term.k == "variable" then
      for _, name in ipairs(fields) do term.fields[#term.fields + 1] = name end
      term.pos = self:pos(at)
      return term
    end
    if not_executable[term.k] then
      self:fail("%s", "unexpected . after term " .. quote.quote(node.text(term)))
    end
    return { k = "chain", pos = self:pos(at), node = term, fields = fields }
  end

  local terms = {}

  function P:term()
    local kind, at = self:next_word()
    local read = terms[kind]
    if read then return read(self, at, self:pos(at), self:value(at)) end
    self.at = at
    return nil
  end

  function terms.identifier(self, _, pos, name)
    if self.functions[name] == nil then
      local message = "function " .. quote.quote(name) .. " not defined"
      local hint = self.functions[1] and self.functions[1](name)
      self:fail("%s", message .. (hint or ""))
    end
    return { k = "identifier", pos = pos, name = name }
  end

  function terms.dot(_, _, pos) return { k = "dot", pos = pos } end
  terms["nil"] = function(_, _, pos) return { k = "nil", pos = pos } end

  function terms.variable(self, _, pos, name)
    for _, known in ipairs(self.vars) do
      if known == name then return { k = "variable", pos = pos, name = name, fields = {} } end
    end
    self:fail("%s", "undefined variable " .. quote.quote(name))
  end

  function terms.field(_, _, pos, name)
    return { k = "field", pos = pos, fields = { name:sub(2) } }
  end

  function terms.bool(_, _, pos, name) return { k = "bool", pos = pos, value = name == "true" } end

  local function read_number(kind)
    return function(self, _, pos, literal)
      local constant, message = self.parse_number(literal, kind)
      if not constant then self:fail("%s", message) end
      return { k = "number", pos = pos, literal = literal, number = constant }
    end
  end
  terms.number = read_number "number"
  terms.character = read_number "character"
  terms.complex = read_number "complex"

  terms["("] = function(self)
    self.depth = self.depth + 1
    if self.depth > self.PARENTHESES_MAX then self:fail "max expression depth exceeded" end
    local pipe = self:pipeline("parenthesized pipeline", ")")
    self.depth = self.depth - 1
    return pipe
  end

  function terms.string(self, at, pos, literal)
    return { k = "string", pos = pos, literal = literal, text = self:unquote(at) }
  end
  terms.raw = terms.string
end

-- SPDX-License-Identifier: MIT
-- The part of the compiler for pipelines: Go's evalPipeline, evalCommand, evalArg; calls.lua:
-- evalCall. Each method writes statements and returns an atom: a constant, a variable or a
-- temporary that holds the value. The second result is code for the container that the value came
-- out of ("nil": none, then the value has a type of its own): Go's messages differ.
--
-- self.site follows Go's state.at: it names the node that was evaluated last, which is the one that
-- an error shows. Behind and/or only the running code knows it, so that site is then a temporary.
local calls = require "segue.template.calls"
local node = require "segue.template.node"
local signature = require "segue.template.signature"
local value = require "segue.template.value"

local format, concat = string.format, table.concat
local TEMPS_MAX, SITES_MAX = 24, 10

local expression = { SITES_MAX = SITES_MAX }

---@param C segue.template.compiler gets the methods
function expression.extend(C)
  function C:temp()
    self.top = self.top + 1
    if self.top > TEMPS_MAX then
      self.spills = true
      return format("S[%d]", self.top)
    end
    if self.top > self.temps then self.temps = self.top end
    return "t" .. self.top
  end

  -- Holds the number of the node that was evaluated last, behind and/or.
  function C:site_temp()
    self.site_temps = self.site_temps + 1
    if self.site_temps <= SITES_MAX then return "s" .. self.site_temps end
    self.spills = true
    return "S.s" .. self.site_temps
  end

  function C:constant(v)
    local t = type(v)
    if t == "string" then return format("%q", v) end
    if t == "number" then return format("%.0f", v) end
    if t == "boolean" then return tostring(v) end
    self.constants[#self.constants + 1] = v
    return format("K[%d]", #self.constants)
  end

  function C:function_constant(f)
    local known = self.constant_of[f]
    if not known then
      known = self:constant(f)
      self.constant_of[f] = known
    end
    return known
  end

  -- ---- Pipelines --------------------------------------------------------------------------------

  -- keeps_null: the caller takes null for nothing by itself.
  function C:pipeline(pipe, keeps_null)
    self:at(pipe)
    local atom
    local count = #pipe
    for i = 1, count do
      local from
      local top = self.top
      atom, from = self:command(pipe[i], i > 1 and atom or nil)
      if from ~= "nil" and not (keeps_null and i == count) then
        self.top = top
        local t = self:temp()
        self:add("%s = %s(%s)", t, self:use "concrete", atom)
        atom = t
      end
    end
    for _, variable in ipairs(pipe.vars) do
      if pipe.assigns then
        local target = self:find(variable.name)
        if not target then
          self:fail("undefined variable: " .. variable.name)
          return "nil", "nil"
        end
        self:add("%s = %s", target.code, atom)
        target.from = "nil"
      else
        self:add("%s = %s", self:declare(variable.name).code, atom)
      end
    end
    return atom, "nil"
  end

  -- A pipeline that is one field, variable or dot, as an expression without statements; nil: it is
  -- another one. null stays null.
  function C:short_pipeline(pipe)
    local n = pipe[1][1]
    if pipe[2] or pipe[1][2] or #pipe.vars > 0 then return nil end
    local atom, from
    if n.k == "field" then
      atom, from = "dot", self.dot_from
    elseif n.k == "variable" then
      local variable = self:find(n.name)
      if not variable then return nil end
      atom, from = variable.code, variable.from
    elseif n.k == "dot" then
      self:at(n)
      return "dot"
    else
      return nil
    end
    local fields = n.fields
    if #fields > 2 then return nil end
    self:at(n)
    if #fields == 0 then return atom end
    local container = from ~= "nil" and ", " .. from or ""
    local field, site = self:use "field", self.site
    local one = format("%s(%s, %q, %d%s)", field, atom, fields[1], site, container)
    if #fields == 1 then return one end
    return format("%s(%s, %q, %d, %s)", field, one, fields[2], site, atom)
  end

  local function not_a_function(self, command, final)
    if #command > 1 or final then
      self:fail("can't give argument to non-function " .. node.text(command[1]))
      return true
    end
  end

  -- final: the atom of the value that is piped in, or nil.
  function C:command(command, final)
    local first = command[1]
    local k = first.k
    if k == "field" then
      self:at(first)
      return self:chain("dot", self.dot_from, first, first.fields, command, final)
    elseif k == "chain" then
      return self:chain_node(first, command, final)
    elseif k == "identifier" then
      return self:call_function(first, command, command, final)
    elseif k == "pipe" then
      if not_a_function(self, command, final) then return "nil", "nil" end
      return self:pipeline(first)
    elseif k == "variable" then
      return self:variable(first, command, final)
    end
    self:at(first)
    if not_a_function(self, command, final) then return "nil", "nil" end
    if k == "dot" then return "dot", self.dot_from end
    if k == "nil" then
      self:fail "nil is not a command"
      return "nil", "nil"
    end
    return self:literal(first)
  end

  -- A constant where any type may stand.
  function C:literal(n)
    self:at(n)
    if n.k == "bool" then return tostring(n.value), "nil" end
    if n.k == "string" then return self:constant(n.text), "nil" end
    local number = n.number
    if number.is_float then return self:constant(value.float(number.float)), "nil" end
    if number.overflows then
      self:fail(n.literal .. " overflows int")
      return "nil", "nil"
    end
    return self:constant(number.int), "nil"
  end

  -- ---- Fields -----------------------------------------------------------------------------------

  function C:variable(n, command, final)
    self:at(n)
    local variable = self:find(n.name)
    if not variable then
      self:fail("undefined variable: " .. n.name)
      return "nil", "nil"
    end
    if #n.fields == 0 then
      if command and not_a_function(self, command, final) then return "nil", "nil" end
      if not self.copies_variables then return variable.code, variable.from end
      local t = self:temp()
      self:add("%s = %s", t, variable.code)
      return t, variable.from
    end
    return self:chain(variable.code, variable.from, n, n.fields, command, final)
  end

  function C:chain_node(n, command, final)
    self:at(n)
    if n.node.k == "nil" then
      self:fail("indirection through explicit nil in " .. node.text(n))
      return "nil", "nil"
    end
    local atom, from = self:argument(n.node, nil)
    return self:chain(atom, from, n, n.fields, command, final)
  end

  -- Fields of a receiver. Two temporaries take turns, so that the container of a value is at hand.
  function C:chain(atom, from, n, fields, command, final)
    local site = self.site
    local args = command and #command or 1
    local count = #fields
    local a, b = self:temp(), count > 1 and self:temp() or nil
    for i = 1, count do
      local last = i == count
      local target = (count - i) % 2 == 0 and a or b
      if last and (args > 1 or final) then
        return self:call_method(atom, from, n, fields[i], command, final, a)
      end
      if from == "nil" then
        self:add("%s = %s(%s, %q, %s)", target, self:use "field", atom, fields[i], site)
      else
        self:add("%s = %s(%s, %q, %s, %s)", target, self:use "field", atom, fields[i], site, from)
      end
      -- The container must not be the temporary that is assigned next.
      from = (atom ~= target) and atom or self:use "IFACE"
      atom = target
    end
    if b then self.top = self.top - 1 end
    return atom, self:use "IFACE"
  end

  -- A method with arguments; a field that is none fails before its arguments are evaluated.
  function C:call_method(atom, from, n, name, command, final, result)
    self:add("%s = %s(%s, %q, %s, %s)", result, self:use "call_field", atom, name, self.site, from)
    -- Nothing has no method: the arguments are not evaluated.
    local site = self:site_temp()
    self:add("%s = %s", site, self.site)
    self:add("if %s then", result)
    local args = {}
    for i = 2, #command do
      args[#args + 1] = self:to_any(self:argument(command[i], "any"))
    end
    if final then args[#args + 1] = self:to_any(final) end
    self:add("%s = %s(%s, %s%s)", result, result, self:site_of(n), atom,
      #args > 0 and ", " .. concat(args, ", ") or "")
    self:add("%s = %s", site, self.site)
    self:line "end"
    self.site = site
    return result, "nil"
  end

  -- null as an absent value, in a parameter that accepts any type.
  function C:to_any(atom)
    if atom == "nil" then return self:use "NULL" end
    local c = atom:byte()
    -- Constants: a text, a number, K[..]
    if c == 34 or (c >= 48 and c <= 57) or c == 45 or c == 75 then return atom end
    if atom == "true" or atom == "false" then return atom end
    return self:use "any" .. "(" .. atom .. ")"
  end

  -- ---- Arguments --------------------------------------------------------------------------------

  -- Evaluates an argument for a parameter type (nil: of a chain; "any": interface {}; "value": a
  -- reflect.Value).
  function C:argument(n, want)
    self:at(n)
    local k = n.k
    if k == "dot" then
      return self:validate(want, "dot", self.dot_from)
    elseif k == "nil" then
      if want and not signature.may_be_nil(want) then
        self:fail("cannot assign nil to " .. signature.go_type(want))
      end
      return "nil", "nil"
    elseif k == "field" then
      return self:validate(want, self:chain("dot", self.dot_from, n, n.fields))
    elseif k == "variable" then
      return self:validate(want, self:variable(n))
    elseif k == "pipe" then
      return self:validate(want, self:pipeline(n))
    elseif k == "identifier" then
      return self:validate(want, self:call_function(n, n, { n }))
    elseif k == "chain" then
      return self:validate(want, self:chain_node(n))
    end
    if not want or want == "any" or want == "value" then return self:literal(n) end
    local constant, message = signature.convert(want, n)
    if message then
      self:fail(message)
      return "nil", "nil"
    end
    return self:constant(constant), "nil"
  end

  function C:validate(want, atom, from)
    if not want or want == "any" or want == "value" then return atom, from end
    local top = self.top
    local t = atom:find "^t%d+$" and atom or self:temp()
    self:add("%s = %s[%q](%s, %s)", t, self:use "as", want, atom, self.site)
    if t == atom then self.top = top end
    return t, "nil"
  end

  calls(C)
end

return expression

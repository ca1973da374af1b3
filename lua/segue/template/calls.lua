-- SPDX-License-Identifier: MIT
-- The part of the compiler for calls of functions: Go's evalCall.
local printf = require "segue.template.printf"

local concat, format = table.concat, string.format
local ARGUMENTS_MAX = 20

---@param C segue.template.compiler gets the methods
return function(C)
  -- at_node: the node that "error calling" shows.
  function C:call_function(n, at_node, command, final)
    self:at(n)
    local f = self.table_of[n.name]
    local params, given = f.params, #command - 1 + (final and 1 or 0)
    if f.variadic and given < #params then
      self:fail(format("wrong number of args for %s: want at least %d got %d", n.name, #params,
        #command - 1))
      return "nil", "nil"
    elseif not f.variadic and given ~= #params then
      self:fail(format("wrong number of args for %s: want %d got %d", n.name, #params, given))
      return "nil", "nil"
    end
    if f.short_circuit then return self:short_circuit(f, command, final) end
    local top = self.top
    local result = self:temp()
    local args = given > ARGUMENTS_MAX and self:many_arguments(f, command, final)
      or self:few_arguments(f, command, final, given)
    -- A call that succeeds leaves the node of its last argument as the one that errors show.
    if f.needs_out then args = ", out" .. args end
    local site = self:site_of(at_node)
    self:add("R.site[0] = %s", site)
    self:add("%s = %s(%s%s)", result, self:function_constant(f.call), site, args)
    self.top = top + 1
    return result, f.result == "value" and self:use "IFACE" or "nil"
  end

  -- {{printf "%s:%d" .a .b}} with a constant format of plain verbs is written to the output part by
  -- part. Returns whether the pipeline is one.
  function C:direct_printf(pipe)
    local command = pipe[1]
    local count = #command - 2
    if pipe[2] or #pipe.vars > 0 or command[1].k ~= "identifier" or command[1].name ~= "printf"
      or count < 0 or count > ARGUMENTS_MAX or command[2].k ~= "string" then
      return false
    end
    local parts = printf.plain_parts(command[2].text, count)
    if not parts then return false end
    local atoms = {}
    self:at(command[1])
    for i = 3, #command do atoms[i - 2] = self:argument(command[i], "any") end
    local used = 0
    self:add("R.site[0] = %d", self:site_of(command[1]))
    for _, part in ipairs(parts) do
      if type(part) == "string" then
        self:add("%s(out, %q)", self:use "put", part)
      else
        used = used + 1
        self:add("%s(out, %s, %q)", self:use "put_verb", atoms[used], part.plain)
      end
    end
    return true
  end

  local function parameter(f, i)
    return f.params[i] or f.variadic
  end

  local function as_parameter(self, f, i, atom, from)
    if f.sees_interfaces and i > 1 and from and from ~= "nil" then
      return format("%s(%s)", self:use "boxed", atom)
    end
    -- Fixed parameters of kind "value" distinguish nothing from null.
    if parameter(f, i) == "any" or i > #f.params then return self:to_any(atom) end
    return atom
  end

  function C:few_arguments(f, command, final, given)
    local args = {}
    for i = 2, #command do
      args[#args + 1] = as_parameter(self, f, i - 1, self:argument(command[i], parameter(f, i - 1)))
    end
    if final then
      local atom = self:validate(parameter(f, given), final, "nil")
      args[#args + 1] = as_parameter(self, f, given, atom)
    end
    if f.variadic then table.insert(args, 1, tostring(given)) end
    if #args == 0 then return "" end
    return ", " .. concat(args, ", ")
  end

  -- LuaJIT passes at most about 250 arguments one by one.
  function C:many_arguments(f, command, final)
    local list = self:temp()
    local n = #command - 1
    self:add("%s = {}", list)
    for i = 2, #command do
      local top = self.top
      local atom = self:argument(command[i], parameter(f, i - 1))
      self:add("%s[%d] = %s", list, i - 1, as_parameter(self, f, i - 1, atom))
      self.top = top
    end
    if final then
      n = n + 1
      self:add("%s[%d] = %s", list, n, as_parameter(self, f, n, (self:validate(parameter(f, n),
        final, "nil"))))
    end
    return format(", %d, unpack(%s, 1, %d)", n, list, n)
  end

  -- and, or: the value of an argument ends the evaluation of the others.
  function C:short_circuit(f, command, final)
    local result, site = self:temp(), self:site_temp()
    local done = self:label()
    self:use "truth"
    local top = self.top
    self:add("%s = %s", site, self.site)
    for i = 2, #command do
      local atom = self:argument(command[i], "value")
      self:add("%s = %s", result, atom)
      self:add("%s = %s", site, self.site)
      local ends = f.short_circuit == "or" and "truth(%s)" or "not truth(%s)"
      self:add("if " .. ends .. " then goto %s end", result, done)
      self.top = top
    end
    if final then self:add("%s = %s", result, final) end
    self:add("::%s::", done)
    self.site = site
    self.top = top
    return result, self:use "IFACE"
  end
end

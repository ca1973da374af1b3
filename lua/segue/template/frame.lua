-- SPDX-License-Identifier: MIT
-- The part of the compiler for functions of the generated code: their locals, the variables of the
-- template, and the lists that get a function of their own.
local expression = require "segue.template.expression"

local concat, format = table.concat, string.format

---@param C segue.template.compiler gets the methods
return function(C)
  function C:add(text, ...)
    local code = self.code
    code[#code + 1] = select("#", ...) > 0 and format(text, ...) or text
  end

  -- The number of a node, by which the running code names it in errors.
  function C:site_of(n)
    if not n.site then
      self.sites[#self.sites + 1] = n
      n.site = #self.sites
    end
    return n.site
  end

  function C:at(n)
    self.site = self:site_of(n)
  end

  function C:fail(message)
    self:add("err(%s, %q)", self.site, message)
  end

  function C:label()
    self.labels = self.labels + 1
    return "L" .. self.labels
  end

  -- ---- Functions --------------------------------------------------------------------------------

  local function_fields = { "code", "temps", "top", "depth", "loop", "spills", "site_temps" }

  function C:begin_function(head)
    local outer = {}
    for _, name in ipairs(function_fields) do outer[name] = self[name] end
    self.code, self.temps, self.top, self.depth, self.loop = { head, "" }, 0, 0, 0, nil
    self.spills, self.site_temps = false, 0
    return outer
  end

  function C:end_function(outer)
    local locals = { "S" }
    for i = 1, self.temps do locals[#locals + 1] = "t" .. i end
    for i = 1, math.min(self.site_temps, expression.SITES_MAX) do locals[#locals + 1] = "s" .. i end
    for i = 1, self.large and 0 or self.slots do locals[#locals + 1] = "v" .. i end
    self.code[2] = "local " .. concat(locals, ",") .. (self.spills and " S = {}" or "")
    self:add "end"
    self.functions[#self.functions + 1] = concat(self.code, "\n")
    for _, name in ipairs(function_fields) do self[name] = outer[name] end
  end

  -- Writes statements into a function of their own and calls it where the code stands now.
  function C:hoist(write)
    local id = self.function_count + 1
    self.function_count = id
    local outer = self:begin_function(format("F[%d] = function(out, dot, V)", id))
    write()
    self:end_function(outer)
    self:add("t1 = F[%d](out, dot, V)", id)
    if self.temps < 1 then self.temps = 1 end
    if self.loop then
      self:add("if t1 == 1 then break elseif t1 == 2 then goto %s end", self.loop)
    else
      self:add "if t1 then return t1 end"
    end
  end

  -- ---- Variables --------------------------------------------------------------------------------

  function C:declare(name)
    self.slots = self.slots_used + 1 > self.slots and self.slots_used + 1 or self.slots
    self.slots_used = self.slots_used + 1
    local slot = self.slots_used
    local variable = { name = name, code = self.large and format("V[%d]", slot) or "v" .. slot,
      from = "nil" }
    self.scope[#self.scope + 1] = variable
    return variable
  end

  ---@return table? variable the innermost of this name
  function C:find(name)
    for i = #self.scope, 1, -1 do
      if self.scope[i].name == name then return self.scope[i] end
    end
  end

  function C:mark() return #self.scope, self.slots_used end
  function C:release(count, slots)
    for i = #self.scope, count + 1, -1 do self.scope[i] = nil end
    self.slots_used = slots
  end
end

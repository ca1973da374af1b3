-- SPDX-License-Identifier: MIT
-- The part of the compiler for functions of the generated code: their locals, the variables of the
-- template, and the lists that get a function of their own.
local expression = require "segue.template.expression"

local format = string.format

---@param C segue.template.compiler gets the methods
return function(C)
  -- A line of code, as it is; add: by a format.
  function C:line(text)
    local code = self.code
    local n = #code
    code[n + 1], code[n + 2] = text, "\n"
  end

  function C:add(text, ...)
    local code = self.code
    local n = #code
    code[n + 1], code[n + 2] = format(text, ...), "\n"
  end

  -- The code names what it takes from the runtime; only these names are made locals of it.
  function C:use(name)
    self.used[name] = true
    return name
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
    self:add("%s(%s, %q)", self:use "err", self.site, message)
  end

  function C:label()
    self.labels = self.labels + 1
    return "L" .. self.labels
  end

  -- ---- Functions --------------------------------------------------------------------------------

  -- Begins a function; the result is what end_function restores.
  function C:begin_function(head)
    local outer = { self.code, self.temps, self.top, self.depth, self.loop, self.spills,
      self.site_temps, self.break_to }
    self.code, self.temps, self.top, self.depth, self.loop = { head, "\n", "", "\n" }, 0, 0, 0, nil
    self.spills, self.site_temps, self.break_to = false, 0, nil
    return outer
  end

  local temp_names = {}
  for _, letter in ipairs { "t", "s", "v" } do
    local names = { [0] = "" }
    for i = 1, 60 do names[i] = names[i - 1] .. "," .. letter .. i end
    temp_names[letter] = names
  end

  function C:end_function(outer)
    local locals = "local S" .. temp_names.t[self.temps]
      .. temp_names.s[math.min(self.site_temps, expression.SITES_MAX)]
    if not self.large then locals = locals .. temp_names.v[self.slots] end
    local code = self.code
    code[3] = locals .. (self.spills and " S = {}" or "")
    self:line "end"
    self.functions[#self.functions + 1] = code
    self.code, self.temps, self.top, self.depth = outer[1], outer[2], outer[3], outer[4]
    self.loop, self.spills, self.site_temps, self.break_to = outer[5], outer[6], outer[7], outer[8]
  end

  -- Writes statements (by a method and its arguments: LuaJIT compiles no closures) into a function
  -- of their own, and calls it where the code stands now.
  function C:hoist(write, a, b, c)
    local id = self.function_count + 1
    self.function_count = id
    local outer = self:begin_function(format("F[%d] = function(out, dot, V)", id))
    write(self, a, b, c)
    self:end_function(outer)
    self:add("t1 = F[%d](out, dot, V)", id)
    if self.temps < 1 then self.temps = 1 end
    local breaks = self:break_code()
    local continues = self.loop and "goto " .. self.loop or "do return 2 end"
    self:add("if t1 == 1 then %s elseif t1 == 2 then %s end", breaks, continues)
  end

  -- Leaves the innermost range: in its else, that is the end of the else.
  function C:break_code()
    if self.break_to then return "goto " .. self.break_to end
    return self.loop and "break" or "do return 1 end"
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

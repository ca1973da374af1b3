-- SPDX-License-Identifier: MIT
-- The part of the compiler for the head of the code: the locals that it takes from the runtime.
local concat, format = table.concat, string.format

local HEAD = [[
local R, K, F, fuel, depth, T = ...
F.reset = function() fuel, depth = 0, 0 end
]]

-- Only templates that call others need this.
local CALLS = [[
local deep = R.deep
local function enter(site)
  if depth >= 100000 then err(site, "exceeded maximum template depth (100000)") end
end
local function invoke(f, out, dot, site)
  fuel = fuel - 1 if fuel < 0 then fuel = tick(out, site) end
  depth = depth + 1
  if depth %% %d == 0 then deep(f, out, dot) else f(out, dot) end
  depth = depth - 1
end
]]

-- The locals of the code, in a fixed order: the same template gives the same code.
local names = { "put", "emit", "truth", "range", "tick", "err", "concrete", "NULL", "IFACE", "as",
  "any",
  "boxed", "put_verb" }
local modal = { "field", "call_field" }

---@param C segue.template.compiler gets the method
return function(C)
  function C:head(missingkey)
    if self.calls then self.used.err, self.used.tick = true, true end
    local out = { HEAD }
    for _, name in ipairs(names) do
      if self.used[name] then out[#out + 1] = "local " .. name .. "=R." .. name .. "\n" end
    end
    for _, name in ipairs(modal) do
      if self.used[name] then
        out[#out + 1] = "local " .. name .. "=R." .. name .. "." .. missingkey .. "\n"
      end
    end
    if self.calls then out[#out + 1] = format(CALLS, self.any_large and 8 or 100) end
    return concat(out)
  end
end

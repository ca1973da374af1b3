-- SPDX-License-Identifier: MIT
-- The sets of functions. A template has one of them: the same name takes its arguments in another
-- order in each, and mixing them gives plausible wrong output.
local builtins = require "segue.template.functions.builtins"

local dialects = {}

---@class segue.template.dialect
---@field missingkey string what a missing key is, where no option sets it
---@field modules string[] of its functions, besides those of Go

---@type table<string, segue.template.dialect>
local known = {
  go = { missingkey = "default", modules = {} },
  segue = { missingkey = "default",
    modules = { "consul_template", "consul_data", "consul_group" } },
  confd = { missingkey = "default", modules = { "confd" } },
  ["consul-template"] = { missingkey = "zero",
    modules = { "consul_template", "consul_data", "consul_group" } },
}

local sets = {}

---@param name? string nil: "segue"
---@return boolean
function dialects.exists(name) return known[name or "segue"] ~= nil end

---@return string[]
function dialects.names()
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  return names
end

---@param name? string
---@return string
function dialects.missing_key(name) return known[name or "segue"].missingkey end

-- Which other dialects have a function, for the message about one that is not defined.
local function hint(set, name)
  local others = {}
  for _, other in ipairs(dialects.names()) do
    if other ~= set and dialects.functions(other)[name] then others[#others + 1] = other end
  end
  if #others == 0 then return nil end
  return " (it is a function of " .. table.concat(others, " and ") .. ")"
end

-- The functions of a dialect by their name; [1] is the hint for names that it lacks.
---@param name? string
---@return table<string, segue.template.function>
function dialects.functions(name)
  name = name or "segue"
  if sets[name] then return sets[name] end
  local set = { function(missing) return hint(name, missing) end }
  for key, f in pairs(builtins) do set[key] = f end
  for _, module in ipairs(known[name].modules) do
    for key, f in pairs(require("segue.template.functions." .. module)) do set[key] = f end
  end
  sets[name] = set
  return set
end

return dialects

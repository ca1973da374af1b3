-- SPDX-License-Identifier: MIT
-- The sets of functions. A template has one of them: the same name takes its arguments in another
-- order in each, and mixing them gives plausible wrong output. The names of the sets are those of
-- the option `functions` (core/files/kind.h); rows.lua has what differs and what is left out.
local builtins = require "segue.template.functions.builtins"
local host = require "segue.template.host"
local rows = require "segue.template.rows"

local dialects = {}

---@class segue.template.dialect
---@field missingkey string what a missing key is, where no option sets it
---@field modules string[] of its functions, besides those of Go
---@field sprig? boolean it has the functions of sprig that need nothing but their arguments, as
---   sprig_NAME

local CONSUL = { "consul_template", "consul_data", "consul_group" }
local SPRIG = { "sprig", "sprig_data", "sprig_number" }

---@type table<string, segue.template.dialect>
local known = {
  go = { missingkey = "default", modules = {} },
  segue = { missingkey = "default", modules = CONSUL, sprig = true },
  confd = { missingkey = "default", modules = { "confd" } },
  ["consul-template"] = { missingkey = "zero", modules = CONSUL, sprig = true },
  sprig = { missingkey = "default", modules = SPRIG },
}

local names = {}
for name in host.dialects:gmatch "[^|]+" do
  if not known[name] then error("there are no functions for the dialect " .. name) end
  names[#names + 1] = name
end
table.sort(names)

local sets = {}

---@param name? string nil: "segue"
---@return boolean
function dialects.exists(name) return known[name or "segue"] ~= nil end

---@return string[]
function dialects.names() return names end

---@param name? string
---@return string
function dialects.missing_key(name) return known[name or "segue"].missingkey end

-- A function of the language itself, in every dialect.
---@param name string
---@return boolean
function dialects.is_builtin(name) return builtins[name] ~= nil end

-- The reason for which a function of the original is left out.
local function left_out(set, name)
  local plain = name:match "^sprig_(.*)$"
  if plain and known[set].sprig then return rows.changing[plain] or rows.left_out.sprig[plain] end
  local of_set = rows.left_out[rows.original(set)]
  return of_set and of_set[name]
end

-- Why the set lacks a function, for the message about one that is not defined.
local function hint(set, name)
  local why = left_out(set, name)
  if why then return (" (it is not supported: %s)"):format(why) end
  local others = {}
  for _, other in ipairs(names) do
    if other ~= set and dialects.functions(other)[name] then others[#others + 1] = other end
  end
  if #others == 0 then return nil end
  return " (it is a function of " .. table.concat(others, " and ") .. ")"
end

local function add(set, modules, prefix)
  for _, module in ipairs(modules) do
    for key, f in pairs(require("segue.template.functions." .. module)) do
      if prefix == "" or not rows.changing[key] then set[prefix .. key] = f end
    end
  end
end

-- The functions of a dialect by their name; [1] is the hint for names that it lacks.
---@param name? string
---@return table<string, segue.template.function>
function dialects.functions(name)
  name = name or "segue"
  if sets[name] then return sets[name] end
  local set = { function(missing) return hint(name, missing) end }
  for key, f in pairs(builtins) do set[key] = f end
  if known[name].sprig then add(set, SPRIG, "sprig_") end
  add(set, known[name].modules, "")
  sets[name] = set
  return set
end

return dialects

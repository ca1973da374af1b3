-- SPDX-License-Identifier: MIT
-- The types of parameters: what a constant becomes, which values fit, and Go's name for messages.
-- "any" is interface {}, "value" a reflect.Value (nothing and null differ in it).
local ffi = require "ffi"
local node = require "segue.template.node"
local value = require "segue.template.value"

local getmetatable, type, istype = getmetatable, type, ffi.istype

local signature = {}

---@class segue.template.parameter
---@field go string
---@field may_be_nil? boolean
---@field fits fun(v: any): boolean
---@field constant? fun(n: segue.template.node): any
---@field wants? string how a message names the constant it expects
---@field type? segue.template.type of a parameter that signature.add made

---@type table<string, segue.template.parameter>
local types = {}
signature.types = types

local function number_constant(field)
  return function(n) return n.k == "number" and n.number[field] or nil end
end

types.any = { go = "interface {}", may_be_nil = true, fits = function() return true end }
types.value = { go = "reflect.Value", may_be_nil = true, fits = function() return true end }
types.string = { go = "string", wants = "string", fits = function(v) return type(v) == "string" end,
  constant = function(n) return n.k == "string" and n.text or nil end }
types.bool = { go = "bool", wants = "bool", fits = function(v) return type(v) == "boolean" end,
  constant = function(n) if n.k == "bool" then return n.value end end }
types.int = { go = "int", wants = "integer", constant = number_constant "int",
  fits = function(v) return type(v) == "number" or istype(value.cint64, v) end }
types.int64 = { go = "int64", wants = "integer",
  fits = function(v) return istype(value.int64, v) end,
  constant = function(n)
    local i = n.k == "number" and n.number.int
    return i and value.int64(value.cint64(i)) or nil
  end }
types.float64 = { go = "float64", wants = "float",
  fits = function(v) return istype(value.float, v) end,
  constant = function(n)
    local f = n.k == "number" and n.number.float
    return f and value.float(f) or nil
  end }

-- A parameter that takes the values of one type.
---@param name string in signatures
---@param t segue.template.type
function signature.add(name, t)
  types[name] = { go = t.type, may_be_nil = true, type = t,
    fits = function(v) return type(v) == "table" and getmetatable(v) == t end }
end
signature.add("list", value.LIST)
signature.add("strings", value.STRINGS)
signature.add("map", value.MAP)

---@param want string
---@return string
function signature.go_type(want) return types[want].go end

---@param want string
---@return boolean
function signature.may_be_nil(want) return types[want].may_be_nil or false end

-- Converts a constant for a parameter; nil and a message where it does not fit.
---@param want string
---@param n segue.template.node
function signature.convert(want, n)
  local t = types[want]
  local v
  if t.constant then v = t.constant(n) end
  if v ~= nil then return v end
  if t.wants then return nil, ("expected %s; found %s"):format(t.wants, node.text(n)) end
  return nil, ("can't handle %s for arg of type %s"):format(node.text(n), t.go)
end

-- A function for templates. call gets the site of the call, for its errors, and the arguments.
---@param params string[] types of its parameters
---@param call function
---@param variadic? boolean the last parameter may be repeated
---@param result? string type of its result
function signature.def(params, call, variadic, result)
  return { params = params, call = call, variadic = variadic, result = result }
end

return signature

-- SPDX-License-Identifier: MIT
-- Trees of templates as Lua source. README.md describes the shape of the code. LuaJIT's limits
-- decide about it: a function has at most 200 locals and 60 upvalues, blocks nest at most 199 deep,
-- a jump spans at most 32,767 instructions. A template that is small by all of these is one
-- function whose variables are locals ("small"). Any other keeps its variables in a table V, and
-- its lists are cut into functions of their own ("large").
local expression = require "segue.template.expression"
local frame = require "segue.template.frame"
local head = require "segue.template.head"

local concat, format = table.concat, string.format

local NODES_MAX, DEPTH_MAX, VARIABLES_MAX = 200, 10, 30 -- of a small template
local CHUNK_MAX, BLOCKS_MAX, BRANCHES_MAX = 50, 10, 20  -- of one function of a large template

---@class segue.template.compiler
---@field code string[] of the function that is being written
local C = {}
C.__index = C
frame(C)
head(C)
expression.extend(C)

-- ---- Statements ---------------------------------------------------------------------------------

local statements = {}

-- Texts are no part of the code, so that templates that differ in them only can share it: T holds
-- them, and code.texts the tokens that each is made of.
function C:flush()
  if #self.pending > 0 then
    local texts = self.texts
    texts[#texts + 1] = self.pending
    self:add("%s(out, T[%d])", self:use "put", #texts)
    self.pending = {}
  end
end

function C:nodes(list, first, last)
  for i = first, last do
    local n = list[i]
    if n.k == "text" then
      self.pending[#self.pending + 1] = n.at
    else
      self:flush()
      statements[n.k](self, n)
      self.top = 0
    end
  end
  self:flush()
end

function C:list(list)
  if not self.large or #list <= CHUNK_MAX then return self:nodes(list, 1, #list) end
  for first = 1, #list, CHUNK_MAX do
    self:hoist(self.nodes, list, first, math.min(first + CHUNK_MAX - 1, #list))
  end
end

-- A list inside of a block, in a function of its own where blocks nest too deeply.
function C:body(list)
  local scope, slots = self:mark()
  self.depth = self.depth + 1
  if self.large and self.depth > BLOCKS_MAX then
    self:hoist(self.list, list)
  else
    self:list(list)
  end
  self.depth = self.depth - 1
  self:release(scope, slots)
end

function statements.action(self, n)
  local short = self:short_pipeline(n.pipe)
  if short then
    -- Fields are never channels: the site of the action itself is not needed.
    self:add("%s(out, %s, %d)", self:use "emit", short, self.site)
    return
  end
  if self:direct_printf(n.pipe) then return end
  self:at(n)
  local atom = self:pipeline(n.pipe, #n.pipe.vars == 0)
  if #n.pipe.vars == 0 then
    self:at(n)
    self:add("%s(out, %s, %s)", self:use "emit", atom, self.site)
  end
end

statements["break"] = function(self)
  self:add("do %s end", self:break_code())
end

statements["continue"] = function(self)
  self:add(self.loop and "goto " .. self.loop or "do return 2 end")
end

-- A chain of else-ifs: each branch ends with a jump behind all of them.
local function branches(self, n, with, done, count)
  while true do
    if self.large and count == BRANCHES_MAX then
      self:hoist(self.branches, n, with)
      return
    end
    count = count + 1
    local atom = not with and self:short_pipeline(n.pipe)
    if not atom then
      self:at(n)
      atom = self:pipeline(n.pipe, not with and #n.pipe.vars == 0)
    end
    self.top = 0
    self:add("if %s(%s) then", self:use "truth", atom)
    if with then self:add("local dot = %s", atom) end
    local dot_from = self.dot_from
    if with then self.dot_from = "nil" end
    self:body(n.list)
    self.dot_from = dot_from
    local otherwise = n.otherwise
    if not otherwise then
      self:line "end"
      return
    end
    self:add("goto %s", done)
    self:line "end"
    if not otherwise.chained then
      self:line "do"
      self:body(otherwise)
      self:line "end"
      return
    end
    n = otherwise[1]
  end
end

-- The rest of a chain, in a function of its own.
function C:branches(n, with)
  local behind = self:label()
  branches(self, n, with, behind, 0)
  self:add("::%s::", behind)
end

local function branch(with)
  return function(self, n)
    local scope, slots = self:mark()
    local done = self:label()
    self:line "do"
    branches(self, n, with, done, 0)
    self:line "end"
    self:add("::%s::", done)
    self:release(scope, slots)
  end
end
statements["if"] = branch(false)
statements["with"] = branch(true)

function statements.range(self, n)
  local scope, slots = self:mark()
  local vars = n.pipe.vars
  local atom = self:short_pipeline(n.pipe)
  if not atom then
    self:at(n)
    atom = self:pipeline(n.pipe, #vars == 0)
  end
  local index = #vars == 2 and self:find(vars[1].name)
  local item = #vars > 0 and self:find(vars[#vars].name)
  local loop = self:label()
  local src = "src_" .. loop
  self:line "do"
  self:add("local %s, n, keys = %s(%s, %s, %d)", src, self:use "range", atom, self.site, #vars)
  self:line "if n > 0 then for i = 1, n do"
  self:use "tick"
  self:add("fuel = fuel - 1 if fuel < 0 then fuel = tick(out, %s) end", self.site)
  self:line "local key, dot"
  self:add("if keys then key = keys[i] dot = %s[key] else dot = %s[i] key = i - 1 end", src, src)
  local outer_loop, outer_break, dot_from = self.loop, self.break_to, self.dot_from
  -- A function that is called from here does not see the container.
  self.loop, self.break_to = loop, nil
  self.dot_from = self.large and self:use "IFACE" or src
  if item then
    self:add("%s = dot", item.code)
    -- The container is a local of this loop: assigned variables of an outer block outlive it.
    item.from = n.pipe.assigns and self:use "IFACE" or self.dot_from
  end
  if index then
    self:add("%s = key", index.code)
    index.from = "nil"
  end
  self:line "do"
  self:body(n.list)
  self:line "end"
  self:add("::%s::", self.loop)
  self.loop, self.dot_from = outer_loop, dot_from
  self:line "end else"
  if item then item.from = "nil" end
  if n.otherwise then
    self.break_to = "E" .. loop
    self:body(n.otherwise)
    self:add("::%s::", self.break_to)
  end
  self.break_to = outer_break
  self:line "end end"
  self:release(scope, slots)
end

function statements.template(self, n)
  self:at(n)
  local id = self.ids[n.name]
  if not id then
    self:fail("template " .. require("segue.template.quote").quote(n.name) .. " not defined")
    return
  end
  self.calls = true
  self:add("enter(%s)", self.site)
  local site = self.site
  local atom = n.pipe and self:pipeline(n.pipe) or "nil"
  self:add("invoke(F[%d], out, %s, %s)", id, atom, site)
end

-- ---- Templates ----------------------------------------------------------------------------------

local function measure(list, size, depth)
  if depth > size.depth then size.depth = depth end
  for i = 1, #list do
    local n = list[i]
    size.nodes = size.nodes + 1
    local pipe = n.pipe
    if pipe then
      size.variables = size.variables + #pipe.vars
      for j = 1, #pipe do size.nodes = size.nodes + #pipe[j] end
    end
    if size.nodes > NODES_MAX or size.depth > DEPTH_MAX then return end
    if n.list then measure(n.list, size, depth + 1) end
    if n.otherwise then measure(n.otherwise, size, depth + (n.otherwise.chained and 0 or 1)) end
  end
end

function C:template(id, list)
  local size = { nodes = 0, depth = 0, variables = 0 }
  measure(list, size, 0)
  self.large = self.force_large or size.nodes > NODES_MAX or size.depth > DEPTH_MAX
    or size.variables > VARIABLES_MAX
  self.any_large = self.any_large or self.large
  self.scope, self.slots, self.slots_used, self.dot_from = {}, 0, 0, "nil"
  local outer = self:begin_function(format("F[%d] = function(out, dot)", id))
  if self.large then self:line "local V = {}" end
  self:add("%s = dot", self:declare("$").code)
  self:list(list)
  self:end_function(outer)
end

local compiler = {}

---@class segue.template.code
---@field head string of the Lua source
---@field functions string[][] the pieces of its functions
---@field constants table what K is in it
---@field texts integer[][] the tokens of each text of T
---@field sites segue.template.node[]
---@field ids table<string, integer> the function of each template
---@field names table<integer, string> the template of each site

---@param trees segue.template.trees
---@param options { functions: table, missingkey: string, force_large?: boolean }
---@return segue.template.code
function compiler.compile(trees, options)
  local self = setmetatable({
    functions = {}, function_count = 0, sites = {}, ids = {}, constants = {}, constant_of = {},
    table_of = options.functions, labels = 0, pending = {}, used = {}, texts = {},
    code = {}, temps = 0, top = 0, depth = 0, site_temps = 0,
    force_large = options.force_large, copies_variables = trees.nested_variables,
  }, C)
  for _, name in ipairs(trees.order) do
    self.function_count = self.function_count + 1
    self.ids[name] = self.function_count
  end
  local names = {}
  for _, name in ipairs(trees.order) do
    local first = #self.sites + 1
    self:template(self.ids[name], trees.templates[name])
    for i = first, #self.sites do names[i] = name end
  end
  return {
    head = self:head(options.missingkey), functions = self.functions,
    constants = self.constants, sites = self.sites, texts = self.texts,
    ids = self.ids, names = names,
  }
end

local count = 0

-- The source as one text. Its last bytes are a number, because LuaJIT hashes a few bytes of a long
-- text only (the first, the last, some in the middle): the sources of templates that are alike
-- would all be in one chain of its table of strings.
---@param code segue.template.code
---@return string
function compiler.source(code)
  local out, n = { code.head }, 1
  for _, pieces in ipairs(code.functions) do
    for i = 1, #pieces do out[n + i] = pieces[i] end
    n = n + #pieces
  end
  count = (count + 1) % 10000
  out[n + 1] = format("--%04d", count)
  return concat(out)
end

return compiler

-- SPDX-License-Identifier: MIT
-- The parts of its data that a template can read, found in its tree: `.a.b`, `$.a.b`,
-- `index . "a" "b"`, and what a template that it calls reads of its argument. A field that is
-- evaluated counts with everything below it, so that only the root itself has to be followed
-- through variables and calls. Paths that functions read are recorded while they run (context.lua).
local touches = {}

-- More paths than these are not worth their comparisons: the whole data count then.
local PATHS_MAX, CALLS_MAX = 200, 200

---@class segue.template.walk
---@field trees segue.template.trees
---@field paths table<string, boolean> keys joined by "/"
---@field count integer
---@field seen table<string, boolean> calls of templates that were followed
local W = {}
W.__index = W

function W:touch(path)
  local key = table.concat(path, "/")
  if self.paths[key] then return end
  self.paths[key], self.count = true, self.count + 1
  if self.count > PATHS_MAX then self.paths[""] = true end
end

local function below(path, fields)
  local out = {}
  for i, key in ipairs(path) do out[i] = key end
  for _, key in ipairs(fields) do out[#out + 1] = key end
  return out
end

-- The path of an operand without arguments: a table of keys, or nil for a value that is none of
-- the data's or that was touched already. Only an empty path, the root, is not touched yet.
function W:operand(n, scope)
  local from, fields
  if n.k == "dot" then
    return scope.dot
  elseif n.k == "field" then
    from, fields = scope.dot, n.fields
  elseif n.k == "variable" then
    from, fields = scope.vars[n.name], n.fields
  elseif n.k == "chain" then
    from, fields = self:operand(n.node, scope), n.fields
  elseif n.k == "pipe" then
    return self:pipeline(n, scope)
  elseif n.k == "identifier" then
    return self:command({ n }, scope)
  end
  if not from or not fields or #fields == 0 then return from end
  local path = below(from, fields)
  self:touch(path)
  return path
end

-- index X "a" "b": one more step of the path for each constant.
function W:index(command, scope)
  local path = self:operand(command[2], scope)
  local keys = {}
  for i = 3, #command do
    local n = command[i]
    if n.k ~= "string" or n.text == "" or n.text:find("/", 1, true) then
      for j = i, #command do self:use(command[j], scope) end
      break
    end
    keys[#keys + 1] = n.text
  end
  if not path then return nil end
  path = below(path, keys)
  self:touch(path)
  return #keys == #command - 2 and path or nil
end

-- An operand whose value goes where it is not followed.
function W:use(n, scope)
  local path = self:operand(n, scope)
  if path then self:touch(path) end
end

function W:command(command, scope)
  local first = command[1]
  if #command == 1 and first.k ~= "identifier" then return self:operand(first, scope) end
  if first.k == "identifier" and first.name == "index" and #command > 1 then
    return self:index(command, scope)
  end
  if first.k ~= "identifier" then self:use(first, scope) end
  for i = 2, #command do self:use(command[i], scope) end
  return nil
end

function W:pipeline(pipe, scope)
  local path
  for i = 1, #pipe do
    local before = path
    path = self:command(pipe[i], scope)
    -- A value that is piped into a command is its last argument.
    if i > 1 and before then self:touch(before) end
    if i > 1 then path = nil end
  end
  for _, variable in ipairs(pipe.vars) do
    if pipe.assigns then
      if path then self:touch(path) end
    else
      scope.vars[variable.name] = path or false
    end
  end
  return path
end

local statements = {}

function W:list(list, scope)
  for _, n in ipairs(list) do
    local statement = statements[n.k]
    if statement then statement(self, n, scope) end
  end
end

local function inner(scope, dot)
  return { dot = dot, vars = setmetatable({}, { __index = scope.vars }) }
end

function statements.action(self, n, scope)
  local path = self:pipeline(n.pipe, scope)
  if path and #n.pipe.vars == 0 then self:touch(path) end
end

statements["if"] = function(self, n, scope)
  local body = inner(scope, scope.dot)
  local path = self:pipeline(n.pipe, body)
  if path then self:touch(path) end
  self:list(n.list, body)
  if n.otherwise then self:list(n.otherwise, body) end
end

statements.with = function(self, n, scope)
  local body = inner(scope, scope.dot)
  local path = self:pipeline(n.pipe, body)
  if path then self:touch(path) end
  self:list(n.list, { dot = path, vars = body.vars })
  if n.otherwise then self:list(n.otherwise, body) end
end

function statements.range(self, n, scope)
  local body = inner(scope, scope.dot)
  local path = self:pipeline(n.pipe, body)
  if path then self:touch(path) end
  -- Elements are below what was touched.
  for _, variable in ipairs(n.pipe.vars) do body.vars[variable.name] = false end
  self:list(n.list, { dot = nil, vars = body.vars })
  if n.otherwise then self:list(n.otherwise, body) end
end

function statements.template(self, n, scope)
  local path = n.pipe and self:pipeline(n.pipe, scope)
  self:call(n.name, path or nil)
end

-- Follows a template whose dot has this path; nil: nothing is known of it, or it was touched.
function W:call(name, dot)
  local key = name .. "\0" .. (dot and table.concat(dot, "/") or "\0")
  local list = self.trees.templates[name]
  if not list or self.seen[key] then return end
  self.seen[key], self.calls = true, self.calls + 1
  if self.calls > CALLS_MAX then
    self.paths[""] = true
    return
  end
  self:list(list, { dot = dot, vars = { ["$"] = dot } })
end

-- The paths that a template reads; { "" }: the whole data.
---@param trees segue.template.trees
---@return string[]
function touches.find(trees)
  local self = setmetatable({ trees = trees, paths = {}, count = 0, seen = {}, calls = 0 }, W)
  self:call(trees.name, {})
  if self.paths[""] then return { "" } end
  local out = {}
  for path in pairs(self.paths) do
    local above = path:match "^(.*)/[^/]*$"
    while above and not self.paths[above] do above = above:match "^(.*)/[^/]*$" end
    if not above then out[#out + 1] = path end
  end
  table.sort(out)
  return out
end

return touches

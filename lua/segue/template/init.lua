-- SPDX-License-Identifier: MIT
-- Templates in the language of Go's text/template: compiled once, cached by their content, rendered
-- within limits. All of it runs in a Lua state of its own, with the JIT compiler on.
local buffer = require "string.buffer"
local compiler = require "segue.template.compiler"
local context = require "segue.template.context"
local dialects = require "segue.template.dialects"
local host = require "segue.template.host"
local node = require "segue.template.node"
local parser = require "segue.template.parser"
local quote = require "segue.template.quote"
local runtime = require "segue.template.runtime"
local touches = require "segue.template.touches"

local template = {}

---@class segue.template.options
---@field name? string of the template, for messages
---@field dialect? string a key of dialects
---@field missingkey? string "default", "invalid", "zero", "error"
---@field left? string delimiters
---@field right? string
---@field force_large? boolean for specs: the shape of large templates

---@class segue.template.problem
---@field message string as Go has it
---@field line? integer
---@field container? any the value that has no such key
---@field key? string

---@class segue.template.compiled
---@field name string
---@field text string
---@field code segue.template.code
---@field functions table the functions of its code
---@field main integer the one that renders
---@field trees? segue.template.trees until its touches are known
---@field paths? string[] see template.touches

-- Limits of one run, unless others are given.
template.limits = { seconds = host.seconds_max, output = 64 * 1024 * 1024 }

local cache, cached = {}, 0
local CACHED_MAX = 2000

local function load_code(code)
  local chunk, message = loadstring(compiler.source(code), "=template")
  if not chunk then error("the code of a template does not load: " .. message, 0) end
  local functions = {}
  chunk(runtime, code.constants, functions, 0, 0)
  return functions
end

-- Where a run-time error stands: NAME:LINE:COL, and the node that was evaluated.
local function describe(compiled, problem)
  if type(problem) ~= "table" then
    local text = tostring(problem)
    if text:find "not enough memory" then
      text = "the template needs more memory than it may use"
    elseif text:find "stack overflow" then
      text = "the template nests too deeply"
    end
    return { message = ("template: %s: %s"):format(compiled.name, text) }
  elseif problem.limit then
    return { message = ("template: %s: %s"):format(compiled.name, problem.limit) }
  end
  local n = compiled.code.sites[problem.site]
  local line, column = node.line(compiled.text, n.pos)
  local message = problem.message
  if problem.shows_node then
    message = message:gsub("%%s", function() return node.text(n) end, 1)
  end
  problem.line = line
  problem.message = ("template: %s:%d:%d: executing %s at <%s>: %s"):format(compiled.name, line,
    column, quote.quote(compiled.code.names[problem.site]), node.text(n), message)
  return problem
end

---@param text string
---@param options segue.template.options
---@return segue.template.compiled? compiled
---@return segue.template.problem? problem
function template.compile(text, options)
  local name = options.name or ""
  local mode = options.missingkey or dialects.missing_key(options.dialect)
  if mode == "invalid" then mode = "default" end
  local key = (options.dialect or "") .. "\0" .. mode .. "\0" .. (options.left or "") .. "\0"
    .. (options.right or "") .. "\0" .. name .. (options.force_large and "\0large" or "")
  local of_options = cache[key]
  if of_options and of_options[text] then return of_options[text] end
  local functions = dialects.functions(options.dialect)
  local trees, problem = parser.parse(name, text, functions, options.left, options.right)
  if not trees then return nil, problem end
  local code = compiler.compile(trees, { functions = functions, missingkey = mode,
    force_large = options.force_large })
  local compiled = { name = name, text = text, code = code, functions = load_code(code),
    main = code.ids[name], trees = trees }
  if cached >= CACHED_MAX then cache, cached, of_options = {}, 0, nil end
  of_options = of_options or {}
  cache[key], of_options[text], cached = of_options, compiled, cached + 1
  return compiled
end

-- The paths of its data that a template reads, keys joined by "/"; "": all of them.
---@param compiled segue.template.compiled
---@return string[]
function template.touches(compiled)
  if not compiled.paths then
    compiled.paths, compiled.trees = touches.find(compiled.trees), nil
  end
  return compiled.paths
end

-- Renders a compiled template: the whole output, or nil and the error.
---@param compiled segue.template.compiled
---@param data any
---@param world? segue.template.context what its functions see
---@return string? output
---@return segue.template.problem? problem
function template.render(compiled, data, world)
  local out = buffer.new()
  runtime.limit(template.limits)
  context.enter(world, data, compiled)
  compiled.functions.reset()
  local main = compiled.functions[compiled.main]
  local good, problem = pcall(main, out, data)
  if not good then return nil, describe(compiled, problem) end
  return out:get()
end

return template

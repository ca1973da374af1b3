-- SPDX-License-Identifier: MIT
-- Templates in the language of Go's text/template: compiled once, cached by their content, rendered
-- within limits. All of it runs in a Lua state of its own, with the JIT compiler on.
local buffer = require "string.buffer"
local compiler = require "segue.template.compiler"
local lexer = require "segue.template.lexer"
local context = require "segue.template.context"
local dialects = require "segue.template.dialects"
local host = require "segue.template.host"
local node = require "segue.template.node"
local parser = require "segue.template.parser"
local quote = require "segue.template.quote"
local runtime = require "segue.template.runtime"
local script = require "segue.template.script"
local touches = require "segue.template.touches"

local template = {}

---@class segue.template.options
---@field name? string of the template, for messages
---@field dialect? string a key of dialects
---@field names? string[] of the functions of a file, see script.begin
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
---@field shares boolean its code is that of another template, with other places of its nodes
---@field options segue.template.options
---@field mode string

-- Limits of one run, unless others are given.
template.limits = { seconds = host.seconds_max, output = 64 * 1024 * 1024 }

local cache, cached = {}, 0
local shapes, shape_count = {}, 0
local CACHED_MAX, SHAPES_MAX, SHAPE_TOKENS_MAX = 2000, 1000, 2000

---@class segue.template.shape the code of templates that differ in their texts only
---@field code segue.template.code
---@field chunk function
---@field trees segue.template.trees
---@field main integer

local function load_code(code)
  local chunk, message = host.load(compiler.source(code), "=template")
  if not chunk then error("the code of a template does not load: " .. message, 0) end
  return chunk
end

local function instantiate(shape, tokens)
  local functions, texts = {}, {}
  for i, of_text in ipairs(shape.code.texts) do
    local text = tokens.value[of_text[1]]
    for k = 2, #of_text do text = text .. tokens.value[of_text[k]] end
    texts[i] = text
  end
  shape.chunk(runtime, shape.code.constants, functions, 0, 0, texts)
  return functions
end

-- All that decides the code: the tokens, but of texts only whether they are blank, because an empty
-- definition may be replaced by another one. nil: a large template, or one that may name itself.
local function shape_key(key, name, tokens)
  local out, n = { key }, 1
  if tokens.count > SHAPE_TOKENS_MAX or tokens.kind[tokens.count] ~= "eof" then return nil end
  for i = 1, tokens.count do
    local kind, v = tokens.kind[i], tokens.value[i]
    if kind == "text" then
      out[n + 1] = v:find "[^ \t\r\n\v\f]" and "\0t" or "\0b"
      n = n + 1
    else
      if (kind == "string" or kind == "raw") and quote.unquote(v) == name then return nil end
      out[n + 1], out[n + 2], out[n + 3] = kind, "\0", v
      n = n + 3
    end
  end
  return table.concat(out, "\1")
end

local NO_MEMORY = "the template needs more memory than it may use"

-- Where a run-time error stands: NAME:LINE:COL, and the node that was evaluated.
local function describe(compiled, problem)
  if type(problem) ~= "table" then
    local text, site = tostring(problem), nil
    if text:find "not enough memory" then
      text, site = NO_MEMORY, runtime.site[0]
    elseif text:find "stack overflow" then
      text, site = "the template nests too deeply", runtime.site[0]
    end
    if site == 0 then site = nil end
    problem = { site = site, limit = text }
  end
  if not problem.site then
    return { message = ("template: %s: %s"):format(compiled.name, problem.limit) }
  end
  if compiled.shares then template.own_code(compiled) end
  local n = compiled.code.sites[problem.site]
  local line, column = node.line(compiled.text, n.pos)
  local message = problem.message or problem.limit
  if problem.shows_node then
    message = message:gsub("%%s", function() return node.text(n) end, 1)
  end
  problem.line = line
  problem.message = ("template: %s:%d:%d: executing %s at <%s>: %s"):format(compiled.name, line,
    column, quote.quote(compiled.code.names[problem.site]), node.text(n), message)
  return problem
end

local function functions_of(options)
  return (script.functions(options.dialect, options.names))
end

local function new_shape(name, text, mode, options, tokens)
  local functions = functions_of(options)
  local trees, problem = parser.parse(name, text, functions, options.left, options.right, tokens)
  if not trees then return nil, problem end
  local code = compiler.compile(trees, { functions = functions, missingkey = mode,
    force_large = options.force_large })
  return { code = code, chunk = load_code(code), trees = trees, main = code.ids[name] }
end

-- Replaces the nodes of shared code by those of the template itself: their places are other ones.
---@param compiled segue.template.compiled
function template.own_code(compiled)
  local options = compiled.options
  local functions = functions_of(options)
  local trees = parser.parse(compiled.name, compiled.text, functions, options.left, options.right)
  compiled.code = compiler.compile(trees, { functions = functions, missingkey = compiled.mode,
    force_large = options.force_large })
  compiled.shares = false
end

---@param text string
---@param options segue.template.options
---@return segue.template.compiled? compiled
---@return segue.template.problem? problem
function template.compile(text, options)
  local name = options.name or ""
  local mode = options.missingkey or dialects.missing_key(options.dialect)
  if mode == "invalid" then mode = "default" end
  local shape_options = (options.dialect or "") .. "\0" .. mode
    .. (options.force_large and "\0large" or "")
    .. (options.names and "\0" .. table.concat(options.names, "\0") or "")
  local key = shape_options .. "\0" .. (options.left or "") .. "\0" .. (options.right or "") .. "\0"
    .. name
  local of_options = cache[key]
  if of_options and of_options[text] then return of_options[text] end
  local tokens = lexer.run(text, options.left, options.right)
  local shared = name ~= "" and shape_key(shape_options, name, tokens)
  local shape = shared and shapes[shared]
  local problem
  local is_new = not shape
  if not shape then
    shape, problem = new_shape(name, text, mode, options, tokens)
    if not shape then return nil, problem end
    if shape_count >= SHAPES_MAX then shapes, shape_count = {}, 0 end
    if shared then shapes[shared], shape_count = shape, shape_count + 1 end
  end
  local compiled = { name = name, text = text, code = shape.code, main = shape.main,
    functions = instantiate(shape, tokens), trees = shape.trees, shares = not is_new,
    options = { dialect = options.dialect, names = options.names, left = options.left,
      right = options.right, force_large = options.force_large }, mode = mode }
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
    compiled.trees.paths = compiled.trees.paths or touches.find(compiled.trees)
    compiled.paths, compiled.trees = compiled.trees.paths, nil
  end
  return compiled.paths
end

-- The error of a template that needed more memory than it may use, in a state that is gone by now.
---@param name string
---@param compiled? segue.template.compiled nil: it was not running yet
---@param site integer 0: unknown
---@return segue.template.problem
function template.over_limit(name, compiled, site)
  if compiled and compiled.code.sites[site] then
    return describe(compiled, { site = site, limit = NO_MEMORY })
  end
  return { message = ("template: %s: %s"):format(name, NO_MEMORY) }
end

-- Renders a compiled template: the whole output, or nil and the error.
---@param compiled segue.template.compiled
---@param data any
---@param world? segue.template.context what its functions see
---@return string? output
---@return segue.template.problem? problem
function template.render(compiled, data, world)
  local out = buffer.new()
  if not (world and world.limited) then runtime.limit(template.limits) end
  context.enter(world, data, compiled)
  compiled.functions.reset()
  local main = compiled.functions[compiled.main]
  local good, problem = pcall(main, out, data)
  if good then good, problem = pcall(runtime.check_output, out) end
  if not good then
    out:free()
    return nil, describe(compiled, problem)
  end
  return out:get()
end

return template

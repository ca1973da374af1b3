-- SPDX-License-Identifier: MIT
-- Rules of the house about the tree as a whole: circles of includes, files that no README names,
-- names that are used twice, comments, the length of functions, and the endpoints in the documents.
-- Used by house.lua; returns a function that is called with each file, and at the end without one.

-- Circles that are older than the rule, by their first unit. A change may lower a number; it never
-- raises one.
local CIRCLE_MAX = 3
local allowed_circles = {}
local SHARED_MAX = 0.03
local COMMENTS_MIN, COMMENTS_FROM = 0.1, 1000 -- of all lines; in a tree with so many
local FUNCTION_MAX = 60
local ENDPOINTS = "core/admin/endpoints.c"

local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("*a")
  file:close()
  return text
end

-- ---- Circles ----------------------------------------------------------------------------------

-- A source and its headers (x.c, x.h, x_internal.h) are one unit: in a circle of many units none
-- can be understood, or tested, without the others.
local graph = {}

local function unit_of(path)
  return (path:gsub("%.[ch]$", ""):gsub("_internal$", ""))
end

local function note_includes(path, text)
  local from = unit_of(path)
  graph[from] = graph[from] or {}
  for include in text:gmatch('\n%s*#%s*include%s+"([^"]+)"') do
    local parts = {}
    for part in (path:match("^(.*)/") .. "/" .. include):gmatch("[^/]+") do
      if part == ".." then parts[#parts] = nil else parts[#parts + 1] = part end
    end
    local to = unit_of(table.concat(parts, "/"))
    if to ~= from then graph[from][to] = true end
  end
end

-- Tarjan's algorithm: calls found(units) for each set of units that reach one another.
local function each_circle(found)
  local index, low, stack, on, count = {}, {}, {}, {}, 0
  local function visit(unit)
    count = count + 1
    index[unit], low[unit], on[unit] = count, count, true
    stack[#stack + 1] = unit
    for other in pairs(graph[unit] or {}) do
      if not index[other] then
        visit(other)
        low[unit] = math.min(low[unit], low[other])
      elseif on[other] then
        low[unit] = math.min(low[unit], index[other])
      end
    end
    if low[unit] ~= index[unit] then return end
    local units = {}
    repeat
      local other = table.remove(stack)
      on[other] = nil
      units[#units + 1] = other
    until other == unit
    table.sort(units)
    found(units)
  end
  for unit in pairs(graph) do
    if not index[unit] then visit(unit) end
  end
end

local function check_circles(breach)
  each_circle(function(units)
    local most = allowed_circles[units[1]] or CIRCLE_MAX
    if #units > most then
      breach(units[1], "%d files include one another, at most %d may: %s", #units, most,
        table.concat(units, " "))
    end
  end)
end

-- ---- READMEs ----------------------------------------------------------------------------------

local readmes = {}

-- The names of files in a README, without their extension, and patterns such as `*_harness.*`. A
-- name is a word between backquotes, or a word with an extension anywhere.
local function names_in(path)
  if readmes[path] then return readmes[path] end
  local found = { patterns = {} }
  local function add(word)
    local name = word:gsub("^.*/", ""):gsub("%.[%w*]+$", "")
    if name:find("*", 1, true) then
      found.patterns[#found.patterns + 1] = "^" .. name:gsub("%*", ".*") .. "$"
    else
      found[name] = true
    end
  end
  local text = read(path) or ""
  for span in text:gmatch("`([^`\n]+)`") do
    for word in span:gmatch("[%w_.*/-]+") do add(word) end
  end
  for word in text:gmatch("[%w_/]+%.%l+%f[%W]") do add(word) end
  readmes[path] = found
  return found
end

local function is_named(readme, name)
  local found = names_in(readme)
  if found[name] then return true end
  for _, pattern in ipairs(found.patterns) do
    if name:find(pattern) then return true end
  end
  return false
end

-- Folders in which every file has its place in the README of the folder, or of the one above it.
-- Specs are named by what they test.
local function check_named(path, breach)
  local folder, name = path:match("^(.*)/([^/]+)%.%w+$")
  if not name or not (path:match("^core/") or path:match("^plugins/") or path:match("^lua/")
      or path:match("^spec/support/[^/]+$")) or name:find("_spec$") then
    return
  end
  local own, above = folder .. "/README.md", (folder:match("^(.*)/") or ".") .. "/README.md"
  name = name:gsub("_internal$", "")
  if not is_named(own, name) and not is_named(above, name) then
    breach(path, "its README does not name it")
  end
end

-- ---- Names ------------------------------------------------------------------------------------

local statics, functions, identifiers = {}, 0, {}

local function bare(text)
  return (text:gsub("/%*.-%*/", " "):gsub("//[^\n]*", ""):gsub('\\"', ""):gsub('"[^"\n]*"', '""'))
end

local function note_names(path, text)
  text = "\n" .. bare(text)
  for name in text:gmatch("%f[%w_]([sS][eE][gG][uU][eE]_[%w_]+)") do identifiers[name] = path end
  if not path:match("^core/.*%.c$") then return end
  for head in text:gmatch("\n(%l[%w_ *\n]-[%w_]+%([^;{}]-%)%s*){") do
    functions = functions + 1
    local name = head:match("^static .-([%w_]+)%(")
    if name then
      statics[name] = statics[name] or {}
      table.insert(statics[name], path)
    end
  end
end

local function check_names(breach)
  local shared, examples = 0, {}
  for name, paths in pairs(statics) do
    if #paths > 1 then
      shared = shared + #paths
      examples[#examples + 1] = name .. " (" .. table.concat(paths, ", ") .. ")"
    end
  end
  table.sort(examples)
  if shared > SHARED_MAX * functions then
    breach("core", "%d of %d functions share their name with another, at most %d %% may: %s",
      shared, functions, SHARED_MAX * 100, table.concat(examples, "; "))
  end
  for name, path in pairs(identifiers) do
    local other = name:gsub("^(%a+)__", "%1_")
    if other ~= name and identifiers[other] then
      breach(path, "%s and %s (%s) differ by one underscore", name, other, identifiers[other])
    end
  end
end

-- ---- Comments and functions -------------------------------------------------------------------

local lines_of_code, lines_of_comments = 0, 0

local function count_comments(text)
  lines_of_code = lines_of_code + select(2, text:gsub("\n", ""))
  for comment in text:gsub('"[^"\n]*"', '""'):gmatch("/%*.-%*/") do
    lines_of_comments = lines_of_comments + 1 + select(2, comment:gsub("\n", ""))
  end
end

-- A function begins with a letter in the first column and ends with "}" in it.
local function check_functions(path, text, breach)
  local number, begins = 0, nil
  for line in text:gmatch("([^\n]*)\n") do
    number = number + 1
    if line:find("^%l") and line:find("(", 1, true) and not line:find(";$") then begins = number end
    if line == "}" and begins and number - begins >= FUNCTION_MAX then
      breach(path .. ":" .. begins, "a function of %d lines, at most %d may be",
        number - begins + 1, FUNCTION_MAX)
    end
    if line:find("^}") then begins = nil end
  end
end

local function check_comments(breach)
  if lines_of_code >= COMMENTS_FROM and lines_of_comments < COMMENTS_MIN * lines_of_code then
    breach("core", "%d of %d lines are comments, at least one in ten has to be", lines_of_comments,
      lines_of_code)
  end
end

-- ---- Endpoints --------------------------------------------------------------------------------

-- The rows of endpoints.c: "POST /api/v1/plan" -> { "force", "wait" }.
local function endpoints_of_code()
  local rows = {}
  for row in (read(ENDPOINTS) or ""):gmatch('\n    ({"%u.-}),%f[\n]') do
    local method, path = row:match('^{"(%u+)[%u, ]*", "([^"]+)"')
    local rest = row:match('%.rest = "(%u+)"')
    local parameters = {}
    for name in row:gmatch('[{ ]{"([%l-]+)", %d+}') do parameters[#parameters + 1] = name end
    if path ~= "/" then rows[method .. " " .. path .. (rest or "")] = parameters end
  end
  return rows
end

-- Rows of the README's table: "| `GET /api/v1/status`, `/sources` | JSON |".
local function endpoints_of_readme()
  local rows = {}
  for line in (read("README.md") or ""):gmatch("\n(| `%u+ /[^\n]*)") do
    local method
    for span in line:match("^| ([^|]*)"):gmatch("`([^`]+)`") do
      method = span:match("^(%u+) ") or method
      local path = span:match("(/[^?]*)")
      if not (path:find("^/%-/") or path:find("^/api/") or path == "/metrics") then
        path = "/api/v1" .. path
      end
      rows[method .. " " .. path] = line
    end
  end
  return rows
end

-- Items of segue(1): ".It Li GET /api/v1/status" and the text up to the next item.
local function endpoints_of_manual()
  local rows, head = {}, nil
  local text = (read("core/dist/segue.1") or ""):match("\n%.Sh HTTP\n(.-)\n%.Sh ") or ""
  for line in text:gmatch("[^\n]+") do
    head = line:match("^%.It Li (%u+ /%S+)$") or head
    if head then rows[head] = (rows[head] or "") .. line .. "\n" end
  end
  return rows
end

local function compare(rows, documented, where, breach)
  for endpoint, parameters in pairs(rows) do
    local text = documented[endpoint]
    if not text then breach(where, "does not name the endpoint %s", endpoint) end
    for _, name in ipairs(text and parameters or {}) do
      if not text:find("%f[%w]" .. name:gsub("%-", "%%-") .. "%f[^%w-]") then
        breach(where, "%s: does not name the parameter %s", endpoint, name)
      end
    end
  end
  for endpoint in pairs(documented) do
    if not rows[endpoint] then breach(where, "%s is not in %s", endpoint, ENDPOINTS) end
  end
end

local function check_endpoints(breach)
  local rows = endpoints_of_code()
  if next(rows) == nil then breach(ENDPOINTS, "has no rows that can be read") end
  compare(rows, endpoints_of_readme(), "README.md", breach)
  compare(rows, endpoints_of_manual(), "core/dist/segue.1", breach)
end

return function(path, breach)
  if not path then
    check_circles(breach)
    check_names(breach)
    check_comments(breach)
    check_endpoints(breach)
    return
  end
  check_named(path, breach)
  if path:match("%.[ch]$") and (path:match("^core/") or path:match("^plugins/")) then
    local text = assert(read(path))
    note_includes(path, text)
    note_names(path, text)
    count_comments(text)
    if path:match("%.c$") then check_functions(path, text, breach) end
  end
end

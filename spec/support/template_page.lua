-- SPDX-License-Identifier: MIT
-- The lists of functions of segue-template(5), from the functions and rows of lua/segue/template:
--   luajit spec/support/template_page.lua [--check]
-- writes them between the marks of the page; --check prints where they differ.
package.path = "./lua/?.lua;./lua/?/init.lua;" .. package.path

local header = assert(io.open "core/files/kind.h"):read "*a"
package.preload["segue.template.host"] = function()
  return { dialects = header:match 'SEGUE__TEMPLATE_DIALECTS "([^"]+)"', seconds_max = 1 }
end
local dialects = require "segue.template.dialects"
local rows = require "segue.template.rows"

local PATH = "core/dist/segue-template.5"
local BEGIN, END = '.\\" Functions, made by make options\n', '.\\" End of the functions\n'

local function sorted(t)
  local out = {}
  for key in pairs(t) do
    if type(key) == "string" then out[#out + 1] = key end
  end
  table.sort(out)
  return out
end

local function names(list)
  local out = {}
  for i, name in ipairs(list) do
    out[i] = ".Ic " .. name .. (i < #list and " ,\n" or "\n")
  end
  return table.concat(out)
end

-- Lines of at most 78 bytes.
local function wrap(text)
  local lines, line = {}, nil
  for word in text:gmatch "%S+" do
    if line and #line + #word > 77 then
      lines[#lines + 1], line = line, word
    else
      line = line and line .. " " .. word or word
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

local function reasons(title, t)
  if not next(t) then return "" end
  local out = { ".Pp\n" .. title .. ":\n.Bl -tag -width Ds -compact\n" }
  for _, name in ipairs(sorted(t)) do
    out[#out + 1] = (".It Ic %s\n%s\n"):format(name, wrap(t[name]))
  end
  out[#out + 1] = ".El\n"
  return table.concat(out)
end

-- A row about a function that does not exist would promise something.
local function validate(set, functions)
  for _, name in ipairs(sorted(rows.differs[set] or {})) do
    assert(functions[name], ("rows.differs.%s.%s is no function"):format(set, name))
  end
  for _, name in ipairs(sorted(rows.left_out[set] or {})) do
    assert(not functions[name], ("rows.left_out.%s.%s is a function"):format(set, name))
  end
end

local function section(set)
  local functions, go = dialects.functions(set), dialects.functions "go"
  local differs, left_out = rows.differs[set] or {}, rows.left_out[set] or {}
  validate(set, functions)
  local same = {}
  for _, name in ipairs(sorted(functions)) do
    local of_set = set == "go" or functions[name] ~= go[name]
    if of_set and not differs[name] and not name:find "^sprig_" then same[#same + 1] = name end
  end
  return (".Ss %s\nAs in the original:\n%s%s%s"):format(set, names(same),
    reasons("Different", differs), reasons("Not supported", left_out))
end

local out = {}
for _, set in ipairs { "go", "confd", "consul-template", "sprig" } do
  out[#out + 1] = section(set)
end
local text = table.concat(out)

local page = assert(io.open(PATH)):read "*a"
local from, to = select(2, page:find(BEGIN, 1, true)), page:find(END, 1, true)
local made = page:sub(1, from) .. text .. page:sub(to)
if made == page then return end
if arg[1] == "--check" then
  print(PATH .. ": differs from the functions. Run: make options")
  os.exit(1)
end
local file = assert(io.open(PATH, "w"))
file:write(made)
file:close()
print("  options " .. PATH)

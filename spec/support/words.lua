-- SPDX-License-Identifier: MIT
-- A rule of the house: a sentence of a comment names its subject first. A sentence that begins with
-- What, Who, Whoever, Whose or Those makes the reader search for the thing that it describes. Used
-- by house.lua; returns a function that is called with each file, and at the end without one.

local openers = { What = true, Who = true, Whoever = true, Whose = true, Those = true }

-- Sentences that are older than the rule, by folder; a folder that is not here has none. A change
-- may lower a number; it never raises one.
local allowed = {
  ["core/admin"] = 17, ["core/bind/policy"] = 13, ["core/config"] = 13, ["core/ingress"] = 1,
  ["core/os"] = 5, ["core/record"] = 4, ["core/reload"] = 8, ["core/schema"] = 11,
  ["core/trigger"] = 1, ["lua/segue"] = 24, ["lua/segue/testing"] = 2, ["spec/bench"] = 3,
  ["spec/embed"] = 1, ["spec/support"] = 2,
}

-- The comment on a line of C, or nil, and whether it continues on the next line.
local function of_c(line, inside)
  local text = inside and line or line:gsub('"[^"]*"', '""'):match("/[*/]+(.*)")
  if not text then return nil, false end
  local continues = (inside or line:find("/*", 1, true)) and not text:find("*/", 1, true)
  return text:gsub("%*/.*", ""):gsub("^%s*%*", ""), continues
end

-- The same for Lua. A comment behind code does not continue.
local function of_lua(line)
  local text = line:match("^%s*%-%-+(.*)")
  if text then return text, true end
  return line:gsub('"[^"]*"', '""'):gsub("'[^']*'", "''"):match("%s%-%-+(%s.*)"), false
end

local found = {}

local function check_file(path)
  local of = path:match("%.[ch]$") and of_c or path:match("%.lua$") and of_lua
  local number, before, continues = 0, "", false
  if not of then return end
  for line in io.lines(path) do
    local text
    number = number + 1
    text, continues = of(line, continues)
    local starts = (before == "" or before:find("[.!?]$")) and ". " or ""
    for word in (starts .. (text or "")):gmatch("[.!?]%s+(%a+)") do
      if openers[word] then
        local folder = path:match("^(.*)/") or "."
        found[folder] = found[folder] or {}
        table.insert(found[folder], { path .. ":" .. number, word })
      end
    end
    before = continues and text:gsub("%s+$", "") or ""
  end
end

local function report(breach)
  for folder, sentences in pairs(found) do
    if #sentences > (allowed[folder] or 0) then
      for _, at in ipairs(sentences) do
        breach(at[1], "a sentence begins with %s: name its subject (%s has %d, %d are allowed)",
          at[2], folder, #sentences, allowed[folder] or 0)
      end
    end
  end
end

return function(path, breach)
  if path then check_file(path) else report(breach) end
end

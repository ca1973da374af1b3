-- SPDX-License-Identifier: MIT
-- One import: what is read, what will be written, and the notes about settings that could not be
-- carried over. Nothing is written before everything was read.
local rows = require "segue.template.rows"
local scanner = require "segue.import.scanner"

local job = {}
job.__index = job

-- The file system, from core/bind/import: read(path), list(folder), kind(path), write(path, text).
---@class segue.import.host

---@param host segue.import.host
---@param from string the file or folder that is imported
function job.new(host, from)
  return setmetatable({ host = host, from = from, notes = {}, files = {}, taken = {} }, job)
end

-- Text of a file; raises an error that names it.
function job:read(path)
  local text, message = self.host.read(path)
  if not text then
    error({ file = path, message = message, unreadable = true }, 0)
  end
  return text
end

-- A note: `setting` is "NAME" or "NAME = VALUE", `message` a sentence without a full stop.
---@param file string
---@param line integer? nil: it stands in no line
---@param setting string
---@param message string
function job:note(file, line, setting, message)
  self.notes[#self.notes + 1] = { file = file, line = line, setting = setting,
    message = message, number = #self.notes }
end

-- Adds a file to be written, under a name that is not taken by another text; returns this name.
---@param path string below the folder of the policy
---@param text string
---@return string
function job:add(path, text)
  local stem, suffix = path:match "^(.*)(%.[^./]*)$"
  if not stem then stem, suffix = path, "" end
  local name, n = path, 1
  while self.taken[name] and self.taken[name] ~= text do
    n = n + 1
    name = stem .. "-" .. n .. suffix
  end
  if not self.taken[name] then self.files[#self.files + 1] = { path = name, text = text } end
  self.taken[name] = text
  return name
end

-- Notes for the functions that a template calls and that its dialect leaves out. file and line:
-- where the text begins; inline: it is a value of the file, and its lines are not counted.
---@param dialect string
---@param left? string the delimiters; nil: those of Go
---@param right? string
function job:note_functions(text, dialect, file, line, inline, left, right)
  local left_out = rows.left_out[dialect]
  local at, n = 1, 0
  left, right = left and left ~= "" and left or "{{", right and right ~= "" and right or "}}"
  while true do
    local from = text:find(left, at, true)
    if not from then return end
    n = n + select(2, text:sub(at, from - 1):gsub("\n", ""))
    local till = text:find(right, from, true) or #text + 1
    local action = text:sub(from + #left, till - 1)
    local plain = action:gsub('"[^"\n]*"', " "):gsub("`[^`]*`", " "):gsub("[.$][%w_]+", " ")
    for word in plain:gmatch "[%a_][%w_]*" do
      if left_out[word] then
        self:note(file, inline and line or line + n, word, "is not supported: " .. left_out[word])
      end
    end
    n = n + select(2, action:gsub("\n", ""))
    at = till + #right
  end
end

-- A name for a module, from the name of a file: letters, digits, "_" and "-".
---@param modules segue.import.module[]
function job.module_name(modules, text)
  local stem = text:match "([^/]+)/*$" or text
  stem = stem:gsub("%.[^.]*$", ""):gsub("[^%w_%-]+", "-"):gsub("^%-+", ""):gsub("%-+$", "")
  if stem == "" then stem = "files" end
  local name, n = stem, 1
  local function is_taken()
    for _, module in ipairs(modules) do
      if module.name == name then return true end
    end
  end
  while is_taken() do
    n = n + 1
    name = stem .. "-" .. n
  end
  return name
end

--- @param v any of a reader @return string the value as written in a file, shortened
function job.show(v)
  if type(v) == "string" then return '"' .. (#v > 60 and v:sub(1, 57) .. "..." or v) .. '"' end
  if type(v) ~= "table" then return tostring(v) end
  return v.list and "[...]" or "{...}"
end

-- Calls handlers[name](value, entry) for each entry of an object. A handler may also be a sentence:
-- the note for this setting. An unknown setting is a note too: newer versions have more of them.
---@param program string whose setting it would be: "confd"
function job:walk(file, object, program, handlers)
  for _, entry in ipairs(object.entries) do
    local handler = handlers[entry.name]
    if type(handler) == "function" then
      handler(entry.value, entry)
    elseif handler == nil then
      self:note(file, entry.line, entry.name, "is not carried over: it is no known setting of "
        .. program)
    else
      self:note(file, entry.line, entry.name, handler)
    end
  end
end

-- Raises an error unless a value has this type of Lua.
function job.expect(file, entry, kind)
  if type(entry.value) ~= kind then
    scanner.raise(file, entry.line, ("%s needs a %s, not %s"):format(entry.name,
      kind, job.show(entry.value)))
  end
  return entry.value
end

return job

-- SPDX-License-Identifier: MIT
-- Writes the text of a reload.lua.
local policy = {}

---@param text string
---@return string a constant of Lua
function policy.quote(text)
  return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"):gsub("%z", "\\0"))
end

-- A command: a text for the shell, or a list of words.
---@param command string|string[]
function policy.command(command)
  if type(command) == "string" then return policy.quote(command) end
  local words = {}
  for i, word in ipairs(command) do words[i] = policy.quote(word) end
  return "{ " .. table.concat(words, ", ") .. " }"
end

---@class segue.import.file
---@field template string
---@field to string
---@field options string[] "mode = \"0644\""

---@class segue.import.module
---@field name string
---@field from string where it was declared, for a comment
---@field files segue.import.file[]
---@field fields string[] "apply = ..."

---@param module segue.import.module
local function module_lines(module, lines)
  local function add(text) lines[#lines + 1] = text end
  add("    -- " .. module.from)
  local name = module.name
  if not name:match "^[%a_][%w_]*$" then name = "[" .. policy.quote(name) .. "]" end
  add("    " .. name .. " = {")
  add('      kind = "files",')
  add("      files = {")
  for _, file in ipairs(module.files) do
    add("        { template = " .. policy.quote(file.template) .. ",")
    add("          to = " .. policy.quote(file.to) .. ",")
    for _, option in ipairs(file.options) do add("          " .. option .. ",") end
    lines[#lines] = lines[#lines]:gsub(",$", " },")
  end
  add("      },")
  for _, field in ipairs(module.fields) do add("      " .. field .. ",") end
  add("    },")
end

---@class segue.import.policy
---@field head string[] comments
---@field sources string[] constructors
---@field triggers string[] constructors
---@field modules segue.import.module[]
---@field exec? string[] "reload_signal = \"HUP\""

---@param p segue.import.policy
---@return string
function policy.text(p)
  local lines = {}
  for _, line in ipairs(p.head) do lines[#lines + 1] = "-- " .. line end
  lines[#lines + 1] = 'local segue = require "segue"'
  lines[#lines + 1] = ""
  lines[#lines + 1] = "return {"
  for _, part in ipairs { "sources", "triggers" } do
    lines[#lines + 1] = "  " .. part .. " = {"
    for _, text in ipairs(p[part]) do lines[#lines + 1] = "    " .. text .. "," end
    lines[#lines + 1] = "  },"
  end
  if p.exec then
    lines[#lines + 1] = "  exec = {"
    for _, text in ipairs(p.exec) do lines[#lines + 1] = "    " .. text .. "," end
    lines[#lines + 1] = "  },"
  end
  lines[#lines + 1] = "  modules = {"
  for _, module in ipairs(p.modules) do module_lines(module, lines) end
  lines[#lines + 1] = "  },"
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n") .. "\n"
end

return policy

-- SPDX-License-Identifier: MIT
-- The parts of documents that are made from the tables of options: blocks of reload.lua(5) and of
-- the types for editors, and the JSON Schema.
--   luajit spec/support/options.lua BINARY [--check]
-- writes them; with --check it names each file that differs, and exits with 1.
local binary, mode = arg[1], arg[2]
local check = mode == "--check"
local differs = false

local function made(form)
  local pipe = assert(io.popen(("%s help options %s"):format(binary, form)))
  local text = pipe:read("*a")
  pipe:close()
  assert(#text > 0, binary .. " help options " .. form .. " prints nothing")
  return text
end

local function read(path)
  local file = io.open(path)
  if not file then return "" end
  local text = file:read("*a")
  file:close()
  return text
end

local function put(path, text)
  if read(path) == text then return end
  if check then
    io.stderr:write(path, ": differs from the tables of options. Run: make options\n")
    differs = true
    return
  end
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  print("  options " .. path)
end

-- Replaces each block `begin TITLE ... finish` of a document by the block with this title.
local function replace_blocks(path, text, begin, finish)
  local blocks, used = {}, {}
  local pattern = "(" .. begin .. " ([^\n]*)\n)(.-)(" .. finish .. "\n)"
  for head, title, body, tail in text:gmatch(pattern) do blocks[title] = head .. body .. tail end
  local result = read(path):gsub(pattern, function(_, title)
    used[title] = true
    if blocks[title] then return blocks[title] end
    error(path .. ": there are no options of '" .. title .. "'")
  end)
  for title in pairs(blocks) do
    if not used[title] then
      io.stderr:write(path, ": has no block for the options of '", title, "'\n")
      differs = true
    end
  end
  put(path, result)
end

replace_blocks("core/dist/reload.lua.5", made "manual", '%.\\" options:', '%.\\" end of options')
replace_blocks("lua/segue/types.lua", made "types", "%-%- options:", "%-%- end of options")
put("core/dist/reload.schema.json", made "--json")
os.exit(differs and 1 or 0)

-- SPDX-License-Identifier: MIT
-- The rules of the house that no compiler knows: which folder may include which, what lies at the
-- top level, how long a file may be. Prints each breach as file:line; exit code 1 if there is one.
local breaches = 0
local function breach(where, format, ...)
  breaches = breaches + 1
  io.stderr:write(where, ": ", format:format(...), "\n")
end

local check_include = dofile("spec/support/includes.lua")
local check_messages = dofile("spec/support/messages.lua")
local check_words = dofile("spec/support/words.lua")
local check_structure = dofile("spec/support/structure.lua")

local function list(command)
  local lines = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do lines[#lines + 1] = line end
  pipe:close()
  return lines
end
local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

local function check_file(path)
  local number, first, bytes = 0, nil, 0
  for line in io.lines(path) do
    number = number + 1
    bytes = bytes + #line
    if number <= 2 then first = (first or "") .. line end
    if line:find("[ \t]$") then breach(path .. ":" .. number, "white space at the end") end
    if line:find("\t") then breach(path .. ":" .. number, "a tab") end
    if path:match("%.[ch]$") then check_include(path, number, line, breach) end
    -- With a text as its first argument strchr(3) also finds the terminator, a zero byte.
    if path:match("^core/.*%.c$") and line:find('%f[%w_]strchr%("') then
      breach(path .. ":" .. number, "strchr() in a literal finds a zero byte: use segue__is_one_of")
    end
    if line:find("%f[%w]TODO%f[%W]") or line:find("%f[%w]FIXME%f[%W]") then
      breach(path .. ":" .. number, "unfinished: do it or say why not")
    end
  end
  if not (first or ""):find("SPDX-License-Identifier: MIT", 1, true) then
    breach(path .. ":1", "the SPDX line is missing")
  end
  -- (The public header is one file by its promise, with a paragraph and examples per function.)
  if path:match("%.[ch]$") and path ~= "core/segue.h" and number > 800 then
    breach(path, "%d lines; past 800 a file is split", number)
  end
end

for _, path in ipairs(list("find . -type f "
    .. "\\( -name '*.[ch]' -o -name '*.lua' -o -name '*.sh' \\) -not -path './build*' "
    .. "-not -path '*/cdef/*' -not -path '*/fixtures/*' -not -path '*/corpus/*' "
    .. "-printf '%P\\n' | sort")) do
  if path ~= "spec/support/house.lua" then check_file(path) end
  check_messages(path, breach)
  check_words(path, breach)
  check_structure(path, breach)
end
check_words(nil, breach)
check_structure(nil, breach)

-- Verbs that only a program may use: the library never prints, exits or takes a signal.
-- (fault.c is in test builds only; spawn_user.c resets signals in a child that is about to exec.)
for _, path in ipairs(list("find core -name '*.c' -not -path 'core/daemon/*' "
    .. "-not -name fault.c -not -name spawn_user.c | sort")) do
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    for _, verb in ipairs { "printf", "puts", "exit", "abort", "perror", "signal", "sigaction" } do
      if line:find("%f[%w_]" .. verb .. "%(") and not line:find("^%s*[/*]")
          and not line:find("[%.>]" .. verb .. "%(") then
        breach(path .. ":" .. number, "%s(): a library never does that", verb)
      end
    end
    -- A host has no command line: messages name options as segue_options does. (The command line
    -- alone calls client.c.)
    if path ~= "core/http/client.c"
        and (line:find('"[^"]*%-%-%l[^"]*"') or line:find('"[^"]*%f[%w]segue reload[^"]*"')) then
      breach(path .. ":" .. number, "names the command line to a host that has none")
    end
    for _, verb in ipairs { "malloc", "calloc", "realloc", "free", "strdup", "strndup" } do
      if path ~= "core/os/mem.c" and line:find("%f[%w_]" .. verb .. "%(")
          and not line:find("^%s*[/*]") and not line:find("[%.>]" .. verb .. "%(") then
        breach(path .. ":" .. number, "%s(): segue__%s can be made to fail", verb, verb)
      end
    end
  end
end

local top = { core = 1, lua = 1, plugins = 1, examples = 1, spec = 1, Makefile = 1,
  ["README.md"] = 1, LICENSE = 1, ["CHANGELOG.md"] = 1, build = 1 }
for _, name in ipairs(list("ls")) do
  if not top[name] then breach(name, "does not belong at the top level") end
end
local folders = list("find core plugins examples core/bind -maxdepth 1 -mindepth 1 -type d"
  .. " 2>/dev/null | sort")
for _, folder in ipairs { "core", "lua", "plugins", "examples", "spec", "lua/segue", "spec/unit",
  "spec/bind", "spec/daemon", "spec/embed", "spec/fault", "spec/bench", "spec/fuzz", "spec/plugin",
  "spec/support" } do
  folders[#folders + 1] = folder
end
for _, folder in ipairs(folders) do
  local empty = #list("find " .. folder .. " -type f 2>/dev/null") == 0
  if not empty and not exists(folder .. "/README.md") then
    breach(folder, "has no README.md: what lives here, what it may call, where to start reading")
  end
end

os.exit(breaches == 0 and 0 or 1)

-- SPDX-License-Identifier: MIT
-- Two rules of the house. A sentence of a comment names its subject first: one that begins with
-- What, Who, Whoever, Whose or Those makes the reader search for the thing that it describes. And
-- comments, titles of specs, and messages of the program and of plugins use the standard words of
-- the field: threads, requests and callers are "it", a function "returns" or "logs", an operator
-- does something "manually". Used by house.lua; returns a function that is called with each file,
-- and at the end without one.

local openers = { What = true, Who = true, Whoever = true, Whose = true, Those = true }

-- Words and phrases in lower case, and the words to write instead.
local phrases = {
  [" told "] = "reports, logs, returns", [" tell "] = "reports, logs, returns",
  [" tells "] = "reports, logs, returns", [" telling "] = "reporting, logging",
  [" says "] = "names, states, returns", [" said "] = "named, stated, reported",
  [" he "] = "it", [" him "] = "it", [" his "] = "its", [" whoever "] = "the code that",
  [" nobody "] = "no caller, no thread", [" somebody "] = "a caller, a thread",
  [" everybody "] = "all callers, all threads", [" anybody "] = "any caller, any thread",
  [" namesake "] = "the function of that name", [" namesakes "] = "the functions of that name",
  [" by hand "] = "manually", [" lets go "] = "releases", [" let go "] = "release, released",
  [" letting go "] = "releasing", [" gives up "] = "cancels, abandons",
  [" give up "] = "cancel, abandon", [" given up "] = "cancelled, abandoned",
  [" takes back "] = "undoes, reverts", [" taken back "] = "undone, reverted",
  [" is through "] = "has finished", [" lane "] = "worker thread", [" lanes "] = "worker threads",
  [" outlet "] = "thread listener", [" outlets "] = "thread listeners",
  [" berth "] = "thread context", [" berths "] = "thread contexts", [" figure "] = "metric",
  [" figures "] = "metrics", [" tenure "] = "lease", [" tenures "] = "leases",
  [" limbo "] = "detached instances", [" anew "] = "again", [" goes on "] = "continues",
  [" go on "] = "continue", [" asks for "] = "requests", [" asked for "] = "requested",
  [" front door "] = "access control, listener", [" judge "] = "validate, check",
  [" judges "] = "validates, checks", [" judged "] = "validated, checked", [" deed "] = "effect",
  [" hears of "] = "is called, gets", [" one's own "] = "custom, private, separate",
  [" by its like "] = "by another one",
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

-- The title on a line of a spec, or the name of a mutant, or nil: the words of a title are those of
-- a comment.
local function title_of(path, line)
  if path:find("spec/fault/mutants/", 1, true) then return (line:match('^%s*{ "(.-[^\\])"')) end
  if not path:find("_spec%.lua$") then return nil end
  return (line:match('^%s*it%("(.-[^\\])"') or line:match('^%s*describe%("(.-[^\\])"'))
end

-- The texts in quotes on a line of the program, joined: messages of the log, errors, help.
local function messages_of(path, line)
  local from = "/" .. path
  if not (from:find "/core/" or from:find "/lua/" or from:find "/plugins/") then return nil end
  local texts = {}
  for text in line:gsub("\\\"", "'"):gmatch('"([^"]*)"') do texts[#texts + 1] = text end
  return texts[1] and table.concat(texts, ". ")
end

local found = {}

local function add(path, number, message)
  found[#found + 1] = { path .. ":" .. number, message }
end

-- A phrase may begin on the line before, so the last word of that line is looked at too. Texts in
-- quotes are names or examples, not words of the comment.
local function check_phrases(path, number, before, text)
  local last = before:match("(%S+)$") or ""
  local joined = " " .. last .. " " .. text .. " "
  joined = joined:gsub('"[^"]*"', '""'):gsub("[.,:;()!?]", " "):gsub("%s+", "  "):lower()
  local from = #last + 3
  for phrase, instead in pairs(phrases) do
    local doubled = phrase:gsub("(%S) (%S)", "%1  %2")
    local at, to = joined:find(doubled, 1, true)
    while at do
      if to > from then
        add(path, number, ("'%s': write %s"):format(phrase:match("^ (.*) $"), instead))
      end
      at, to = joined:find(doubled, at + 1, true)
    end
  end
end

local function check_file(path)
  local of = path:match("%.[ch]$") and of_c or path:match("%.lua$") and of_lua
  local number, before, continues = 0, "", false
  if not of or path == "spec/support/words.lua" then return end
  for line in io.lines(path) do
    local text
    number = number + 1
    text, continues = of(line, continues)
    local starts = (before == "" or before:find("[.!?]$") or before:find("SPDX-", 1, true)) and ". "
        or ""
    for word in (starts .. (text or "")):gmatch("[.!?]%s+(%a+)") do
      if openers[word] then
        add(path, number, "a sentence begins with " .. word .. ": name its subject")
      end
    end
    if text then check_phrases(path, number, before, text) end
    local title = title_of(path, line) or not text and messages_of(path, line)
    if title then check_phrases(path, number, "", title) end
    before = continues and text:gsub("%s+$", "") or ""
  end
end

local function report(breach)
  for _, at in ipairs(found) do breach(at[1], "%s", at[2]) end
end

return function(path, breach)
  if path then check_file(path) else report(breach) end
end

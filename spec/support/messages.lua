-- SPDX-License-Identifier: MIT
-- A rule of the house: a message about a configuration takes the text of a value only from
-- core/config/quote.c, which knows whether it is a secret. In the folders that read and validate
-- values, each text (%s, %.*s, %c) in a call that makes a message is a literal, a quote, or one of
-- the names below. Used by house.lua; returns the check of one file: check(path, breach).

-- Calls that make a message, with the place of their format among the arguments.
local makers = { segue__builder_fail = 3, segue__finding_add = 5, segue__errorf = 3 }

-- Functions that return a text for a message: each takes a value only through quote.c, or returns a
-- text of our own.
local makes_text = { "segue__builder_quote", "segue__builder_quote_key",
  "segue__builder_quote_stray", "segue__quote_text", "segue__quote_node", "segue__finding_not",
  "segue__finding_not_type",
  "segue__finding_types", "segue__finding_show", "segue__finding_show_text", "segue_type_name",
  "segue_strerror", "name_for_message", "show_name" }

-- Names of files, sources and sentences of our own, by file. A value never stands here.
local names = {
  ["core/config/builder.c"] = { "text", "what", "key.text" },
  ["core/config/document.c"] = { "doc->name", "more", "empty_message" },
  ["core/config/merge.c"] = { "old->name", "file" },
  ["core/config/expand.c"] = { "shown.text" },
  ["core/config/json.c"] = { "message", "what" },
  ["core/config/yaml.c"] = { "*at", "*next" }, -- '&' or '*', and one of five marks
  ["core/config/yaml_error.c"] = { "text", "problem", "p->context" },
  ["core/config/mask_pattern.c"] = { "text", "why" }, -- a pattern of the policy
  ["core/config/path.c"] = { "text", "why" }, -- a path from a request
  ["core/schema/schema.c"] = { 'c->keyword ? c->keyword : ""', "text", "name" },
  ["core/schema/default.c"] = { "name" },
  ["core/schema/match.c"] = { "why" }, -- of a pattern in the schema
  ["core/schema/regex.c"] = { "why" },
  ["core/schema/assert.c"] = { "what", "rule", "k->format->what", "because->key",
    "wanted.text", "shown", "values.data && !values.failed ? values.data : \"one of a list\"" },
  ["core/schema/apply.c"] = { "forms.data", "form.data", "first.data", "second.data",
    "shown" },
  ["core/schema/children.c"] = { "meant ? meant : \"\"" }, -- a key of the schema
  ["core/schema/finding.c"] = { "subject.failed ? \"the value does not fit the schema: out "
    .. "of memory\" : subject.data" },
  ["core/source/env.c"] = { "source->name", "why.message" },
  ["core/source/file.c"] = { "path", "source->path", "source->name" },
  ["core/source/source.c"] = { "source->name" },
  -- Keys of a store, sources, and sentences of our own; errors of the parsers without a mask.
  ["core/source/space_item.c"] = { "why" },
  ["core/source/space_parse.c"] = { "what", "space->source",
    'r->format->key ? r->format->key : ""', 'r->format->list ? r->format->list : ""' },
  ["core/source/space_rules.c"] = { "from[i]", "texts[i]", "rules->mounts[i].prefix" },
  ["core/source/space_take.c"] = { "rules->commit", "space->source" },
  ["core/source/c_source.c"] = { "source->name", "d->name" },
  ["core/source/held.c"] = { "source->name" },
  ["core/source/remote.c"] = { "source->name", "call->state->name" },
  -- (The error of a source is scrubbed when it is taken: segue__source_failed.)
  ["core/source/sources.c"] = { "state->name", "state->error.message" },
}

-- Where a text is shown without asking: the schema's own values, and names of variables.
local asks_nobody = { ["core/schema/finding.c"] = true, ["core/config/expand.c"] = true }

-- Code without comments; lines stay where they are.
local function without_comments(text)
  return (text:gsub("/%*.-%*/", function(c) return (c:gsub("[^\n]", " ")) end))
end

-- Returns the arguments of the call with its "(" at `from`.
local function arguments(text, from)
  local list, depth, start, i = {}, 0, from + 1, from
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' or c == "'" then
      repeat
        i = i + (text:sub(i + 1, i + 1) == "\\" and 2 or 1)
      until text:sub(i, i) == c and text:sub(i - 1, i - 1) ~= "\\" or i > #text
    elseif c == "(" or c == "{" or c == "[" then
      depth = depth + 1
    elseif c == ")" or c == "}" or c == "]" then
      depth = depth - 1
    end
    if (c == "," and depth == 1) or depth == 0 then
      list[#list + 1] = text:sub(start, i - 1):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", "")
      start = i + 1
      if depth == 0 then return list end
    end
    i = i + 1
  end
  return list
end

-- Returns the conversions of a format: "s", "d", "*" ... In "a ? b : c" both have the same ones.
local function conversions(format)
  local first = format:gsub('\\"', "")
  first = first:match('^[^"]-%?(.*)$') or first
  first = first:match('^(.-"%s*):%s*"') or first
  local text = {}
  for literal in first:gmatch('"([^"]*)"') do text[#text + 1] = literal end
  local list = {}
  local joined = table.concat(text):gsub("%%%%", "")
  for flags, kind in joined:gmatch("%%([-+ #0-9.*]*)[hlzj]*(%a)") do
    for _ in flags:gmatch("%*") do list[#list + 1] = "*" end
    list[#list + 1] = kind
  end
  return list
end

-- Returns whether it is a literal, or a choice between literals.
local function is_literals(argument)
  local bare = argument:gsub('\\"', ""):gsub('"[^"]*"', "@"):gsub("'[^']*'", "@")
  local choice = bare:gsub("[^?:]-%?", ""):gsub("[:%s()]", "")
  return choice:match("^@+$") ~= nil
end

local function is_allowed(path, argument)
  for _, name in ipairs(makes_text) do
    if argument:sub(1, #name + 1) == name .. "(" then return true end
  end
  for _, name in ipairs(names[path] or {}) do
    if argument == name then return true end
  end
  return is_literals(argument)
end

local function check_call(path, line, name, list, breach)
  local at = makers[name]
  if not list[at] or not list[at]:find('"', 1, true) then return end
  local argument = at
  for _, kind in ipairs(conversions(list[at])) do
    argument = argument + 1
    local text = kind == "s" or kind == "c"
    if text and list[argument] and not is_allowed(path, list[argument]) then
      breach(path .. ":" .. line, "%s() shows %s: values go through core/config/quote.h", name,
        list[argument])
    end
  end
end

return function(path, breach)
  if not (path:match("^core/config/[%w_]+%.c$") or path:match("^core/source/[%w_]+%.c$")
      or path:match("^core/schema/[%w_]+%.c$")) then
    return
  end
  local file = assert(io.open(path))
  local text = without_comments(file:read("*a"))
  file:close()
  for at, name, from in text:gmatch("()([%w_]+)()%(") do
    local _, line = text:sub(1, at):gsub("\n", "")
    if makers[name] then check_call(path, line + 1, name, arguments(text, from), breach) end
    if name:match("^segue__quote_[tn]") and arguments(text, from)[2] == "true"
        and not asks_nobody[path] then
      breach(path .. ":" .. line + 1, "%s(): shown without asking the mask", name)
    end
  end
end

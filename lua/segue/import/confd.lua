-- SPDX-License-Identifier: MIT
-- confd: a folder with confd.toml, conf.d/*.toml and templates/. Settings and their meaning are
-- those of confd 0.16 (config.go, resource/template/resource.go).
local job_methods = require "segue.import.job"
local policy = require "segue.import.policy"
local scanner = require "segue.import.scanner"
local toml = require "segue.import.toml"

local connection = "belongs to the connection to the backend: set it where the keys come from"

-- confd.toml. Returns { prefix, interval, watch, backend, files, line }.
local function read_main(job, file)
  local found = { interval = 600, backend = "etcd", files = {}, line = 1 }
  if not job.host.kind(file) then return found end
  local handlers = {}
  local function take(name, kind, key)
    handlers[name] = function(v, entry)
      job_methods.expect(file, entry, kind)
      found[key or name], found[(key or name) .. "_line"] = v, entry.line
    end
  end
  take("prefix", "string")
  take("interval", "number")
  take("watch", "boolean")
  take("backend", "string")
  for _, name in ipairs { "file", "yamlfile", "YAMLFile" } do
    handlers[name] = function(v, entry)
      local list = type(v) == "table" and v or { v }
      found.files, found.files_line = list, entry.line
    end
  end
  for _, name in ipairs { "nodes", "scheme", "srv_domain", "srv_record", "client_cakeys",
    "client_cert", "client_key", "client_insecure", "basic_auth", "username", "password",
    "auth_token", "auth_type", "app_id", "user_id", "role_id", "secret_id", "table", "separator",
    "path" } do
    handlers[name] = connection
  end
  for _, name in ipairs { "log-level", "log_level" } do
    handlers[name] = function(v, entry)
      job:note(file, entry.line, name, "start the daemon with: segue run --log-level "
        .. tostring(v):gsub("^panic$", "error"):gsub("^fatal$", "error"))
    end
  end
  handlers.confdir = "is not carried over: the templates are copied beside reload.lua"
  handlers.filter = "is not carried over: name a folder with a pattern, segue.dir \"x/*.yaml\""
  handlers.noop = "is not carried over: segue plan shows what a reload would change"
  handlers.onetime = "is not carried over: segue run serves until it is stopped"
  handlers["sync-only"] = "is not carried over: remove check and apply from the modules instead"
  handlers.sync_only = handlers["sync-only"]
  handlers["keep-stage-file"] = "is not carried over: staged files are always removed"
  handlers.keep_stage_file = handlers["keep-stage-file"]
  handlers.secret_keyring = "is not carried over: there are no cget functions; decrypt the values "
    .. "where the keys come from"
  job:walk(file, toml(job:read(file), file), "confd", handlers)
  return found
end

local function sources_of(job, file, main)
  if main.backend == "file" and #main.files > 0 then
    local sources = {}
    for _, path in ipairs(main.files) do
      if job.host.kind(path) == "folder" then
        local pattern = path:gsub("/*$", "") .. "/*.{yaml,yml,json}"
        sources[#sources + 1] = "segue.dir " .. policy.quote(pattern)
      else
        sources[#sources + 1] = "segue.file " .. policy.quote(path)
      end
      if path:sub(1, 1) ~= "/" then
        job:note(file, main.files_line, "file = " .. job_methods.show(path),
          "differs: a relative path begins at the folder of reload.lua, not at the current folder")
      end
    end
    return sources
  end
  -- Without the setting, or the file, no line has the default.
  job:note(main.backend_line and file or job.folder, main.backend_line,
    ("backend = %q"):format(main.backend) .. (main.backend_line and "" or ", the default"),
    "is not carried over: the keys are read from keys.yaml, which has none yet")
  return { 'segue.file "keys.yaml"' }
end

-- confd reads a mode with Go's rules: 0644 is octal, 644 decimal.
local function mode_option(job, file, entry)
  local v = job_methods.expect(file, entry, "string")
  local octal = v:match "^0[oO]?([0-7]+)$"
  if not octal then
    job:note(file, entry.line, "mode = " .. job_methods.show(v),
      "differs: confd reads a mode without a leading 0 as a decimal number, segue as octal")
    octal = v:match "^([0-7]+)$"
  end
  if not octal or #octal > 4 then
    scanner.raise(file, entry.line, "mode needs a text such as \"0644\"")
  end
  return "mode = " .. policy.quote("0" .. octal:gsub("^0+", ""))
end

-- The path of a prefix in the configuration: "/my/app" is my.app.
local function config_path(prefix)
  local parts = {}
  for part in prefix:gmatch "[^/]+" do
    parts[#parts + 1] = part:match "^[%w_%-]+$" and part or "[" .. policy.quote(part) .. "]"
  end
  return (table.concat(parts, "."):gsub("%.%[", "["))
end

---@class segue.import.resource
local function read_resource(job, file)
  local root = toml(job:read(file), file)
  local entry = scanner.find(root, "template")
  local found = { keys = {}, options = {}, line = entry and entry.line or 1 }
  if not entry or type(entry.value) ~= "table" or not entry.value.entries then
    scanner.raise(file, 1, "the table [template] is missing")
  end
  local handlers = {}
  local function take(name)
    handlers[name] = function(v, at)
      job_methods.expect(file, at, "string")
      found[name], found[name .. "_line"] = v, at.line
    end
  end
  for _, name in ipairs { "src", "dest", "prefix", "check_cmd", "reload_cmd" } do take(name) end
  handlers.keys = function(_, at)
    for _, key in ipairs(job_methods.expect(file, at, "table")) do
      found.keys[#found.keys + 1] = tostring(key)
    end
  end
  handlers.mode = function(_, at)
    found.options[#found.options + 1] = mode_option(job, file, at)
  end
  for _, name in ipairs { "uid", "gid" } do
    handlers[name] = function(_, at) found[name] = job_methods.expect(file, at, "number") end
  end
  handlers.owner = "is not carried over: confd has uid and gid; in reload.lua write "
    .. "owner = \"user:group\""
  handlers.group = handlers.owner
  for _, e in ipairs(root.entries) do
    if e.name ~= "template" then
      job:note(file, e.line, "[" .. e.name .. "]",
        "is not carried over: it is no known table of confd")
    end
  end
  job:walk(file, entry.value, "confd", handlers)
  for _, name in ipairs { "src", "dest" } do
    if not found[name] or found[name] == "" then
      scanner.raise(file, found.line, name .. " is missing in [template]")
    end
  end
  return found
end

local function owner_option(job, file, r)
  if not r.uid and not r.gid then return end
  if not r.uid then
    job:note(file, r.line, "gid = " .. r.gid,
      "is carried over with the user root: confd keeps the user that it runs as")
  end
  return ("owner = %q"):format((r.uid or "root") .. (r.gid and ":" .. r.gid or ""))
end

local function add_module(job, p, file, main, r)
  local path = job.folder .. "/templates/" .. r.src
  local template = job:read(path)
  job:note_functions(template, "confd", path, 1)
  local options = { 'functions = "confd"' }
  for _, option in ipairs(r.options) do options[#options + 1] = option end
  options[#options + 1] = owner_option(job, file, r)
  local module = { name = job_methods.module_name(p.modules, file), from = file,
    files = { { template = job:add("templates/" .. r.src:gsub("^%.*/+", ""), template),
      to = r.dest, options = options } }, fields = {} }
  local prefix = config_path(main.prefix and main.prefix ~= "" and main.prefix or r.prefix or "")
  local function field(text) module.fields[#module.fields + 1] = text end
  if main.prefix and main.prefix ~= "" and r.prefix then
    job:note(file, r.prefix_line, "prefix = " .. job_methods.show(r.prefix),
      "has no effect, as in confd: the prefix of confd.toml replaces it")
  end
  if prefix ~= "" then options[#options + 1] = "keys = " .. policy.quote(prefix) end
  if r.check_cmd and r.check_cmd ~= "" then
    local command = r.check_cmd:gsub("{{%s*%.src%s*}}", "{{.src}}")
    field("check = " .. policy.quote(command))
    if command:gsub("{{%.src}}", ""):match "{{" then
      job:note(file, r.check_cmd_line, "check_cmd", "differs: {{.src}} is the only action that is "
        .. "replaced in a check")
    end
  end
  if r.reload_cmd and r.reload_cmd ~= "" then
    field("apply = " .. policy.quote(r.reload_cmd))
    if r.reload_cmd:match "{{" then
      job:note(file, r.reload_cmd_line, "reload_cmd",
        "differs: nothing is replaced in apply; write the destination in the place of {{.dest}}")
    end
  end
  if r.dest:sub(1, 1) ~= "/" then
    job:note(file, r.dest_line, "dest = " .. job_methods.show(r.dest),
      "differs: a relative path begins at the folder of reload.lua, not at the current folder")
  end
  p.modules[#p.modules + 1] = module
end

-- Keys of all templates, for the comment in keys.yaml.
local function keys_text(keys)
  local lines = { "# The keys of the templates: the key /a/b is a: { b: ... }. Their prefixes:" }
  for _, key in ipairs(keys) do lines[#lines + 1] = "#   " .. key end
  if #keys == 0 then lines[#lines] = lines[#lines]:gsub(" Their prefixes:$", "") end
  lines[#lines + 1] = "{}"
  return table.concat(lines, "\n") .. "\n"
end

---@param job table
---@return segue.import.policy
return function(job)
  local folder = job.from:gsub("(.)/+$", "%1")
  job.folder = folder
  local main_file = folder .. "/confd.toml"
  local main = read_main(job, main_file)
  local names, message = job.host.list(folder .. "/conf.d")
  if not names then
    error({ file = folder .. "/conf.d", message = message, unreadable = true }, 0)
  end
  table.sort(names)
  local p = { head = { "Written by segue import confd from " .. folder .. "." },
    sources = sources_of(job, main_file, main), triggers = { 'segue.signal "HUP"' }, modules = {} }
  p.triggers[#p.triggers + 1] = "segue.watch()"
  if not main.watch then
    p.triggers[#p.triggers + 1] = ("segue.poll %q"):format(("%ds"):format(main.interval))
  end
  local keys = {}
  for _, name in ipairs(names) do
    if name:match "%.toml$" then
      local file = folder .. "/conf.d/" .. name
      local r = read_resource(job, file)
      add_module(job, p, file, main, r)
      local prefix = "/" .. (main.prefix and main.prefix ~= "" and main.prefix or r.prefix or "")
      for _, key in ipairs(r.keys) do
        keys[#keys + 1] = ((prefix .. "/" .. key):gsub("/+", "/"))
      end
    end
  end
  if #p.modules == 0 then
    error({ file = folder .. "/conf.d", message = "there is no file *.toml in it" }, 0)
  end
  if p.sources[1] == 'segue.file "keys.yaml"' then job:add("keys.yaml", keys_text(keys)) end
  return p
end

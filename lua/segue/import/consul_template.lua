-- SPDX-License-Identifier: MIT
-- consul-template: a configuration file, or a folder of them. Settings and their meaning are those
-- of consul-template 0.42 (config/config.go, config/template.go, config/exec.go).
local hcl = require "segue.import.hcl"
local job_methods = require "segue.import.job"
local policy = require "segue.import.policy"
local scanner = require "segue.import.scanner"

local connection = "is not carried over: it belongs to the connection to the server, and the "
  .. "templates read data.yaml"

local not_fatal = "differs: an error rejects the reload, and the files and the daemon stay"
local killed = "differs: a command that takes too long gets TERM, then KILL, with its group"
local any_function = "is not carried over: every function of the dialect may be called"
local log = "is not carried over: the log goes to standard error, and the service manager keeps it"

-- The objects of a block: { ... } once, or a list of them in JSON.
local function objects_of(file, entry)
  local v = entry.value
  if type(v) == "table" and v.entries then return { v } end
  if type(v) == "table" and v.list then
    for _, item in ipairs(v) do
      if type(item) ~= "table" or not item.entries then
        scanner.raise(file, entry.line, entry.name .. " needs blocks, not "
          .. job_methods.show(item))
      end
    end
    return v
  end
  scanner.raise(file, entry.line, entry.name .. " needs a block, not " .. job_methods.show(v))
end

-- A command: a text, or a list of words. A list of one text is a line for the shell too.
local function command_of(file, entry)
  local v = entry.value
  if type(v) == "string" then return v ~= "" and v or nil end
  if type(v) ~= "table" or not v.list then
    scanner.raise(file, entry.line, entry.name .. " needs a text or a list of texts")
  end
  for _, word in ipairs(v) do
    if type(word) ~= "string" then
      scanner.raise(file, entry.line, entry.name .. " needs a list of texts, not "
        .. job_methods.show(word))
    end
  end
  if #v < 2 then return v[1] end
  local words = {}
  for i, word in ipairs(v) do words[i] = word end
  return words
end

-- A number of seconds or a duration of Go ("1m30s") as one of segue.
local function duration_of(file, entry)
  local v = entry.value
  if type(v) == "number" then return v .. "s" end
  local text, ms = tostring(v), 0
  local units = { h = 3600000, m = 60000, s = 1000, ms = 1 }
  local rest = text:gsub("(%d+%.?%d*)(%a+)", function(n, unit)
    if not units[unit] then return nil end
    ms = ms + tonumber(n) * units[unit]
    return ""
  end)
  if rest ~= "" or text == "" then
    scanner.raise(file, entry.line, entry.name .. " needs a duration such as \"30s\", not "
      .. job_methods.show(v))
  end
  return ms % 1000 == 0 and ms / 1000 .. "s" or ms .. "ms"
end

-- perms = 0644, 420 or "0644"
local function mode_of(file, entry)
  local v = entry.value
  local octal = type(v) == "number" and ("%o"):format(v) or tostring(v):match "^0?([0-7]+)$"
  if not octal or #octal > 4 then
    scanner.raise(file, entry.line, entry.name .. " needs a mode such as 0644, not "
      .. job_methods.show(v))
  end
  return "0" .. octal:gsub("^0+", "")
end

local function read_exec(job, file, t, object)
  job:walk(file, object, "consul-template", {
    command = function(_, entry) t.command = command_of(file, entry) end,
    timeout = function(_, entry) t.timeout = duration_of(file, entry) end,
    env = "is not carried over: set the environment in the command, with env NAME=VALUE COMMAND",
    enabled = function(v) t.disabled = v == false end,
    splay = "is not carried over", reload_signal = "is not carried over",
    kill_signal = killed, kill_timeout = killed,
  })
end

-- A word of a command line in a message, quoted for the shell where it must be.
local function shell_word(word)
  if word:match "^[%w_./=:@%%+,-]+$" then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

-- The command of a child as the words behind `segue exec --`. A text is a line for the shell.
local function exec_words(command)
  if type(command) == "string" then
    return (shell_word(command) == command and "" or "sh -c ") .. shell_word(command)
  end
  local words = {}
  for i, word in ipairs(command) do words[i] = shell_word(word) end
  return table.concat(words, " ")
end

local function read_child_env(job, file, env, lines)
  for _, object in ipairs(objects_of(file, env)) do
    job:walk(file, object, "consul-template", {
      custom = function(v, entry)
        local pairs_of = {}
        for _, text in ipairs(type(v) == "table" and v.list and v or { v }) do
          local name, value = tostring(text):match "^([%a_][%w_]*)=(.*)$"
          if not name then
            scanner.raise(file, entry.line, "custom needs texts such as \"NAME=value\", not "
              .. job_methods.show(text))
          end
          pairs_of[#pairs_of + 1] = name .. " = " .. policy.quote(value)
        end
        if #pairs_of > 0 then
          lines[#lines + 1] = "env = { " .. table.concat(pairs_of, ", ") .. " }"
        end
      end,
      pristine = "is not carried over: the child has the environment of segue, and env_from",
      allowlist = "is not carried over", denylist = "is not carried over",
      whitelist = "is not carried over", blacklist = "is not carried over",
    })
  end
end

-- The child of consul-template is the child of `segue exec`: its options, and a note with the line
-- that starts it.
local function read_child(job, file, p, exec)
  local lines, command, timeout = {}, nil, "30s" -- the limit of consul-template, ours is 10s
  local function signal(name)
    return function(v)
      local text = tostring(v):upper():gsub("^SIG", "")
      if text ~= "" then lines[#lines + 1] = name .. " = " .. policy.quote(text) end
    end
  end
  for _, object in ipairs(objects_of(file, exec)) do
    job:walk(file, object, "consul-template", {
      command = function(_, entry) command = command_of(file, entry) end,
      enabled = function(v) if v == false then command = false end end,
      reload_signal = signal "reload_signal", kill_signal = signal "kill_signal",
      kill_timeout = function(_, entry) timeout = duration_of(file, entry) end,
      splay = function(_, entry)
        local splay = duration_of(file, entry)
        if splay ~= "0s" then lines[#lines + 1] = "splay = " .. policy.quote(splay) end
      end,
      timeout = "is not carried over",
      env = function(_, entry) read_child_env(job, file, entry, lines) end,
    })
  end
  if not command then return end
  table.insert(lines, 1, "kill_timeout = " .. policy.quote(timeout))
  p.exec = lines
  job:note(file, exec.line, "exec", "start it with: segue exec -c reload.lua -- "
    .. exec_words(command))
end

---@return table one template: source, contents, to, options, command, timeout
local function read_template(job, file, object)
  local t = { options = { 'functions = "consul-template"' }, line = object.line, file = file }
  local function option(text) t.options[#t.options + 1] = text end
  local function text(name)
    return function(_, entry)
      t[name], t[name .. "_line"] = job_methods.expect(file, entry, "string"), entry.line
    end
  end
  local user, group
  job:walk(file, object, "consul-template", {
    source = text "source", contents = text "contents", destination = text "to",
    create_dest_dirs = function(v, entry)
      if v == false then
        job:note(file, entry.line, "create_dest_dirs = false", "differs: missing folders are made")
      end
    end,
    command = function(_, entry) t.command = t.command or command_of(file, entry) end,
    command_timeout = function(_, entry) t.timeout = t.timeout or duration_of(file, entry) end,
    exec = function(_, entry)
      for _, o in ipairs(objects_of(file, entry)) do read_exec(job, file, t, o) end
    end,
    perms = function(_, entry) option("mode = " .. policy.quote(mode_of(file, entry))) end,
    backup = function(v) if v == true then option "backups = 1" end end,
    user = function(v) user = tostring(v) end, uid = function(v) user = user or tostring(v) end,
    group = function(v) group = tostring(v) end, gid = function(v) group = group or tostring(v) end,
    left_delimiter = text "left_delimiter", right_delimiter = text "right_delimiter",
    error_on_missing_key = function(v) if v == true then option 'missingkey = "error"' end end,
    error_fatal = not_fatal,
    wait = "is not carried over: changes that come close together are one reload",
    sandbox_path = "is not carried over: the function file reads any path",
    function_denylist = any_function, function_blacklist = any_function,
  })
  if user or group then
    if not user then
      job:note(file, t.line, "group", "is carried over with the user root")
    end
    option(("owner = %q"):format((user or "root") .. (group and ":" .. group or "")))
  end
  if not t.to or t.to == "" then
    scanner.raise(file, t.line, "destination is missing in template")
  end
  if (t.source == nil) == (t.contents == nil) then
    scanner.raise(file, t.line, "template needs source or contents, one of them")
  end
  if t.to:sub(1, 1) ~= "/" then
    job:note(file, t.to_line, "destination = " .. job_methods.show(t.to),
      "differs: a relative path begins at the folder of reload.lua, not at the current folder")
  end
  return t
end

-- A path of the configuration begins at the folder where consul-template was started: here or,
-- often, that of the configuration.
local function read_source(job, file, path)
  if path:sub(1, 1) ~= "/" and not job.host.kind(path) then
    local beside = (file:match "^(.*)/[^/]*$" or ".") .. "/" .. path
    if job.host.kind(beside) then path = beside end
  end
  return job:read(path), path
end

local function same_command(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) ~= "table" then return a == b end
  return table.concat(a, "\0") == table.concat(b, "\0")
end

-- Templates with the same command are one change set: consul-template runs it once for all.
local function add_template(job, p, t, defaults)
  for _, name in ipairs { "left_delimiter", "right_delimiter" } do
    local delimiter = t[name] or defaults[name]
    if delimiter then
      t.options[#t.options + 1] = name .. " = " .. policy.quote(delimiter)
    end
  end
  local name = t.source or t.to:match "([^/]+)$" .. ".tmpl"
  local text, path = t.contents, nil
  if not text then text, path = read_source(job, t.file, t.source) end
  job:note_functions(text, "consul-template", path or t.file, path and 1 or t.contents_line,
    not path, t.left_delimiter or defaults.left_delimiter,
    t.right_delimiter or defaults.right_delimiter)
  local entry = { template = job:add("templates/" .. name:match "([^/]+)$", text), to = t.to,
    options = t.options }
  if t.disabled then t.command = nil end
  for _, module in ipairs(p.modules) do
    if t.command and same_command(module.command, t.command) and module.timeout == t.timeout then
      module.files[#module.files + 1] = entry
      return
    end
  end
  local module = { name = job_methods.module_name(p.modules, t.to),
    from = ("%s:%d"):format(t.file, t.line), files = { entry }, fields = {}, command = t.command,
    timeout = t.timeout }
  if t.command then
    module.fields = { "apply = " .. policy.command(t.command),
      "timeout = " .. policy.quote(t.timeout or "30s") }
  end
  p.modules[#p.modules + 1] = module
end

local function handlers_of(job, file, p, found)
  local handlers = {
    template = function(_, entry)
      for _, object in ipairs(objects_of(file, entry)) do
        found[#found + 1] = read_template(job, file, object)
      end
    end,
    log_level = function(v, entry)
      local level = ({ trace = "debug", err = "error" })[tostring(v):lower()] or tostring(v):lower()
      job:note(file, entry.line, "log_level",
        "start the daemon with: segue run --log-level " .. level)
    end,
    reload_signal = function(v, entry)
      local signal = tostring(v):gsub("^SIG", "")
      if signal == "" then return end
      p.triggers[1] = "segue.signal " .. policy.quote(signal)
      job:note(file, entry.line, "reload_signal", "the signal requests a reload; it reads the "
        .. "policy again too")
    end,
    exec = function(_, entry) read_child(job, file, p, entry) end,
    kill_signal = "differs: TERM and INT stop the daemon",
    dump_signal = "is not carried over",
    pid_file = "is not carried over: the service manager knows the process",
    syslog = log, log_file = log,
    wait = "is not carried over: changes that come close together are one reload",
    deduplicate = "is not carried over: every daemon renders for itself",
    telemetry = "is not carried over: with the trigger segue.http, /metrics has the metrics",
    once = "is not carried over: segue run serves until it is stopped",
    parse_only = "is not carried over: segue check reads the policy and stops",
    default_left_delimiter = function(v) found.left_delimiter = tostring(v) end,
    default_right_delimiter = function(v) found.right_delimiter = tostring(v) end,
    err_on_failed_lookup = "is not carried over", template_error_fatal = not_fatal,
  }
  for _, name in ipairs { "consul", "vault", "nomad", "token", "auth", "ssl", "retry", "max_stale",
    "block_query_wait", "vault_agent_token_file", "renew_token", "unwrap_token" } do
    handlers[name] = connection
  end
  return handlers
end

---@param job table
---@return segue.import.policy
return function(job)
  local files = { job.from }
  if job.host.kind(job.from) == "folder" then
    local names, message = job.host.list(job.from)
    if not names then error({ file = job.from, message = message, unreadable = true }, 0) end
    table.sort(names)
    files = {}
    for _, name in ipairs(names) do
      if name:match "%.hcl$" or name:match "%.json$" then
        files[#files + 1] = job.from:gsub("/+$", "") .. "/" .. name
      end
    end
    if #files == 0 then
      error({ file = job.from, message = "there is no file *.hcl or *.json in it" }, 0)
    end
  end
  local p = { head = { "Written by segue import consul-template from " .. job.from .. "." },
    sources = { 'segue.file "data.yaml"' },
    triggers = { 'segue.signal "HUP"', "segue.watch()" }, modules = {} }
  local found = {}
  for _, file in ipairs(files) do
    job:walk(file, hcl(job:read(file), file), "consul-template", handlers_of(job, file, p, found))
  end
  if #found == 0 then error({ file = job.from, message = "there is no template in it" }, 0) end
  for _, t in ipairs(found) do add_template(job, p, t, found) end
  job:add("data.yaml", '# The data of the templates: key "a/b" is a: { b: ... }, service "x" is\n'
    .. "# services: { x: [{ ID: ..., Address: ..., Port: ... }] }.\n{}\n")
  return p
end

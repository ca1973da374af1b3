-- SPDX-License-Identifier: MIT
-- Replays a recorded incident: each reload that `segue record` saw runs again at its instant, by
-- its trigger, with the recorded files and the recorded answers of commands, requests, look-ups
-- and files, and its result is compared with the recorded one. A request without a recorded answer
-- is reported by name: commands succeed and requests are answered 200, unless the spec provides
-- another answer.
local core = require "segue.testing.core"
local recorded_answers = require "segue.testing.recorded"

local bytes, name_of = recorded_answers.bytes, recorded_answers.name_of

local M = {}

---@class segue.ReplayStep
---@field at number seconds since 1970
---@field trigger string
---@field cause string
---@field recorded table the recorded result: outcome, errors, changes, plan
---@field replayed segue.TestResult the result of the replay
---@field differences { what: string, recorded: string, replayed: string }[]

---@class segue.Replay
---@field policy string
---@field steps segue.ReplayStep[]
---@field differences integer how many steps were decided otherwise
---@field commands integer that were answered with success, for lack of a record
---@field requests integer
---@field signals integer
---@field missing { what: string, count: integer, why: string }[] requests without a recorded answer
---@field left_out integer answers that found no room in the recording

local function read_all(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, ("cannot read the recording: %s"):format(why) end
  local text = file:read("*a")
  file:close()
  return text
end

-- The lines of a recording; the last one may have been cut short.
local function parse(path)
  local text, why = read_all(path)
  if not text then return nil, why end
  local entries, number = {}, 0
  for line, ended in text:gmatch("([^\n]*)(\n?)") do
    number = number + 1
    if line ~= "" then
      local entry, wrong = core.json(line)
      if not entry and ended == "" then break end
      if not entry then
        return nil, ("%s:%d: no line of a recording: %s"):format(path, number, wrong)
      end
      entries[#entries + 1] = entry
    end
  end
  local head = table.remove(entries, 1)
  if type(head) ~= "table" or head.segue_recording ~= 1 then
    return nil, path .. " is not a recording of this version: segue record writes one"
  end
  return head, entries
end

-- Paths are recorded as the daemon used them: relative to the folder that it was started in.
local function full(head, path)
  if path:sub(1, 1) == "/" or type(head.cwd) ~= "string" then return path end
  return head.cwd .. "/" .. path
end

local content_types = { yaml = "application/yaml", json = "application/json", text = "text/plain" }

-- The files of a generation hold the cached delivery of a source on a network.
local function delivered(text)
  local body, format = core.delivery(text)
  return { body = body or "", headers = format and { ["Content-Type"] = content_types[format] } }
end

local function set_files(t, head, files, policy_text, sources)
  for path, content in pairs(files or {}) do
    local source = path:match("^source:(.*)$")
    path = full(head, path)
    if source then
      sources[source] = delivered(bytes(content))
    else
      t:file(path, path == head.policy and policy_text or bytes(content))
    end
  end
end

local function is_of_the_world(err)
  return type(err.file) == "string" and type(err.code) == "string" and err.code:find("^E%u") ~= nil
end

-- Files that could not be read then cannot be read now.
local function set_failures(t, head, entry, down)
  for name in pairs(down) do down[name] = nil end
  for _, err in ipairs(entry.errors or {}) do
    if type(err.source) == "string" and err.source ~= "" then down[err.source] = err end
    if is_of_the_world(err) then t:fail(full(head, err.file), err.code) end
  end
end

local function texts(list, show)
  local lines = {}
  for i, item in ipairs(type(list) == "table" and list or {}) do lines[i] = show(item) end
  return table.concat(lines, "; ")
end

local function field(value)
  return (value == nil or value == core.null) and "" or tostring(value)
end

-- An error of a file that cannot be read has another text in a replay, and so has a path that was
-- relative. A hook that is late is ended by one of two timers, a millisecond apart, each with its
-- own text: on a busy machine either may be first, so the code is compared.
local function error_text(head, err)
  if err.code == "SEGUE_ETIMEOUT" then return err.code end
  if is_of_the_world(err) then return err.code .. " " .. full(head, err.file) end
  local message = field(err.message):gsub(" %(after [%d.]+ s", " (after some time")
  if type(head.cwd) ~= "string" then return message end
  return (message:gsub(head.cwd:gsub("%p", "%%%0") .. "/", ""))
end

local views = {
  { "outcome", function(r)
    if r.deferred == true then return "deferred" end
    return r.skipped == true and "skipped" or field(r.outcome)
  end },
  { "errors", function(r, head)
    return texts(r.errors, function(e) return error_text(head, e) end)
  end },
  { "changes", function(r)
    return texts(r.changes, function(c) return field(c.op) .. " " .. field(c.path) end)
  end },
  { "files", function(r)
    return texts(r.files, function(file)
      local after = type(file.after) == "table" and file.after
      return field(file.path) .. " " .. (after and after.mode .. " " .. after.hash or "removed")
    end)
  end },
  { "plan", function(r)
    return texts(r.plan or r.steps, function(s)
      return field(s.action) .. " " .. field(s.module)
    end)
  end },
}

local function compare(head, recorded, replayed)
  local found = {}
  for _, view in ipairs(views) do
    local is_recorded = view[1] ~= "files" or recorded.files
    local before, now = view[2](recorded, head), view[2](replayed, head)
    if is_recorded and before ~= now then
      found[#found + 1] = { what = view[1], recorded = before, replayed = now }
    end
  end
  return found
end

local function fire(t, entry)
  local before = #t:results()
  local ok, id = pcall(t.core.fire, t.core, entry.trigger, entry.cause, entry.forced == true)
  if not ok then -- rehearsals lack this trigger: requests the reload manually
    id = t.core:fire("control", entry.cause, entry.forced == true)
  end
  local answered, code, result = t.core:await(id, 3600000)
  if result then return result end
  local last = t:results(before + 1)
  if code == "SEGUE_EDEFERRED" and last[#last] and last[#last].deferred then return last[#last] end
  return { outcome = answered and code == "SEGUE_EDEFERRED" and "deferred" or "unanswered",
    errors = {}, changes = {}, plan = {}, trigger = entry.trigger, cause = entry.cause }
end

local function step(t, head, entry, policy_text, world)
  local wait_ms = entry.started_ms - t:now() * 1000
  world.recorded:step(entry)
  if wait_ms > 0 then t.core:advance(math.floor(wait_ms)) end
  for name, value in pairs(entry.env or {}) do t:env(name, value) end
  set_files(t, head, entry.inputs, policy_text, world.sources)
  set_failures(t, head, entry, world.down)
  local replayed = fire(t, entry)
  return { at = entry.started_ms / 1000, trigger = entry.trigger, cause = entry.cause,
    recorded = entry, replayed = replayed, differences = compare(head, entry, replayed) }
end

--- Replays a recording. policy: the path of another policy to run; nil: the recorded one. more:
--- functions as t:on_run, t:on_fetch, t:on_signal, t:on_resolve and t:on_connect take them.
---@param path string
---@param policy? string
---@param more? { run?: function, fetch?: function, signal?: function, resolve?: function,
---  connect?: function }
---@return segue.Replay? replay
---@return string? why
function M.replay(path, policy, more)
  local testing = require "segue.testing"
  local head, entries = parse(path)
  if not head then return nil, entries end
  local policy_text, why
  if policy then
    policy_text, why = read_all(policy)
    if not policy_text then return nil, why end
  end
  local first = head.started_ms
  local t = testing.policy(head.policy, { now = first / 1000 })
  local report = { policy = policy or head.policy, steps = {}, differences = 0, commands = 0,
    requests = 0, signals = 0, missing = {}, left_out = 0 }
  t:on_run(function() report.commands = report.commands + 1 return true end)
  t:on_fetch(function() report.requests = report.requests + 1 return true end)
  t:on_signal(function() report.signals = report.signals + 1 return true end)
  local sources = {}
  local world = { sources = sources, down = {},
    recorded = recorded_answers.new(t, entries, report, sources, more or {}) }
  t:on_fetch(function(request)
    local name = name_of(request.url)
    local err = world.sources[name] and world.down[name]
    if err then return { error = err.code, message = err.message } end
    return world.sources[name]
  end)
  t:on_resolve(function(_, kind) return kind and {} or { "127.0.0.1" } end)
  t:on_connect(function() return { error = "ECONNREFUSED" } end)
  t.handlers.recall = { function(request) return world.recorded:recall(request) end }
  for kind, fn in pairs(more or {}) do t["on_" .. kind](t, fn) end
  for name, value in pairs(head.env or {}) do t:env(name, value) end
  t.core:seal()
  if policy_text then t:file(head.policy, policy_text) end
  set_files(t, head, head.inputs, policy_text, world.sources)
  if head.inputs then t:start() end
  t.started = true
  world.recorded:started()
  for _, entry in ipairs(entries) do
    local one = step(t, head, entry, policy_text, world)
    report.steps[#report.steps + 1] = one
    if #one.differences > 0 then report.differences = report.differences + 1 end
  end
  t:close()
  return report
end

-- ---- As text and JSON ----

local function stamp(seconds)
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(seconds))
end

local function text(report)
  local lines = {}
  for _, one in ipairs(report.steps) do
    local same = #one.differences == 0
    lines[#lines + 1] = ("%s %s  %-10s %s"):format(same and " " or "!", stamp(one.at),
      views[1][2](one.replayed), one.cause)
    for _, difference in ipairs(one.differences) do
      lines[#lines + 1] = ("    %s: - %s"):format(difference.what, difference.recorded)
      lines[#lines + 1] = ("    %s  + %s"):format((" "):rep(#difference.what), difference.replayed)
    end
  end
  lines[#lines + 1] = ("%d reload%s, %d decided otherwise"):format(#report.steps,
    #report.steps == 1 and "" or "s", report.differences)
  for _, one in ipairs(report.missing) do
    lines[#lines + 1] = ("%s %s%s"):format(one.what, one.why,
      one.count > 1 and (" (%d times)"):format(one.count) or "")
  end
  if report.left_out > 0 then
    lines[#lines + 1] = ("%d answers found no room in the recording"):format(report.left_out)
  end
  if report.commands + report.requests + report.signals > 0 then
    lines[#lines + 1] = ("%d commands, %d requests and %d signals without a recorded answer were "
      .. "answered with success"):format(report.commands, report.requests, report.signals)
  end
  return table.concat(lines, "\n") .. "\n"
end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r" }

local function quoted(s)
  return '"' .. tostring(s):gsub('[%c"\\]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local function json(report)
  local steps = {}
  for i, one in ipairs(report.steps) do
    local found = {}
    for j, d in ipairs(one.differences) do
      found[j] = ('{"what":%s,"recorded":%s,"replayed":%s}'):format(quoted(d.what),
        quoted(d.recorded), quoted(d.replayed))
    end
    steps[i] = ('{"at":%.3f,"trigger":%s,"cause":%s,"recorded":%s,"replayed":%s,'
      .. '"differences":[%s]}'):format(one.at, quoted(one.trigger), quoted(one.cause),
      quoted(views[1][2](one.recorded)), quoted(views[1][2](one.replayed)),
      table.concat(found, ","))
  end
  local missing = {}
  for i, one in ipairs(report.missing) do
    missing[i] = ('{"what":%s,"why":%s,"count":%d}'):format(quoted(one.what), quoted(one.why),
      one.count)
  end
  return ('{"policy":%s,"differences":%d,"commands":%d,"requests":%d,"signals":%d,'
    .. '"left_out":%d,"missing":[%s],"steps":[%s]}\n'):format(quoted(report.policy),
    report.differences, report.commands, report.requests, report.signals, report.left_out,
    table.concat(missing, ","), table.concat(steps, ","))
end

--- `segue test --replay`: prints what differs; 0, or 1 if something does; nil and why not.
function M.main(path, as_json)
  local report, why = M.replay(path, core.policy)
  if not report then return nil, why end
  io.write((as_json and json or text)(report))
  return report.differences == 0 and 0 or 1
end

return M

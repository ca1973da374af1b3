-- SPDX-License-Identifier: MIT
-- `segue import`: reads a configuration of another program, and writes a reload.lua, its templates
-- and a report.
local jobs = require "segue.import.job"
local policy = require "segue.import.policy"

local kinds = { confd = "segue.import.confd",
  ["consul-template"] = "segue.import.consul_template" }

-- As segue__import_verdict.
local DONE, REJECTED, FAILED = 0, 1, 2

-- The notes in the order in which their files were read, then by line, then as they were found.
local function sorted(notes)
  local rank = {}
  for i, note in ipairs(notes) do rank[note.file] = rank[note.file] or i end
  table.sort(notes, function(a, b)
    if a.file ~= b.file then return rank[a.file] < rank[b.file] end
    if a.line ~= b.line then return (a.line or 0) < (b.line or 0) end
    return a.number < b.number
  end)
  return notes
end

local function report_text(folder, written, notes)
  local lines = {}
  for _, path in ipairs(written) do lines[#lines + 1] = "wrote " .. path end
  if #notes > 0 then lines[#lines + 1] = "" end
  for _, note in ipairs(notes) do
    local place = note.file .. (note.line and ":" .. note.line or "")
    lines[#lines + 1] = ("%s: %s: %s"):format(place, note.setting, note.message)
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = "next: segue check" .. (folder == "." and "" or " -c " .. folder)
  return table.concat(lines, "\n") .. "\n"
end

local function report_json(quote, written, notes)
  local function texts(list, show)
    local items = {}
    for i, item in ipairs(list) do items[i] = show(item) end
    return "[" .. table.concat(items, ",") .. "]"
  end
  return ('{"written":%s,"notes":%s}\n'):format(texts(written, quote),
    texts(notes, function(note)
      return ('{"file":%s,"line":%s,"setting":%s,"message":%s}'):format(quote(note.file),
        note.line or "null", quote(note.setting), quote(note.message))
    end))
end

-- Writes everything or nothing: a file that exists is found before the first one is written.
local function write_all(job, folder)
  local written = {}
  local function place(file) return folder == "." and file.path or folder .. "/" .. file.path end
  for _, file in ipairs(job.files) do
    if job.host.kind(place(file)) then
      error({ file = place(file), unreadable = true,
        message = "it exists already: segue import never overwrites a file" }, 0)
    end
  end
  for _, file in ipairs(job.files) do
    local ok, message = job.host.write(place(file), file.text)
    if not ok then
      for _, path in ipairs(written) do job.host.remove(path) end
      error({ file = place(file), message = message, unreadable = true }, 0)
    end
    written[#written + 1] = place(file)
  end
  return written
end

---@param host segue.import.host
---@param kind string "confd"
---@param from string
---@param folder string of the policy
---@param as_json boolean
---@return integer verdict
---@return string text the report, or the message of an error
return function(host, kind, from, folder, as_json)
  local job = jobs.new(host, from)
  local ok, written = pcall(function()
    job.taken["reload.lua"] = true
    local p = require(kinds[kind])(job)
    table.insert(job.files, 1, { path = "reload.lua", text = policy.text(p) })
    return write_all(job, folder)
  end)
  if ok then
    local notes = sorted(job.notes)
    if as_json then return DONE, report_json(host.quote, written, notes) end
    return DONE, report_text(folder, written, notes)
  end
  local raised = written
  if type(raised) ~= "table" then error(raised, 0) end
  local place = raised.file .. (raised.line and ":" .. raised.line or "")
  return raised.unreadable and FAILED or REJECTED, place .. ": " .. raised.message
end

-- SPDX-License-Identifier: MIT
-- The answers in a recording: which of them a request of a replayed policy gets. A request is found
-- by its kind and its command, URL or path, and the answers to it come in their recorded order.
-- Requests of tasks have answers of their own: a task may ask at any time, also the same as a hook.
local M = {}
local Recorded = {}
Recorded.__index = Recorded

local handler_of = { ["segue.run"] = "run", ["segue.fetch"] = "fetch",
  ["segue.resolve"] = "resolve", ["segue.connect"] = "connect",
  ["files.command"] = "run", ["files.request"] = "fetch",
  ["files.signal"] = "signal" }

--- A text, or bytes in hex where they are no text.
function M.bytes(content)
  if type(content) == "string" then return content end
  return (content.hex:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

--- The name of a source that is a URL: without user, password and query.
function M.name_of(url)
  local scheme, authority, path = url:match("^(%a+://)([^/?#]*)([^?#]*)")
  return scheme and scheme .. authority:match("[^@]*$") .. path or url
end

local function name_of_request(running, kind, key)
  return ("%s %s %s"):format(running and "reload" or "task", kind, key)
end

local function by_request(answers)
  local queues = {}
  table.sort(answers, function(a, b) return a.number < b.number end)
  for _, answer in ipairs(answers) do
    local name = name_of_request(answer.running, answer.kind, M.bytes(answer.key))
    queues[name] = queues[name] or { at = 0 }
    table.insert(queues[name], answer)
  end
  return queues
end

-- The first load is not in the recording, because the daemon ran already: each request gets the
-- answer that it first got in a reload that went well.
local function answers_of_start(entries)
  local good = {}
  for _, entry in ipairs(entries) do
    if entry.outcome == "applied" or entry.outcome == "unchanged" then
      for _, answer in ipairs(entry.answers or {}) do good[#good + 1] = answer end
    end
  end
  for i, answer in ipairs(good) do answer.number = i end
  return by_request(good)
end

--- sources: names of sources whose deliveries the recording has; more: functions of the spec.
function M.new(t, entries, report, sources, more)
  return setmetatable({ t = t, report = report, sources = sources, more = more, starting = true,
    queues = answers_of_start(entries), missing = {} }, Recorded)
end

--- The first load has ended.
function Recorded:started()
  self.starting, self.queues = false, {}
end

--- The answers of the next recorded reload. They take the place of older ones to the same requests.
function Recorded:step(entry)
  for name, queue in pairs(by_request(entry.answers or {})) do self.queues[name] = queue end
  self.report.left_out = self.report.left_out + (entry.answers_left_out or 0)
end

function Recorded:note(kind, key, why)
  if kind == "segue.fetch" then key = key:gsub("%a+://%S+", M.name_of) end
  local what = kind .. " " .. key
  local one = self.missing[what .. why]
  if not one then
    one = { what = what, count = 0, why = why }
    self.missing[what .. why] = one
    table.insert(self.report.missing, one)
  end
  one.count = one.count + 1
end

-- The next answer, and whether it was given before.
function Recorded:next(name)
  local queue = self.queues[name]
  if not queue then return nil end
  if self.starting then return queue[1], false end
  local again = queue.at == #queue
  if not again then queue.at = queue.at + 1 end
  return queue[queue.at], again
end

--- Returns the recorded answer to a request. nil: the spec's functions, the recorded files or a
--- default answer are used.
function Recorded:recall(request)
  local kind, key = request.kind, request.key
  if self.more[handler_of[kind]] then return nil end
  local url = kind == "segue.fetch" and key:match("%a+://%S+")
  if url and self.sources[M.name_of(url)] then return nil end
  local answer, again = self:next(name_of_request(self.t:running(), kind, key))
  if answer and not answer.left_out then
    if again then self:note(kind, key, "came more often than then: its last answer came again") end
    return answer
  end
  if kind == "segue.read" and self.t.core:read(key) then return nil end
  self:note(kind, key, answer and "has an answer that found no room in the recording"
    or "has no answer in the recording")
end

return M

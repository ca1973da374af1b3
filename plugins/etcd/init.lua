-- SPDX-License-Identifier: MIT
-- segue.etcd: keys of etcd v3 as a source, by its JSON gateway. See README.md for what an operator
-- must know, client.lua for requests and tokens.
local segue = require "segue"
local client = require "segue.plugin.etcd.client"
local remote = require "segue.remote"

local concat, ipairs, pairs, tonumber, type = table.concat, ipairs, pairs, tonumber, type
local gsub, match = string.gsub, string.match

local first_page, least_page, most_restarts = 5000, 10, 5

-- How the space finds the keys in an answer to a range, and in a line of a watch.
local page_format = { list = "kvs", key = "key", value = "value", revision = "mod_revision",
  base64 = { "key", "value" },
  get = { revision = "header.revision", more = "more", count = "count" } }
local line_format = { list = "result.events", key = "kv.key", value = "kv.value",
  revision = "kv.mod_revision", base64 = { "key", "value" }, removed = "type",
  removed_is = "DELETE",
  get = { revision = "result.header.revision", watch = "result.watch_id",
    created = "result.created", canceled = "result.canceled", reason = "result.cancel_reason",
    compacted = "result.compact_revision", fragment = "result.fragment",
    broken = "error.message", status = "error.http_code" } }

-- ---- Ranges -----------------------------------------------------------------------------------

-- The end of the range of all keys that begin with a text: its last byte that is not 255, plus one.
local function range_end(prefix)
  local head = prefix:match "^(.-)\255*$"
  if head == "" then return "\0" end
  return head:sub(1, -2) .. string.char(head:byte(-1) + 1)
end

local function range(key, last)
  return { key = segue.base64.encode(key), last = last and segue.base64.encode(last) }
end

-- The ranges that hold the mounts of the options: a prefix within another one needs none.
local function ranges_of(o)
  local prefixes, ranges = {}, {}
  local function add(list)
    for key, item in pairs(type(list) == "table" and list or { list }) do
      prefixes[#prefixes + 1] = type(key) == "string" and key or item
    end
  end
  add(o.prefix)
  add(o.prefixes)
  table.sort(prefixes)
  local last
  for _, prefix in ipairs(prefixes) do
    if not last or prefix:sub(1, #last) ~= last then
      last = prefix
      ranges[#ranges + 1] = range(prefix == "" and "\0" or prefix, range_end(prefix))
    end
  end
  for _, list in ipairs { o.key or {}, o.keys or {} } do
    for key, item in pairs(type(list) == "table" and list or { list }) do
      ranges[#ranges + 1] = range(type(key) == "string" and key or item)
    end
  end
  if o.commit then ranges[#ranges + 1] = range(o.commit) end
  return ranges
end

local function request(one, more)
  return ('{"key":"%s"%s%s}'):format(one.key, one.last and (',"range_end":"%s"'):format(one.last)
    or "", more)
end

-- ---- Reading ----------------------------------------------------------------------------------

-- Reads one range, page by page, as of revision (nil: now; then returns which one that is).
-- Returns revision, keys; or nil, message, code, pause.
local function read_range(self, all, one, revision)
  local at, count = one.key, 0
  while true do
    local answer, why, code, pause = self.client:ask("/v3/kv/range", request({ key = at,
      last = one.last }, (',"limit":"%d"%s'):format(self.page,
        revision and (',"revision":"%s"'):format(revision) or "")))
    if not answer and code == client.too_large and self.page > least_page then
      self.page = math.floor(self.page / 2)
    elseif not answer then
      return nil, why, code == client.too_large and "SEGUE_ESOURCE" or code, pause
    else
      local read
      read, why, code = all:read(answer.body, page_format)
      if not read then return nil, why, code end
      revision = revision or read.revision
      count = count + read.count
      if not read.more or read.count == 0 then return revision, count end
      at = segue.base64.encode(read.last_key .. "\0")
    end
  end
end

-- All ranges as of one revision. That one may be compacted while the pages are read: begins again.
local function read_all(self)
  for attempt = 1, most_restarts do
    local all, revision, keys = self.space:replace(), nil, 0
    local why, code, pause, got
    for _, one in ipairs(self.ranges) do
      got, why, code, pause = read_range(self, all, one, revision)
      if not got then break end
      revision = got
      keys = keys + why -- the number of keys
    end
    if got then
      local done
      done, why, code = all:done(revision)
      if not done then return nil, why, code end
      self.count, self.reached = keys, {}
      return tostring(revision)
    end
    if code ~= client.compacted then return nil, why, code, pause end
    if attempt == most_restarts then return nil, why, "SEGUE_ESOURCE" end
  end
end

-- Whether nothing has changed since a revision: no key is newer, and as many are there. The count
-- of etcd ignores the filter by revision, so one cheap request answers both.
local function is_current(self, revision)
  local keys = 0
  for i, one in ipairs(self.ranges) do
    local known = math.max(revision, self.reached[i] or 0)
    local answer, why, code, pause = self.client:ask("/v3/kv/range", request(one,
      (',"min_mod_revision":"%d","limit":"1","keys_only":true'):format(known + 1)))
    if not answer then return nil, why, code, pause end
    local got = segue.json.decode(answer.body)
    if type(got) ~= "table" or type(got.header) ~= "table" then
      return nil, self.client:who() .. " answered with something that is no range", "SEGUE_ESOURCE"
    end
    if got.kvs and #got.kvs > 0 or tonumber(got.header.revision) < revision then return false end
    keys = keys + tonumber(got.count or 0)
  end
  return keys == self.count
end

-- The revision that a delivery had: that of the slowest range first, then the newest.
local function oldest(revision)
  return tonumber(match(revision or "", "^%d+"))
end

local function fetch(self, known)
  local held = self.space:ready() and oldest(known)
  if held then
    local same, why, code, pause = is_current(self, held)
    if same then return true, known end
    if same == nil then return nil, why, code, pause end
  end
  local revision, why, code, pause = read_all(self)
  if not revision then return nil, why, code, pause end
  return self.space, revision
end

-- ---- Watching ---------------------------------------------------------------------------------

-- One stream for all ranges. Each watch resumes behind the last revision that it has got itself: a
-- range where much has changed is delivered later than the others after a reconnect.
local function watch_body(self, revision)
  local list = {}
  for i, one in ipairs(self.ranges) do
    self.reached[i] = math.max(self.reached[i] or 0, revision)
    list[i] = ('{"create_request":%s}'):format(request(one, (',"start_revision":"%d"'
      .. ',"watch_id":"%d","progress_notify":true,"fragment":true'):format(self.reached[i] + 1,
      i)))
  end
  return concat(list, "\n")
end

local function reached_of(self)
  local low, high = math.huge, 0
  for _, revision in ipairs(self.reached) do
    low, high = math.min(low, revision), math.max(high, revision)
  end
  return low == high and ("%.0f"):format(low) or ("%.0f:%.0f"):format(low, high)
end

local function number_of_matches(line, pattern)
  local _, n = gsub(line, pattern, "")
  return n
end

-- A watch that the server refuses, or cancels later. Always status 200: the reason is a text.
local function canceled(self, got)
  local reason, who = got.reason or "no reason is given", self.client:who()
  if got.compacted and tonumber(got.compacted) > 0 then
    return nil, who .. " has compacted the revisions that the watch needs", "SEGUE_EGONE"
  elseif reason:find("PermissionDenied", 1, true) or reason:find("permission denied", 1, true) then
    return nil, ("%s does not allow the watch: %s"):format(who, self.client:grant()),
      "SEGUE_EDENIED"
  elseif reason:lower():find("auth", 1, true) then
    self.client:forget_token()
    return nil, ("%s does not accept the token: %s"):format(who, reason), "SEGUE_EDENIED"
  end
  return nil, ("%s has ended the watch: %s"):format(who, reason), "SEGUE_ESOURCE"
end

-- One line of the stream. Returns true; or nil, message, code.
local function take(self, line, emit)
  local got, why, code = self.space:read(line, line_format)
  if not got then return nil, why, code end
  if got.broken then
    self.client:bad()
    return nil, ("%s has ended the watch: %s"):format(self.client:who(), got.broken),
      "SEGUE_ESOURCE"
  end
  if got.canceled then return canceled(self, got) end
  local index, at = tonumber(got.watch or 0), tonumber(got.revision or 0)
  if got.created then
    -- A store that was emptied or restored has the same ids as before, and a watch from a revision
    -- that it has not reached is silent for ever.
    if at >= self.reached[index] then return true end
    return nil, ("%s is at revision %.0f, and was at %.0f: it was restored or emptied")
      :format(self.client:who(), at, self.reached[index]), "SEGUE_EGONE"
  end
  if got.count == 0 then -- progress: this watch has everything up to there
    self.reached[index] = math.max(self.reached[index], at)
    emit(true, reached_of(self))
    return true
  end
  self.count = self.count + number_of_matches(line, '"version"%s*:%s*"1"')
    - number_of_matches(line, '"type"%s*:%s*"DELETE"')
  if got.fragment then return true end -- the rest of the revision is in the next lines
  -- Not the revision of the header: that of a late answer is newer than its events.
  local last = tonumber(match(line, '.*"mod_revision"%s*:%s*"(%d+)"'))
  self.reached[index] = math.max(self.reached[index], last)
  emit(self.space, reached_of(self))
  return true
end

local function watch(self, known, emit)
  local revision = self.space:ready() and oldest(known)
  if not revision then
    local read, why, code, pause = read_all(self)
    if not read then return nil, why, code, pause end
    emit(self.space, read)
    revision = tonumber(read)
  end
  local answer, why, code, pause = self.client:ask("/v3/watch", watch_body(self, revision), true)
  if not answer then return nil, why, code, pause end
  for line in answer:lines() do
    if line ~= "" then
      local good
      good, why, code = take(self, line, emit)
      if not good then
        answer:close()
        return nil, why, code
      end
    end
  end
  if answer.message then
    self.client:bad()
    return nil, answer.message, answer.code
  end
  return nil, self.client:who() .. " has ended the watch: it has lost its leader, or a proxy "
    .. "limits the time of a request", "SEGUE_EENDED"
end

-- ---- The constructor --------------------------------------------------------------------------

local space_keys = { "prefix", "prefixes", "key", "keys", "at", "separator", "values", "suffix",
  "value_key", "lists", "binary", "include", "exclude", "commit", "max_keys", "max_bytes" }
local client_keys = { "endpoints", "user", "password", "tls", "timeout", "silence" }

--- Keys of etcd: options of segue.keys, of the client (endpoints, user, password, tls, timeout) and
--- of segue.source.
---@param options table
---@return segue.Source
return function(options)
  if type(options) ~= "table" then error("segue.etcd needs a table of options", 2) end
  local source, space, its_client = {}, {}, {}
  for key, value in pairs(options) do source[key] = value end
  for _, name in ipairs(space_keys) do space[name], source[name] = source[name], nil end
  for _, name in ipairs(client_keys) do its_client[name], source[name] = source[name], nil end
  remote.check_endpoints("segue.etcd: endpoints", its_client.endpoints)
  if (its_client.user == nil) ~= (its_client.password == nil) then
    error("segue.etcd: user and password belong together", 2)
  end
  if its_client.password then
    remote.check_credential("segue.etcd: password", its_client.password)
  end
  source.name = source.name or "etcd"
  source.guard = source.guard or { min_items = 1 }
  local self = { space = segue.keys(space), ranges = ranges_of(space), page = first_page,
    client = client.new(source.name, its_client), reached = {}, count = 0 }
  function source.fetch(spec) return fetch(self, spec.revision) end
  function source.watch(spec, emit) return watch(self, spec.revision, emit) end
  -- Several ranges have several watches: the events of one transaction come one after the other.
  if source.debounce == nil then source.debounce = #self.ranges > 1 and "5ms" or 0 end
  if source.resumes == nil then source.resumes = true end
  return segue.source(source)
end

-- SPDX-License-Identifier: MIT
-- A host whose module is reached by HTTP (spec/embed/ingress.c), started on a policy and asked:
--   setup(front.build); after_each(front.cleanup); teardown(front.remove)
--   local f = front.start { module = 'listen = "http://127.0.0.1:@AT@"' }
--   f:get("/"); f:config(2); f:reload()
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = { WITHIN_MS = 60000 } -- also under a sanitizer on a busy machine
local Front = {}
Front.__index = Front
local program, built, running

--- library: that is linked instead of the static one.
function M.build(library)
  built = tempdir.new()
  program = built:at("host")
  plugin.static_host(program, "spec/embed/ingress.c", library or plugin.whole_library)
end

M.remove = tempdir.remove_all

--- Ends the host, which must do so in good order.
function M.cleanup()
  http.close_all()
  local f = running
  running = nil
  if f and f.host:running() then
    f.host:kill("usr1") -- who never answers keeps what it has
    f.host:kill("term")
    local code = f.host:wait_exit(M.WITHIN_MS)
    if code ~= 0 then error(f.host:describe(), 0) end
  end
  process.stop_all()
end

--- Writes the policy again: module: keys of the service; top: of the policy; others: modules;
--- replace; config: more of it. @AT@ is the port of the service, @DIR@ its folder.
function Front:policy(options)
  for key, value in pairs(options) do self.options[key] = value end
  local o = self.options
  return self.dir:write("reload.lua", (([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.http "127.0.0.1:%d", segue.signal("USR2", "reopen") }, %s
  modules = {
    service = { kind = "c", plugin = "service", replace = "%s", %s },
    %s
  },
}
]]):format(self.admin, o.top, o.replace, o.module, o.others):gsub("@AT@", self.at)))
end

function Front:config(value, more)
  self.dir:write("a.yaml", ("a: %d\nexclusive: %s\n%s"):format(value,
    tostring(self.options.replace == "restart"), (more or self.options.config):gsub("@DIR@",
      self.dir.path)))
end

--- dir: of files that are there already; wrap: words before the program; env: more variables.
function M.start(options)
  local self = setmetatable({ at = port.free(), admin = port.free(),
    dir = options.dir or tempdir.new(), options = { top = "", others = "", config = "",
      replace = "handover",
      module = 'listen = "http://127.0.0.1:@AT@"' } }, Front)
  local path = self:policy(options)
  self:config(1)
  self:boot(path, options.wrap, options.env)
  return self
end

function Front:boot(path, wrap, env)
  local command = { env = env }
  for _, word in ipairs(wrap or {}) do command[#command + 1] = word end
  for _, word in ipairs { program, path or self.dir:at("reload.lua"), self.dir:at("lock") } do
    command[#command + 1] = word
  end
  self.host = process.start(command)
  running = self
  self.host:wait_output("started ok", M.WITHIN_MS)
end

--- Requests a reload; the answer must have this status.
function Front:reload(status)
  local answer = http.request { port = self.admin, method = "POST", path = "/-/reload",
    deadline_ms = M.WITHIN_MS }
  if answer.status ~= (status or 200) then error(answer.body .. self.host.output, 2) end
  return answer
end

function Front:get(path, more)
  local request = { port = self.at, path = path, deadline_ms = M.WITHIN_MS }
  for key, value in pairs(more or {}) do request[key] = value end
  return http.request(request)
end

function Front:ask(path)
  return http.request({ port = self.admin, path = path, deadline_ms = M.WITHIN_MS }).body
end

--- The value of a metric of /metrics, by its name with labels; nil if there is none.
function Front:metric(name)
  return tonumber((self:ask("/metrics"):match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)\n")))
end

function Front:until_metric(name, value)
  wait.until_true(function() return self:metric(name) == value end, M.WITHIN_MS,
    name .. " to be " .. value)
end

function Front:port_metric(name, more)
  return ('%s{address="127.0.0.1:%d"%s}'):format(name, self.at, more or "")
end

--- A host whose gate is shut by a restart that waits for one request: self:open() ends it.
function M.shut(buffer, more)
  local self = M.start { replace = "restart", top = more and more.top or "",
    module = ('listen = "http://127.0.0.1:@AT@", drain = "60s", buffer = { %s }, %s'):format(buffer,
      more and more.module or "") }
  self.holder = http.connect { port = self.at }
  self.holder:write(http.format { port = self.at, path = "/hold" })
  self:until_metric('segue_gate_inside{module="service"}', 1)
  self:config(2)
  self.waiter = http.connect { port = self.admin }
  self.waiter:write(http.format { port = self.admin, method = "POST", path = "/-/reload" })
  self:until_metric('segue_gate_open{module="service"}', 0)
  return self
end

function Front:open()
  self.host:kill("usr1")
  local status = self.waiter:read_response(M.WITHIN_MS).status
  if status ~= 200 then error(self.host.output, 2) end
  assert(self.holder:read_response(M.WITHIN_MS).body == "released\n")
end

--- Clients that ask again and again, each on one connection, until it ends: the numbers of sent,
--- answered and ended requests, and errors. check(answer) returns the error of one answer.
function Front:load(count, check)
  local load = { sent = 0, answered = 0, ended = 0, wrong = {} }
  local function client(number)
    local connection, input, sequence = uv.new_tcp(), "", 0
    local function send()
      sequence = sequence + 1
      load.sent = load.sent + 1
      connection:write(http.format { port = self.at, headers = { ["X-Number"] = number .. "."
        .. sequence }, path = sequence % 3 == 0 and "/later" or "/now" })
    end
    connection:connect("127.0.0.1", self.at, function(err)
      assert(not err, err)
      connection:read_start(function(_, data)
        if not data then
          if input ~= "" then load.wrong[#load.wrong + 1] = "half an answer: " .. input end
          load.ended = load.ended + 1
          connection:close()
          return
        end
        input = input .. data
        local answer, rest = http.parse(input)
        if not answer then return end
        input = rest
        load.answered = load.answered + 1
        local wrong = answer.status == 200
          and answer.headers["x-number"] ~= number .. "." .. sequence and "out of order"
          or check(answer)
        if wrong then load.wrong[#load.wrong + 1] = wrong .. ": " .. answer.head end
        if answer.headers.connection ~= "close" then send() end
      end)
      send()
    end)
  end
  for number = 1, count do client(number) end
  return load
end

return M

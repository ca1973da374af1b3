-- SPDX-License-Identifier: MIT
-- The log that the modules of a program share, from Lua:
--   local log = require "segue.log"
--   log.info("cache warmed", { entries = 4096 })
-- It is the log module of the policy (plugin = "log"), the instance that is live at that moment;
-- segue.log, in contrast, is the log of the daemon. No function here waits: a line that finds no
-- room in a full queue is dropped and counted, and the result reports that.
local core = require "segue.core"

local M = {}
local messages = {
  SEGUE_EMODULE = "no module of the policy offers a log: add log = { kind = \"c\", "
    .. "plugin = \"log\" }",
  SEGUE_ELIMIT = "the log is full: the line was dropped, and counted",
}

for level, name in pairs { [0] = "error", "warn", "info", "debug" } do
  --- Writes a line, with up to eight fields in the order of their keys. Returns true if the line
  --- will be written, false if its level is off; nil, message, code if the line is lost.
  ---@param message string
  ---@param fields? table<string, any>
  ---@return boolean? written
  ---@return string? message
  ---@return string? code
  M[name] = function(message, fields)
    if type(message) ~= "string" then
      error(("segue.log: %s: the message must be a text, not a %s"):format(name, type(message)), 2)
    end
    if fields ~= nil and type(fields) ~= "table" then
      error(("segue.log: %s: fields must be a table, not a %s"):format(name, type(fields)), 2)
    end
    local accepted, code = core.write_line(level, message, fields)
    if accepted < 0 then
      return nil, messages[code] or "the line could not be written", code
    end
    return accepted > 0
  end
end

return M

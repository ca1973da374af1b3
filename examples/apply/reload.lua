-- SPDX-License-Identifier: MIT
-- Asks a server that reads its own configuration whether it accepts the next one, then makes it
-- load that one. If it cannot, it gets the previous one again and the reload is undone.
local segue = require "segue"

-- The input of the server: one "key value" line for each setting, in the order of the keys.
local function text_of(config)
  local lines = {}
  for key, value in pairs(config) do
    lines[#lines + 1] = ("%s %s\n"):format(key, tostring(value))
  end
  table.sort(lines)
  return table.concat(lines)
end

-- A command that cannot be started and one that fails are the same trouble here.
local function server(command, config)
  local result, message = segue.run { "./server", command, stdin = text_of(config),
    timeout = "10s" }
  if not result then return nil, message end
  return result.ok, result.message
end

-- The server outlives segue. After a restart of segue it has this configuration already if nothing
-- has changed; its file is compared too, because segue may have been killed in the middle of a
-- reload that the server had applied.
local function server_has(txn)
  return txn.trigger == "start" and txn.prev and #txn:changed() == 0
    and segue.read "live.conf" == text_of(txn.next)
end

return {
  name = "apply",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.watch() },

  reload = function(txn)
    txn:prepare()
    local good, why = server("check", txn.next) -- as `nginx -t` would
    if not good then return nil, why end -- rejected

    txn:commit()
    if server_has(txn) then return txn:confirm() end
    local applied
    applied, why = server("apply", txn.next) -- as `nginx -s reload` would
    if not applied then
      if txn.prev then server("apply", txn.prev) end
      return nil, why -- what was committed is undone
    end
    txn:confirm()
  end,
}

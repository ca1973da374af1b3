-- SPDX-License-Identifier: MIT
-- A sidecar like configmap-reload: when the mounted volume changes, it calls a webhook, up to five
-- times until the answer is 200. If it never is, the reload is undone and reported. The next change
-- of the volume, or segue reload --force, calls the webhook again.
local segue = require "segue"

local volume = os.getenv "VOLUME_DIR" or "volume"
local webhook = os.getenv "WEBHOOK_URL" or "http://127.0.0.1:8080/-/reload"
local tries = 5

local function call_webhook()
  local message
  for try = 1, tries do
    local answer, why = segue.fetch { url = webhook, method = "POST", timeout = "5s" }
    if answer and answer.status == 200 then return true end
    message = answer and ("%s answered %d: %s"):format(webhook, answer.status, answer.body) or why
    if try < tries then segue.sleep(2 ^ try / 10) end
  end
  return nil, message
end

return {
  name = "configmap",
  sources = { segue.dir { volume .. "/*", by = "file", format = "text" } },
  triggers = { segue.watch(), segue.signal "HUP", segue.http "127.0.0.1:7377" },

  reload = function(txn)
    txn:prepare()
    txn:commit()
    -- The server has read the volume itself when it started. A change that was made while this
    -- daemon was stopped is one of txn:changed().
    if txn.trigger ~= "start" or (txn.prev and #txn:changed() > 0) then
      local ok, why = call_webhook()
      if not ok then return nil, why end
    end
    txn:confirm()
  end,
}

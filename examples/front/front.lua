-- SPDX-License-Identifier: MIT
-- Answers HTTP. Change this file, pages.lua or config.yaml while it runs: a request is answered by
-- one generation, code and configuration, from start to end.
local segue = require "segue"
local pages = require "pages"

local config

return {
  start = function(slice)
    config = slice
    if not config.greeting then error("front.greeting is missing", 0) end
  end,

  handle = function(request)
    if request.path == "/" then
      return 200, pages.greeting(config.greeting, request:parameter "name")
    elseif request.path == "/upstream" then -- waits, without a delay for other requests
      local answer, why = segue.fetch { url = config.upstream, timeout = "2s" }
      if not answer then return 502, why .. "\n" end
      return answer.status, answer.body
    elseif request.path == "/count" then
      request:stream(200, { ["Content-Type"] = "text/plain" })
      for i = 1, 3 do
        request:write(i .. "\n")
        segue.sleep "50ms"
      end
      return
    end
    local text = config.pages and config.pages[request.path]
    if not text then return 404, "there is no " .. request.path .. "\n" end
    return 200, { ["Cache-Control"] = "no-cache" }, text .. "\n"
  end,

  stop = function() segue.log.info("front stopped", { greeting = config.greeting }) end,
}

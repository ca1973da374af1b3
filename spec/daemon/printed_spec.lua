-- SPDX-License-Identifier: MIT
-- Text from a client, a file or a policy is printed as text: it forges no row of a table and moves
-- no cursor, in every command.
local segue = require "spec.support.segue"
local uv = require "luv"

local TOKEN = "ops-token-0123456789"
-- A line break and text that looks like a row, then sequences that a terminal obeys: title, CSI as
-- C1, bidi.
local FORGED = "\n2001-02-03T04:05:06.789Z   200    POST   /-/reload  token ops:1  10.0.0.1"
local EVIL = FORGED .. "\27]0;title\7\194\15531m\226\128\174\226\129\166"

local function escaped(text)
  return (text:gsub("[^%w]", function(c) return ("%%%02x"):format(c:byte()) end))
end

local function lua_literal(text)
  return '"' .. text:gsub("[^%w ]", function(c) return ("\\%03d"):format(c:byte()) end) .. '"'
end

local function harmless(text, what)
  for _, odd in ipairs { "\27", "\7", "\194[\128-\159]", "\226\128[\168-\174]",
    "\226\129[\166-\169]" } do
    local at = text:find(odd)
    assert(not at, at and what .. ": ..." .. text:sub(math.max(1, at - 80), at + 20))
  end
  for row in ("\n" .. text):gmatch("\n([^\n]*)") do
    assert.is_nil(row:match("^2001%-"), what .. " has a forged row: " .. row)
  end
end

describe("text from outside", function()
  after_each(segue.cleanup)

  it("is printed as text, in every command, answer and log line", function()
    local folder = segue.folder { files = { ["config.yaml"] = "a: 1\n" } }
    uv.fs_chmod(folder.dir:write("ops.token", TOKEN .. "\n"), tonumber("600", 8))
    local d = segue.start { dir = folder.dir, files = { ["config.yaml"] = "a: 1\n" }, policy = ([[
      local segue = require "segue"
      return { name = "name" .. EVIL, sources = { segue.file "config.yaml" },
        triggers = { segue.http { "127.0.0.1:@PORT@",
          tokens = { { file = "ops.token", role = "operate" } } } },
        check = function(next)
          segue.log.info("checks " .. EVIL, { field = EVIL })
          if next.bad then return nil, "no: " .. EVIL end
          return true
        end }]]):gsub("EVIL", function() return lua_literal(EVIL) end) }
    local texts = {}
    local function take(what, text) texts[#texts + 1] = { what, text } end

    -- One request is rejected, one is answered: both are rows of the audit list.
    assert.equal(401, d:http { path = "/" .. escaped(EVIL) }.status)
    assert.equal(401, d:http { method = "POST", path = "/-/reload" .. escaped(EVIL) }.status)
    local auth = { Authorization = "Bearer " .. TOKEN }
    for _, path in ipairs { "/api/v1/why?path=" .. escaped('a."' .. EVIL .. '"'),
      "/" .. escaped(EVIL), "/api/v1/rollback?to=" .. escaped(EVIL) } do
      for _, accept in ipairs { "text/plain", "application/json" } do
        local headers = { Authorization = auth.Authorization, Accept = accept }
        take(path, d:http { path = path, headers = headers }.body)
        take(path, d:http { method = "POST", path = path, headers = headers }.body)
      end
    end
    take("freeze", d:cli("freeze", EVIL).output)
    take("status, frozen", d:cli("status").output)
    take("reload, frozen", d:cli("reload").output)
    take("unfreeze", d:cli("unfreeze").output)

    d.dir:write("config.yaml", "bad: 1\n")
    take("reload", d:cli("reload").output)
    for _, accept in ipairs { "text/plain", "application/json" } do
      take("POST", d:control { method = "POST", path = "/-/reload",
        headers = { Accept = accept } }.body)
    end
    for _, args in ipairs { { "check" }, { "plan" }, { "status" }, { "history" },
      { "history", "--audit" }, { "why", "a" }, { "diff" } } do
      take(table.concat(args, " "), d:cli(unpack(args)).output)
      args[#args + 1] = "--json"
      take(table.concat(args, " "), d:cli(unpack(args)).output)
    end
    take("a wrong key", d:cli("why", EVIL).output)
    take("log", d:log())
    for _, pair in ipairs(texts) do harmless(pair[2], pair[1]) end

    -- The rows are there, and each is one line.
    local audit = d:cli("history", "--audit").stdout
    assert.matches("401 +GET +/\\n2001", audit)
    assert.matches("401 +POST +/%-/reload\\n2001", audit)
    assert.matches("no: \n    2001", d:cli("reload").output)
    assert.matches("checks \\n2001.*\\x1b%]0;title\\x07\\u009b31m\\u202e\\u2066", d:log())
  end)
end)

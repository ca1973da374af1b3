-- SPDX-License-Identifier: MIT
-- `segue diff` and GET /api/v1/diff show the rendered files of two generations as one difference.
local cjson = require "cjson"
local Record = require "spec.support.record"
local back = require "spec.support.back"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  secrets = { "pw" }, @POLICY@
  modules = { web = { kind = "files",
    files = { { to = "out/a.conf", content = function(config)
      local list = {}
      for i = 1, 12 do list[i] = "line " .. i end
      list[2], list[11] = "host " .. config.host, "password " .. config.pw
      return table.concat(list, "\n") .. "\n"
    end }, { to = "out/b.conf", content = function(config) return config.port .. "\n" end } } } },
}]]

local function source(host, pw, port)
  return ("host: %s\npw: %s\nport: %d\n"):format(host, pw, port)
end

-- Starts it; returns the daemon and a function that makes a generation and returns its number.
local function start(more, ready)
  local d = segue.start { policy = (policy:gsub("@POLICY@", more or "")), ready = ready,
    files = { ["a.yaml"] = source("alpha", "hunter2hunter", 1) } }
  return d, function(...)
    d.dir:save("a.yaml", source(...))
    local status, answer = d:reload()
    assert.equal(200, status, cjson.encode(answer))
    return answer.generation
  end
end

local function diff(d, ...)
  local answer = d:cli("diff", ...)
  assert.equal(0, answer.code, answer.output)
  assert.not_matches("hunter", answer.output)
  return (answer.stdout:gsub(d.dir.path:gsub("%p", "%%%0") .. "/", ""))
end

describe("the difference of two generations", function()
  after_each(segue.cleanup)

  it("has each rendered file once, from the one to the other, without secrets", function()
    local d, make = start()
    make("beta", "hunter3hunter", 2)
    make("gamma", "hunter3hunter", 1)
    local last = make("gamma", "hunter4hunter", 1)
    local text = diff(d, "1", tostring(last))
    assert.matches("^generation 1 %-> 4: 2 changes\n", text)
    assert.matches([[

  file     web              out/a.conf: changed, %+2 %-2 lines
%-%-%- out/a.conf
%+%+%+ out/a.conf
@@ %-1,5 %+1,5 @@
 line 1
%-host alpha
%+host gamma
 line 3
 line 4
 line 5
@@ %-8,5 %+8,5 @@
 line 8
 line 9
 line 10
%-password %*%*%*
%+password %*%*%*
 line 12
$]], text)
    assert.matches("\n%-host gamma\n%+host alpha\n", diff(d, "live", "1"))
    assert.equal(diff(d, "1", "4"), (diff(d, "1", "live")))
    local answer = cjson.decode(d:cli("diff", "2", "3", "--json").stdout)
    assert.same({ d.dir:at "out/a.conf", d.dir:at "out/b.conf" },
      { answer.files[1].path, answer.files[2].path })
    assert.same({ 1, 1, "web" },
      { answer.files[2].added, answer.files[2].removed, answer.files[2].module })
    assert.same({}, d:json("/api/v1/diff?from=3&to=3").files)
    back.restart(d)
    assert.equal(text, diff(d, "1", "4"))
    assert.matches("%-host gamma\n%+host alpha\n", diff(d, "4", "1"))
  end)

  it("shows what a rollback changed", function()
    local d, make = start()
    make("beta", "hunter2hunter", 1)
    local answer = cjson.decode(d:cli("rollback", "1", "--json").stdout)
    assert.equal("applied", answer.outcome)
    assert.matches("\n%-host beta\n%+host alpha\n", diff(d, "previous", "live"))
    assert.not_matches("file ", diff(d, "1", "live"))
  end)

  it("names another program that changed a file in between", function()
    local d, make = start()
    make("beta", "hunter2hunter", 1)
    d.dir:save("out/a.conf", "by hand\n")
    make("gamma", "hunter2hunter", 1)
    local text = diff(d, "1", "3")
    assert.matches("out/a.conf: changed, another program changed it in between", text)
    assert.not_matches("%+host", text)
    assert.matches("%+host gamma\n", diff(d, "2", "3"))
  end)

  it("names the generation whose reload the history does not have any more", function()
    local d, make = start()
    make("beta", "hunter2hunter", 1)
    make("gamma", "hunter2hunter", 1)
    local id = d:json("/api/v1/reloads?limit=9")[2].id
    d:stop()
    local db = Record.connection(d.dir:at ".segue/history.db")
    db.run("DELETE FROM reload WHERE id=" .. id)
    db.close()
    d:spawn()
    d:wait_ready()
    local text = diff(d, "1", "3")
    assert.matches("~ host = \"alpha\" %-> \"gamma\"\n", text)
    assert.matches("the rendered files are not compared: the history does not have the reload that "
      .. "made generation 2\n$", text)
    local answer = d:json "/api/v1/diff?from=1&to=3"
    assert.same({ cjson.null, 2 }, { answer.files, answer.files_missing })
    assert.matches("%+host gamma\n", diff(d, "2", "3"))
    local unknown = d:cli("diff", "1", "99")
    assert.equal(6, unknown.code)
    assert.matches("generation 99 is not in the history", unknown.stderr)
  end)

  it("is in the reload that waits to be confirmed", function()
    local d = start('confirm = { by = "operator", within = "600s" },', false)
    wait.until_true(function()
      local ok, status = pcall(back.post, d, "/api/v1/confirm") -- it may not listen yet
      return ok and status == 200
    end)
    d:wait_ready()
    d.dir:save("a.yaml", source("beta", "hunter2hunter", 1))
    local reload = d:cli("reload", "--json")
    local id = cjson.decode(reload.stdout).id
    wait.until_true(function()
      local one = d:control("/api/v1/reloads/" .. id)
      return one.status == 200 and one.body:find('"path"', 1, true) ~= nil
    end)
    assert.matches("\n%-host alpha\n%+host beta\n", d:cli("history", tostring(id)).stdout)
    assert.equal(0, d:cli("confirm").code)
    assert.matches("\n%-host alpha\n%+host beta\n", diff(d))
  end)
end)

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
local function start(more, ready, faults)
  local d = segue.start { policy = (policy:gsub("@POLICY@", more or "")), ready = ready,
    env = faults and { SEGUE_FAULTS = faults },
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

  it("hides a value that was not secret when its reload was recorded, and is now", function()
    local d, make = start()
    make("beta-beta", "hunter2hunter", 1)
    assert.matches("%-host alpha\n%+host beta%-beta\n", diff(d, "1", "2"))
    d.dir:save("reload.lua", (policy:gsub("@POLICY@", ""):gsub('"pw"', '"pw", "host"')))
    make("beta-beta", "hunter2hunter", 2)
    assert.matches("%-host alpha\n%+host %*%*%*\n", diff(d, "1", "2"))
    assert.matches("%-host %*%*%*\n%+host alpha\n", diff(d, "3", "1"))
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

  it("names a generation whose reload was not recorded, because the process was killed", function()
    local d, make = start(nil, nil, "history.add#2=kill")
    pcall(make, "beta", "hunter2hunter", 1)
    assert.equal(9, (select(2, d:wait_exit(20000))))
    d.dir:save("a.yaml", source("gamma", "hunter2hunter", 1))
    d.options.env = {}
    d:spawn()
    d:wait_ready()
    local live = d:json("/api/v1/status").generation
    assert.is_true(live > 2)
    local answer = d:json("/api/v1/diff?from=1&to=" .. live)
    assert.same({ cjson.null, 2 }, { answer.files, answer.files_missing })
    assert.matches("the history does not have the reload that made generation 2\n$",
      diff(d, "1", "live"))
    assert.equal(2, d:json("/api/v1/reloads/" .. d:json("/api/v1/reloads?limit=1")[1].id).previous)
  end)

  it("is that of the last reload where there is no history", function()
    local d, make = start(nil, nil, "history.open=fail")
    make("beta", "hunter2hunter", 1)
    assert.matches("\n%-host alpha\n%+host beta\n", diff(d))
    assert.matches("\n%-host beta\n%+host alpha\n", diff(d, "live", "previous"))
    make("gamma", "hunter2hunter", 1)
    assert.matches("\n%-host beta\n%+host gamma\n", diff(d))
  end)

  it("is not joined where more than 1,000 reloads lie between", function()
    local d, make = start "history = { generations = 5000 },"
    make("beta", "hunter2hunter", 1)
    d:stop()
    local db = Record.connection(d.dir:at ".segue/history.db")
    db.run [[WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 1002)
      INSERT INTO generation SELECT i, reload, hash, input, wall_ms, files, more
      FROM n, generation WHERE number=2]]
    db.run [[INSERT INTO document SELECT 1002, 0, source, name, format, blob FROM document
      WHERE generation=2]]
    db.close()
    d:spawn()
    d:wait_ready()
    assert.matches('~ host = "alpha" %-> "beta"\nthe rendered files are not compared: too many '
      .. "changes lie between the two generations; compare nearer ones\n$", diff(d, "1", "1002"))
    local answer = d:json "/api/v1/diff?from=1&to=1002"
    assert.same({ cjson.null, true }, { answer.files, answer.files_too_many })
    assert.matches("%+host beta\n", diff(d, "1", "2"))
  end)

  it("has the number of the files that are not listed, past a thousand", function()
    local many = [[
local segue = require "segue"
local list = {}
for i = 1, 1002 do
  list[i] = { to = ("out/%04d"):format(i), content = function(config) return config.n .. "\\n" end }
end
return { sources = { segue.file "a.yaml" }, triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", files = list } } }]]
    local d = segue.start { policy = many, files = { ["a.yaml"] = "n: 1\n" } }
    d.dir:save("a.yaml", "n: 2\n")
    assert.matches("out/1000: changed, %+1 %-1 lines\n  and 2 more files\n%-%-%- ",
      d:cli("plan").stdout)
    assert.equal(200, (d:reload()))
    local answer = d:json "/api/v1/diff?from=1&to=2"
    assert.same({ 1000, 2 }, { #answer.files, answer.files_more })
    assert.matches("\n  and 2 more files\n", diff(d, "1", "2"))
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

-- SPDX-License-Identifier: MIT
-- The history, the difference between any two generations, and the origin of a value.
local cjson = require "cjson"
local Record = require "spec.support.record"
local back = require "spec.support.back"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local apply, in_history, post, put = back.apply, back.in_history, back.post, back.put
local restart, rollback, start, status_of = back.restart, back.rollback, back.start, back.status_of
local text_of = back.text_of

describe("the history", function()
  after_each(segue.cleanup)

  it("continues over restarts: numbers of reloads and generations, and unchanged values", function()
    local d = start()
    local seen = {}
    for x = 2, 4 do
      local generation = apply(d, x)
      restart(d, x % 2 == 0 and "kill" or "stop")
      local status = status_of(d)
      assert.equal(generation, status.generation) -- the same input, the same number
      local list = d:json "/api/v1/reloads?limit=1000"
      for i, reload in ipairs(list) do
        if i > 1 then assert.is_true(reload.id < list[i - 1].id) end
      end
      seen[#seen + 1] = generation
    end
    assert.is_true(seen[1] < seen[2] and seen[2] < seen[3])
    local cli = d:cli("history")
    assert.equal(0, cli.code)
    assert.matches("RELOAD +ENDED +OUTCOME +GENERATION +CHANGES +CAUSE\n", cli.stdout)
    assert.matches("applied", cli.stdout)
    assert.equal(5, select(2, d:cli("history", "--limit", "4").stdout:gsub("\n", "")))
  end)

  it("compares any two generations, also after a restart", function()
    local d = start()
    apply(d, 2)
    apply(d, 3)
    restart(d)
    apply(d, 4)
    local diff = d:json "/api/v1/diff?from=1&to=3"
    assert.equal(1, diff.change_count)
    assert.same({ op = "change", path = "x", from = 1, to = 3 }, diff.changes[1])
    assert.equal(0, d:json("/api/v1/diff?from=2&to=2").change_count)
    local against = d:json("/api/v1/diff?from=live&to=1").changes[1]
    assert.same({ 4, 1 }, { against.from, against.to })
    local cli = d:cli("diff", "1", "3")
    assert.equal(0, cli.code)
    assert.matches("x", cli.stdout)
    assert.equal(1, cjson.decode(d:cli("diff", "1", "3", "--json").stdout).change_count)
    for query, expected in pairs { ["from=1&to=99"] = 404, ["from=99&to=1"] = 404,
      ["from=x"] = 400, ["to=-1"] = 400, ["from=99999999999999999999"] = 400,
      ["from=1&to=next"] = 400 } do
      assert.equal(expected, d:control("/api/v1/diff?" .. query).status, query)
    end
    assert.equal(6, d:cli("diff", "1", "99").code)
  end)

  it("lists reloads one by one", function()
    local d = start()
    put(d, 99)
    local status, answer = d:reload()
    assert.equal(422, status)
    in_history(d, answer.id)
    restart(d, "kill")
    local one = d:json("/api/v1/reloads/" .. answer.id)
    assert.equal("rejected", one.outcome)
    assert.matches("x is too large", one.errors[1].message)
    assert.truthy(one.phases_ms)
    local cli = d:cli("history", tostring(answer.id))
    assert.equal(0, cli.code)
    assert.matches("rejected", cli.stdout)
    assert.equal(answer.id, cjson.decode(d:cli("history", tostring(answer.id), "--json").stdout).id)
    assert.equal(404, d:control("/api/v1/reloads/99").status)
    assert.equal(404, d:control("/api/v1/reloads/x").status)
    local gone = d:cli("history", "99")
    assert.equal(6, gone.code)
    assert.matches("^segue: reload 99 is not in the history", gone.stderr)
    local slip = d:cli("history", "latest")
    assert.equal(2, slip.code)
    assert.matches('ID must be the number of a reload %(segue history%), not "latest"', slip.stderr)
    assert.equal(400, d:control("/api/v1/reloads?limit=x").status)
    assert.equal(400, d:control("/api/v1/reloads?before=-1").status)
    assert.same({}, d:json "/api/v1/reloads?limit=0")
    assert.equal(2, d:cli("history", "--limit", "x").code)
  end)

  it("has no number of a generation where none was live", function()
    local d = segue.folder { policy = text_of(), files = { ["config.yaml"] = "x: 99\n",
      ["limits.lua"] = "return { most = 10 }\n" } }
    assert.equal(3, segue.cli({ "run" }, { cwd = d.dir.path }).code)
    d.dir:write("config.yaml", "x: 1\n")
    d:spawn()
    d:wait_ready()
    in_history(d, 2)
    local text = d:cli("history").stdout
    assert.matches("\n1 [^\n]+ rejected +%- ", text)
    assert.matches("reload 1: rejected, no generation live afterwards\n",
      d:cli("history", "1").stdout)
    d:stop()
  end)

  it("stays within the bounds of the policy, also from one process to the next", function()
    local d = start { more = "history = { reloads = 16, generations = 2 }," }
    for x = 2, 9 do apply(d, x) end
    for _ = 1, 3 do
      for x = 2, 9 do apply(d, x) end
    end
    local last = status_of(d).generation
    wait.until_true(function()
      return #d:json "/api/v1/reloads?limit=1000" <= 17
    end, nil, "the cut")
    assert.equal(404, d:control("/api/v1/diff?from=1&to=live").status)
    assert.equal(404, (rollback(d, 1)))
    restart(d)
    assert.equal(last, status_of(d).generation)
    assert.equal(200, (rollback(d)))
    for text, why in pairs {
      ["history = { reloads = -1 },"] = "reloads", ["history = { reload = 5 },"] = "reloads",
      ["history = 5,"] = "history", ['history = { age = "x" },'] = "age",
      ['history = { bytes = "lots" },'] = "bytes",
    } do
      d.dir:save("reload.lua", text_of(text))
      local status, answer = d:reload()
      assert.equal(422, status, text)
      assert.matches(why, answer.errors[1].message)
    end
  end)

  it("is readable only by its owner", function()
    local d = start()
    apply(d, 2)
    assert.equal(200, (post(d, "/api/v1/freeze?why=x")))
    local folder = d.dir:at ".segue"
    local pipe = io.popen(("stat -c '%%a %%n' %s %s/*"):format(folder, folder))
    local count = 0
    for line in pipe:lines() do
      local mode, name = line:match "^(%d+) .*/([^/]+)$"
      if name == ".segue" then assert.equal("700", mode) else assert.equal("600", mode, name) end
      count = count + 1
    end
    pipe:close()
    assert.is_true(count >= 6)
  end)

  it("is created again when it is damaged, and reloads are answered as before", function()
    local d = start()
    apply(d, 2)
    d:stop()
    d.dir:write(".segue/history.db", ("garbage "):rep(5000))
    d:spawn()
    d:wait_ready()
    d:wait_log("the history is damaged: it is renamed and started again")
    local generation = apply(d, 3)
    assert.is_true(generation > 2)
    assert.equal(3, d:config().x)
    in_history(d, d:json("/api/v1/reloads")[1].id)
  end)

  it("gets its entries after another process has locked it for a while", function()
    local d = start()
    in_history(d, 1)
    local lock = Record.connection(d.dir:at ".segue/history.db")
    lock.run "BEGIN IMMEDIATE"
    apply(d, 2)
    apply(d, 3)
    -- Queries do not wait for the delayed writer; otherwise they would time out.
    assert.equal(1, #d:json "/api/v1/reloads")
    lock.run "COMMIT"
    lock.close()
    in_history(d, 3)
    assert.equal(3, #d:json "/api/v1/reloads")
  end)
end)

describe("why", function()
  after_each(segue.cleanup)

  local function why(d, path) return d:json("/api/v1/why?path=" .. path) end

  it("names file, line, generation and trigger of a value", function()
    local d = start { triggers = "segue.watch()" }
    d.dir:save("config.yaml", "x: 1\nlist:\n  - {a: 1}\n  - {a: 2}\n")
    d:wait_config(function(c) return c.list end)
    local found = why(d, "list[1].a")
    assert.equal(2, found.value)
    assert.matches("config%.yaml$", found.origin.file)
    assert.equal(4, found.origin.line)
    assert.equal(2, found.change.generation)
    assert.equal("list", found.change.path)
    assert.matches("changed", found.change.reload.cause)
    assert.equal(1, why(d, "x").change.generation)
    assert.equal(2, why(d, "list").change.generation)
    local cli = d:cli("why", "list[1].a")
    assert.equal(0, cli.code)
    assert.matches("list%[1%]%.a = 2 %(generation 2%)\nwritten in +.*config%.yaml:4:", cli.stdout)
    assert.matches("since +generation 2", cli.stdout)
    assert.equal(2, cjson.decode(d:cli("why", "list[1].a", "--json").stdout).value)
  end)

  it("names the layer that won, the environment and values of the policy", function()
    local d = segue.start { env = { APP_PORT = "99" }, files = { ["a.yaml"] = "x: 1\ny: 1\n",
      ["b.yaml"] = "y: 2\n" }, policy = [[
local segue = require "segue"
return { name = "why", sources = { segue.file "a.yaml", segue.file "b.yaml",
  segue.env { prefix = "APP_" },
  segue.value { built = { deep = true } } } }]] }
    assert.matches("a%.yaml$", why(d, "x").origin.file)
    assert.matches("b%.yaml$", why(d, "y").origin.file)
    local port = why(d, "port")
    assert.equal(99, tonumber(port.value))
    assert.matches("env", port.origin.source)
    local built = why(d, "built.deep")
    assert.equal(true, built.value)
    assert.truthy(built.origin)
    d.dir:save("b.yaml", "{}\n")
    assert.equal(200, (d:reload()))
    assert.matches("a%.yaml$", why(d, "y").origin.file)
    assert.equal(2, why(d, "y").change.generation)
  end)

  it("reports a value that was removed, and none that never existed", function()
    local d = start()
    d.dir:save("config.yaml", "x: 1\ngone: 5\n")
    assert.equal(200, (d:reload()))
    d.dir:save("config.yaml", "x: 1\n")
    assert.equal(200, (d:reload()))
    local found = why(d, "gone")
    assert.equal(cjson.null, found.value)
    assert.equal(cjson.null, found.origin)
    assert.equal(3, found.change.generation)
    assert.matches("written in   nowhere: it was removed", d:cli("why", "gone").stdout)
    assert.matches("nowhere: it was removed", d:cli("why", "gone.below").stdout)
    assert.equal(404, d:control("/api/v1/why?path=never").status)
    assert.equal(2, d:cli("why", "never").code)
    assert.equal(400, d:control("/api/v1/why").status)
    assert.equal(400, d:control("/api/v1/why?path=").status)
    assert.equal(2, d:cli("why").code)
    for _, wild in ipairs { "a%27b", "%ff%fe", "[", "a..b", ("z."):rep(200) .. "y" } do
      assert.equal(404, d:control("/api/v1/why?path=" .. wild).status, wild)
    end
    assert.equal(405, d:control { method = "POST", path = "/api/v1/why?path=x" }.status)
  end)

  it("names the value that blocks a path, and claims no removal without one", function()
    local d = start()
    d.dir:save("config.yaml", "x: 1\ngreeting: hello\nmap: {a: 1}\n")
    assert.equal(200, (d:reload()))
    for path, message in pairs {
      ["greeting.x"] = ": greeting is of type string",
      ["greeting.x.y"] = ": greeting is of type string",
      ["map.b"] = ", and no kept generation removed one",
    } do
      message = "the configuration has no value at " .. path .. message
      local cli = d:cli("why", path)
      assert.equal(2, cli.code, cli:describe())
      assert.truthy(cli.stdout .. cli.stderr == "segue: " .. message .. "\n"
        or cjson.decode(cli.stdout).error == message, cli:describe())
    end
  end)

  it("leaves out the column of a value that has none", function()
    local d = segue.start { env = { APP_PORT = "99" }, policy = [[
local segue = require "segue"
return { sources = { segue.value { built = 1 }, segue.env { prefix = "APP_" } } }]] }
    for _, path in ipairs { "built", "port" } do
      local line = d:cli("why", path).stdout:match "\nwritten in   ([^\n]+)"
      assert.is_nil(line:find(":0", 1, true), line)
    end
  end)

  it("still knows after a restart, and after a rollback", function()
    local d = start()
    apply(d, 2)
    apply(d, 3)
    in_history(d, 3) -- which is written after the answer
    restart(d, "kill")
    assert.equal(3, why(d, "x").change.generation)
    rollback(d, 1)
    local found = why(d, "x")
    assert.equal(1, found.value)
    assert.equal(d:json "/api/v1/status".generation, found.change.generation)
    assert.matches("rollback to generation 1", found.change.reload.cause)
  end)
end)

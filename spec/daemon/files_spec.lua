-- SPDX-License-Identifier: MIT
-- Modules of the kind files in the daemon: rendered, checked, moved as one set, applied, undone.
local nginx = require "spec.support.nginx"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
local function file(name)
  return { to = "out/" .. name, content = function(config)
    @CONTENT@
    return name .. "=" .. config.x .. "\n"
  end @FILE@ }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  @MORE@
  modules = { web = { kind = "files", files = { file "a.conf", file "b.conf" },
    apply = "cat out/a.conf out/b.conf > applied; echo run >> runs; @APPLY@",
    @MODULE@ } },
}]]

local function fill(o)
  return (policy:gsub("@(%u+)@", { CONTENT = o.content or "", FILE = o.file or "",
    MORE = o.more or "", APPLY = o.apply or "true", MODULE = o.module or "" }))
end

local function start(options)
  local o = options or {}
  return segue.start { policy = fill(o), files = { ["a.yaml"] = "x: 1\n" }, ready = o.ready }
end

local function put(d, x)
  d.dir:save("a.yaml", ("x: %s\n"):format(x))
  return d:reload()
end

-- Both files and what was applied have this value.
local function has(d, x)
  assert.equal(("a.conf=%s\n"):format(x), d.dir:read "out/a.conf")
  assert.equal(("b.conf=%s\n"):format(x), d.dir:read "out/b.conf")
  assert.equal(("a.conf=%s\nb.conf=%s\n"):format(x, x), d.dir:read "applied")
end

local function runs(d) return select(2, (d.dir:read "runs" or ""):gsub("run\n", "")) end

-- The names in the folder without the lock file.
local function names(d)
  local list = {}
  for _, name in ipairs(d.dir:list "out") do
    if name ~= ".segue.lock" then list[#list + 1] = name end
  end
  return list
end

-- Staged files are removed behind the answer.
local function clean(d)
  wait.until_true(function() return #names(d) == 2 end, nil, function()
    return table.concat(names(d), " ") .. "\n" .. d:log()
  end)
end

local function message_of(answer)
  return answer.errors and answer.errors[1] and answer.errors[1].message or ""
end

describe("a module of the kind files", function()
  after_each(segue.cleanup)

  it("writes its files and applies them, and does neither where nothing changed", function()
    local d = start()
    has(d, 1)
    assert.equal(1, runs(d))
    assert.equal(200, (put(d, 2)))
    has(d, 2)
    assert.equal(2, runs(d))
    local before = uv.fs_stat(d.dir:at "out/a.conf")
    d.dir:save("a.yaml", "x: 2\ny: 1\n")
    assert.equal(200, (d:reload()))
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.equal(2, runs(d))
    assert.same(before.ctime, uv.fs_stat(d.dir:at "out/a.conf").ctime)
    clean(d)
  end)

  it("is checked by a command that sees the new files in place of the live ones", function()
    local d = start { module = [==[check = [[grep -q '=[123]$' out/a.conf || exit 1
      cat out/?.conf > seen; if (echo x > out/a.conf) 2> /dev/null; then exit 2; fi]],]==] }
    assert.equal("a.conf=1\nb.conf=1\n", d.dir:read "seen")
    assert.equal(200, (put(d, 2)))
    assert.equal("a.conf=2\nb.conf=2\n", d.dir:read "seen")
    local status, answer = put(d, 9)
    assert.equal(422, status)
    assert.matches("check command grep .* exited with code 1", message_of(answer))
    has(d, 2)
    assert.equal(2, runs(d))
    clean(d)
  end)

  it("is checked with folders inside of others, in any order of its files", function()
    local d = segue.start { policy = [[
local segue = require "segue"
local function content(config) return config.x .. "\n" end
local function file(to) return { to = to, content = content } end
return {
  sources = { segue.file "a.yaml" },
  modules = { web = { kind = "files",
    check = "cat out/a out/in/b out/in/in/c out/in/in/in/d > seen",
    files = { file "out/in/in/c", file "out/in/b", file "out/in/in/in/d", file "out/a" } } },
}]], files = { ["a.yaml"] = "x: 1\n" } }
    assert.equal("1\n1\n1\n1\n", d.dir:read "seen")
    d:stop()
  end)

  it("is checked by a command that names the staged files", function()
    local d = start { module = [[check = { "sh", "-c",
      'grep -q "=[12]$" "$1" || { echo "emerg: $1"; exit 1; }', "sh", "{staged:out/b.conf}" },]] }
    local status, answer = put(d, 9)
    assert.equal(422, status)
    assert.matches("exited with code 1: emerg: .*/out/%.b%.conf%.segue%-", message_of(answer))
    has(d, 1)
    assert.equal(200, (put(d, 2)))
    has(d, 2)
  end)

  it("stops a check that hangs, and reports the end of one that floods", function()
    local d = start { module = [[timeout = "1s", check = { "sh", "-c",
      'grep -q 7 "$1" && sleep 1000; grep -q 8 "$1" || exit 0; yes | head -c 3000000; ' ..
      'echo fatal: eight; exit 1', "sh", "{staged:out/a.conf}" },]] }
    local status, answer = put(d, 7)
    assert.equal(500, status)
    assert.matches("check command sh .* took longer than 1 s and was stopped", message_of(answer))
    status, answer = put(d, 8)
    assert.equal(422, status)
    assert.matches("exited with code 1: fatal: eight; y; y", message_of(answer))
    assert.equal(200, (put(d, 2)))
    has(d, 2)
  end)

  it("ends its check when the daemon stops, and stays as it was", function()
    local d = start { module = [==[check = [[grep -q '=9$' out/a.conf || exit 0
      echo $$ > pid; exec sleep 1000]],]==] }
    d.dir:save("a.yaml", "x: 9\n")
    d:signal "hup"
    local pid = wait.until_true(function() return tonumber((d.dir:read "pid")) end)
    d:stop()
    assert.is_nil(uv.fs_stat("/proc/" .. pid))
    has(d, 1)
    assert.equal(1, runs(d))
    clean(d)
  end)

  it("is undone and applied again where its command fails", function()
    local d = start { apply = "! grep -q 9 out/a.conf || { echo fatal: nine; exit 7; }" }
    local status, answer = put(d, 9)
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome)
    assert.matches("apply command cat .* exited with code 7: fatal: nine", message_of(answer))
    has(d, 1)
    assert.equal(3, runs(d))
    clean(d)
  end)

  it("is applied again by the previous command where that of the new policy fails", function()
    local d = start()
    d.dir:save("reload.lua", fill { apply = "echo other > applied; exit 7" })
    local status, answer = put(d, 9)
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome)
    has(d, 1)
    clean(d)
  end)

  it("is applied again until it succeeds, as often as retry allows", function()
    local d = start { apply = "test $(wc -l < runs) -ge 3",
      module = [[retry = { times = 2, pause = "10ms" },]] }
    has(d, 1)
    assert.equal(3, runs(d))
  end)

  it("is not applied again once the daemon stops", function()
    local d = start { apply = "! grep -q 9 out/a.conf",
      module = [[retry = { times = 5, pause = "50s" },]] }
    d.dir:save("a.yaml", "x: 9\n")
    d:signal "hup"
    wait.until_true(function() return runs(d) == 2 end)
    d:stop()
    has(d, 1)
    assert.equal(3, runs(d))
    clean(d)
  end)

  it("is undone where the new generation does not prove itself", function()
    local d = start { more = [[confirm = { within = "30s", failures = 1, probe = function()
      return not segue.read("out/a.conf"):find "9", "nine" end },]] }
    local status, answer = put(d, 9)
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome, message_of(answer))
    has(d, 1)
    clean(d)
  end)

  it("is rejected where a function fails, with its place", function()
    local d = start { content = [[if config.x == 7 then return nil, "no sevens" end
      if config.x == 8 then error "eight" end
      if config.x == 9 then return 9 end
      while config.x == 10 do end]] }
    for x, pattern in pairs { [7] = "no sevens", [8] = "eight", [9] = "content returned a number",
      [10] = "CPU" } do
      local status, answer = put(d, x)
      assert.equal(422, status)
      assert.matches(pattern, message_of(answer))
      if x ~= 7 then assert.matches("reload.lua", answer.errors[1].file) end
    end
    has(d, 1)
    assert.equal(200, (put(d, 2)))
    has(d, 2)
  end)

  it("keeps a file that another program has changed, and reports that", function()
    local d = start()
    d.dir:write("out/b.conf", "by hand\n")
    assert.equal(200, (put(d, 2)))
    d:wait_log "a file was not as segue has written it last"
    has(d, 2)
    local list = names(d)
    assert.matches("^%.b%.conf%.changed%-", list[1])
    assert.equal("by hand\n", d.dir:read("out/" .. list[1]))
  end)

  it("is not shared by two daemons", function()
    local d = start()
    local other = segue.start { policy = fill({}):gsub('"out/', '"' .. d.dir:at "out" .. "/"),
      files = { ["a.yaml"] = "x: 5\n" }, ready = false }
    local code = other:wait_exit(20000)
    assert.is_true(code ~= 0)
    assert.matches("is written by another segue", other:log())
    has(d, 1)
  end)

  it("is planned without a change, by the daemon and beside it", function()
    local d = start()
    d.dir:save("a.yaml", "x: 2\n")
    for _, command in ipairs { "plan", "check" } do
      local result = d:cli(command)
      assert.equal(0, result.code, result:describe())
      assert.matches("apply web", result.stdout)
    end
    has(d, 1)
    assert.equal(1, runs(d))
    clean(d)
  end)

  it("reads options by their rows", function()
    local d = segue.folder { policy = fill { module = "chek = 1," },
      files = { ["a.yaml"] = "x: 1\n" } }
    local result = d:cli "check"
    assert.equal(3, result.code)
    assert.matches("modules%.web%.chek.*check", result.stderr .. result.stdout)
  end)
end)

describe("nginx behind a files module", function()
  after_each(nginx.cleanup)

  it("is checked whole and reloaded, and keeps its old configuration otherwise", function()
    local d = nginx.behind([[
      files = { { to = "conf.d/site.conf", content = function(config)
        return ("server { listen 127.0.0.1:@PORT@; return 200 %s; }\n"):format(config.x)
      end } },
      check = { "nginx", "-t", "-p", ".", "-c", "nginx.conf" },
      apply = { "nginx", "-s", "reload", "-p", ".", "-c", "nginx.conf" },
]], { ["a.yaml"] = "x: one\n", ["conf.d/site.conf"] = nginx.site })
    local function serves(text) nginx.serves(d, "/", text) end
    serves "one"
    assert.equal(200, (put(d, "two")))
    serves "two"
    local status, answer = put(d, "'three oops'")
    assert.equal(422, status)
    assert.matches("invalid number of arguments in \"return\" directive", message_of(answer))
    serves "two"
  end)
end)

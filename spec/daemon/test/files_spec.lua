-- SPDX-License-Identifier: MIT
-- Modules of the kind files in rehearsals: rendered, checked, committed and undone in memory.
-- Run by `segue test`, which spec/daemon/test_spec.lua starts.
local testing = require "segue.testing"

local head = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" }, triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files",
]]

-- files and rest: texts of the policy.
local function rehearse(files, rest)
  local t = testing.policy("files.lua", { text = head .. "files = {" .. files .. "}," .. rest
    .. "} } }" })
  return t:file("web.tmpl", "port {{.port}}\n"):file("config.yaml", "port: 80\n")
end

local one = '{ template = "web.tmpl", to = "/etc/web/web.conf" }'

describe("a rehearsed module of the kind files", function()
  it("renders, checks, commits and applies in memory", function()
    local t = rehearse(one, 'check = { "web", "-t" }, apply = { "web", "-s", "reload" }')
    local seen
    t:on_command("web -t", function(_, command)
      assert.equal("web", command.module)
      assert.equal("check", command.step)
      seen = t:file "/etc/web/web.conf"
      return true
    end)
    t:on_command("web -s reload", function(_, command)
      assert.equal("apply", command.step)
      assert.equal(seen, (t:file "/etc/web/web.conf"))
      return { seconds = 3 }
    end)
    assert.is_nil((t:file "/etc/web/web.conf"))
    local result = t:start()
    assert.equal("applied", result.outcome)
    assert.equal("port 80\n", seen)
    local text, attributes = t:file "/etc/web/web.conf"
    assert.equal("port 80\n", text)
    assert.same({ mode = "0644" }, attributes)
    assert.is_true(result.seconds >= 3 and result.seconds < 3.1)
    assert.equal("/etc/web/web.conf", result.files[1].path)
    assert.matches("%+port 80", result.files[1].diff)
    assert.is_nil(io.open "/etc/web/web.conf")
  end)

  it("renders with Lua functions, in Lua, and from one source", function()
    local t = rehearse('{ template = "web.tmpl", helpers = "funcs.lua", to = "a.conf" }, '
      .. '{ template = "lua.tmpl", language = "etlua", helpers = "funcs.lua", to = "b.conf" }, '
      .. '{ template = "one.tmpl", source = "config.yaml", to = "c.conf" }', "")
    t:file("funcs.lua", "return { twice = function(n) return n * 2 end }")
    t:file("web.tmpl", "port {{twice .port}}\n")
    t:file("lua.tmpl", "<% for k, v in pairs(config) do %><%= k %> <%= twice(v) %>\n<% end %>")
    t:file("one.tmpl", '{{key "port"}}')
    assert.equal("applied", t:start().outcome)
    assert.equal("port 160\n", (t:file "a.conf"))
    assert.equal("port 160\n", (t:file "b.conf"))
    assert.equal("80", (t:file "c.conf"))
    -- The file of functions is an input, as the template is.
    t:file("funcs.lua", "return { twice = function(n) return n * 2 + 1 end }")
    assert.equal("applied", t:signal("HUP").outcome)
    assert.equal("port 161\n", (t:file "a.conf"))
    t:file("funcs.lua", "return {\n twice = function(n) return n.x.y end }")
    local result = t:signal "HUP"
    assert.equal("rejected", result.outcome)
    assert.matches("calling twice: funcs.lua:2: attempt to", result.errors[1].message, 1, true)
    assert.equal("port 161\n", (t:file "a.conf"))
  end)

  it("applies nothing where nothing differs", function()
    local t = rehearse(one, 'apply = "reload-web"')
    t:on_command("reload-web", true)
    t:start()
    t:file("config.yaml", "port: 80\nother: 1\n")
    assert.equal("applied", t:signal("HUP").outcome)
    assert.equal(1, #t:commands())
    t:file("config.yaml", "port: 81\n")
    assert.equal("applied", t:signal("HUP").outcome)
    assert.equal(2, #t:commands())
    assert.equal("port 81\n", (t:file "/etc/web/web.conf"))
  end)

  it("shows a check the staged files by name", function()
    local t = rehearse(one, 'check = "web -t -c {staged:web.conf}"')
    t:file("/etc/web/web.conf", "port 1\n")
    local staged, live
    t:on_command("web -t -c {staged:web.conf}", function(_, command)
      for _, variable in ipairs(command.env) do
        local path = variable:match "^segue_staged_%d+=(.*)"
        if path then staged = t:file(path) end
      end
      live = t:file "/etc/web/web.conf"
      return true
    end)
    assert.equal("applied", t:start().outcome)
    assert.equal("port 80\n", staged)
    assert.equal("port 1\n", live)
  end)

  it("leaves the live files where the check fails", function()
    local t = rehearse(one, 'check = { "web", "-t" }, apply = { "web", "-s", "reload" }')
    t:file("/etc/web/web.conf", "port 1\n")
    t:on_command("web -t", { code = 1, stderr = "web: [emerg] no such port\n" })
    local result = t:start()
    assert.equal("rejected", result.outcome)
    assert.matches("exited with code 1: web: %[emerg%] no such port", result.errors[1].message)
    assert.equal("port 1\n", (t:file "/etc/web/web.conf"))
    assert.equal(1, #t:commands())
  end)

  it("brings the previous files back where apply fails, and applies them", function()
    local t = rehearse(one, 'apply = "reload-web"')
    t:on_command("reload-web", true)
    t:start()
    local seen = {}
    t:on_command("reload-web", function(_, command)
      seen[#seen + 1] = command.step .. " " .. t:file "/etc/web/web.conf"
      return #seen == 1 and { code = 7, seconds = 2 } or true
    end)
    t:file("config.yaml", "port: 81\n")
    local result = t:signal "HUP"
    assert.equal("reverted", result.outcome)
    assert.matches("apply command reload%-web exited with code 7 %(after 2.0 s%)",
      result.errors[1].message)
    assert.same({ "apply port 81\n", "apply port 80\n" }, seen)
    assert.equal("port 80\n", (t:file "/etc/web/web.conf"))
  end)

  it("runs undo, and a function for it", function()
    local t = rehearse(one, 'apply = "reload-web", undo = "bring-back"')
    t:on_command("reload-web", 1)
    t:on_command("bring-back", true)
    assert.equal("reverted", t:start().outcome)
    assert.equal("undo", t:commands()[2].step)
    assert.is_nil((t:file "/etc/web/web.conf"))
    t = rehearse(one, [[apply = "reload-web",
      undo = function() return segue.run({ "by-hand" }).code == 0 end]])
    t:on_command("reload-web", 1):on_command("by-hand", true)
    assert.equal("reverted", t:start().outcome)
    assert.equal("by-hand", t:commands()[2].argv[1])
  end)

  it("stops a command at its time limit, and tries it again", function()
    local t = rehearse(one, 'apply = "reload-web", timeout = "5s", retry = { pause = "1s" }')
    local tries = 0
    t:on_command("reload-web", function()
      tries = tries + 1
      return tries == 1 and { seconds = 60 } or tries == 2 and 1 or true
    end)
    local result = t:start()
    assert.equal("applied", result.outcome)
    assert.equal(3, tries)
    assert.is_true(result.seconds >= 8 and result.seconds < 8.1) -- 5 s, 1 s, 2 s
  end)

  it("asks verify, and undoes where it does not return true", function()
    local t = rehearse(one, [[apply = "reload-web", verify_within = "5s",
      verify = function() return segue.read "/run/web" == "new" end]])
    t:on_command("reload-web", function() t:file("/run/web", "new") return true end)
    assert.equal("applied", t:start().outcome)
    t:on_command("reload-web", function() t:file("/run/web", "old") return true end)
    t:file("config.yaml", "port: 81\n")
    assert.equal("reverted", t:signal("HUP").outcome)
    assert.equal("port 80\n", (t:file "/etc/web/web.conf"))
  end)

  it("sends signals and requests to the spec", function()
    local t = rehearse(one, 'apply = segue.hup("/run/web.pid", { name = "web" })')
    t:on_signal(function(signal)
      assert.equal("web", signal.process)
      return { error = "ESRCH", message = "/run/web.pid names no process" }
    end)
    local result = t:start()
    assert.equal("reverted", result.outcome)
    assert.matches("was not sent: /run/web.pid names no process", result.errors[1].message)
    assert.equal("HUP", t:signals()[1].signal)
    assert.equal("/run/web.pid", t:signals()[1].pidfile)
    t:on_signal(function() return { seconds = 1 } end)
    assert.equal("applied", t:reload({ force = true }).outcome)

    t = rehearse(one, 'apply = segue.post "http://127.0.0.1:9090/-/reload"')
    t:on_fetch(function(request)
      assert.equal("apply", request.step)
      return { status = 503, body = "error: still loading" }
    end)
    result = t:start()
    assert.equal("reverted", result.outcome)
    assert.matches("was answered with status 503: error: still loading", result.errors[1].message)
    t:on_fetch(function() return 200 end)
    assert.equal("applied", t:reload({ force = true }).outcome)
  end)

  it("names a command, a signal or a request that has no answer", function()
    local t = rehearse(one, 'check = { "web", "-t" }')
    assert.has_error(function() t:start() end,
      'module web: check runs "web -t", and the spec has no answer for it: '
        .. 't:on_command("web -t", true)')
    t = rehearse(one, 'apply = segue.hup "/run/web.pid"')
    local _, why = pcall(t.start, t)
    assert.matches("module web: apply sends HUP to the process of /run/web.pid, and the spec has no"
      .. " answer", why)
    t = rehearse(one, 'apply = segue.post "http://127.0.0.1:1/x"')
    _, why = pcall(t.start, t)
    assert.matches("module web: apply asks http://127.0.0.1:1/x, and the spec has no answer", why)
    _, why = pcall(t.on_command, t, "web")
    assert.matches("t:on_command needs an answer", why)
  end)

  it("keeps modes, owners, backups and versions of other programs", function()
    local t = rehearse('{ template = "web.tmpl", to = "out/web.conf", mode = "0600", '
      .. 'owner = "web:adm", backups = 1 }', "")
    t:file("out/web.conf", "from before\n")
    assert.equal("applied", t:start().outcome)
    local _, attributes = t:file "out/web.conf"
    assert.same({ mode = "0600", owner = "web:adm" }, attributes)
    assert.equal("from before\n", (t:file "out/.web.conf.changed-1"))
    t:file("config.yaml", "port: 81\n")
    t:signal "HUP"
    assert.equal("port 80\n", (t:file "out/.web.conf.backup-1"))
    t:file("out/web.conf", "by hand\n"):file("config.yaml", "port: 82\n")
    t:signal "HUP"
    assert.equal("port 82\n", (t:file "out/web.conf"))
    assert.equal("by hand\n", (t:file "out/.web.conf.changed-2"))
  end)

  it("adopts in the drift mode adopt", function()
    local t = rehearse(one, 'drift = "adopt", apply = "reload-web"')
    t:on_command("reload-web", true)
    t:start()
    t:file("/etc/web/web.conf", "by hand\n")
    t:file("config.yaml", "port: 80\nother: 1\n")
    t:reload { force = true }
    assert.equal("by hand\n", (t:file "/etc/web/web.conf"))
    t:file("config.yaml", "port: 81\n")
    t:signal "HUP"
    assert.equal("port 81\n", (t:file "/etc/web/web.conf"))
  end)

  it("refuses destinations outside of the root, twice the same, or that cannot be read", function()
    local t = rehearse('{ template = "web.tmpl", to = "/etc/web.conf" }', 'root = "/srv"')
    assert.matches("outside of /srv", t:start().errors[1].message)
    t = rehearse('{ template = "web.tmpl", to = "/srv/x/../../etc/web.conf" }', "")
    assert.equal("applied", t:start().outcome)
    assert.equal("port 80\n", (t:file "/etc/web.conf"))
    t = rehearse(one .. ', { template = "web.tmpl", to = "/etc//web/./web.conf" }', "")
    assert.matches("are the same file", t:start().errors[1].message)
    t = rehearse(one, "")
    t:fail("/etc/web/web.conf", "EACCES")
    assert.matches("cannot read /etc/web/web.conf", t:start().errors[1].message)
  end)

  it("removes or restores a file that the policy drops", function()
    local function texts(files)
      return head .. "files = {" .. files .. '}, removed = "restore", apply = "reload-web" } } }'
    end
    local b = '{ to = "/etc/web/b.conf", content = function() return "b" end }'
    local t = testing.policy("files.lua", { text = texts(one .. "," .. b) })
    t:file("web.tmpl", "a\n"):file("config.yaml", "port: 80\n"):file("/etc/web/b.conf", "before")
    t:on_command("reload-web", true)
    assert.equal("applied", t:start().outcome)
    assert.equal("b", (t:file "/etc/web/b.conf"))
    t:file("files.lua", texts(one))
    assert.equal("applied", t:reload().outcome)
    assert.equal("before", (t:file "/etc/web/b.conf"))
    t:file("files.lua", texts(b))
    assert.equal("applied", t:reload().outcome)
    assert.is_nil((t:file "/etc/web/web.conf"))
    assert.equal(3, #t:commands())
  end)

  it("has the files of a folder under their paths, and not those that the policy drops", function()
    local function texts(names)
      local files = {}
      for name in names:gmatch "%S+" do
        files[#files + 1] = ('{ name = "%s", content = function() return "%s" end }'):format(name,
          name)
      end
      return head .. "files = {" .. table.concat(files, ", ")
        .. '}, folder = "/etc/web/web.d", apply = "reload-web" } } }'
    end
    local t = testing.policy("files.lua", { text = texts "a b" })
    t:file("config.yaml", "port: 80\n"):on_command("reload-web", true)
    local result = t:start()
    assert.equal("applied", result.outcome)
    assert.same({ "/etc/web/web.d/a", "/etc/web/web.d/b" },
      { result.files[1].path, result.files[2].path })
    assert.equal("b", (t:file "/etc/web/web.d/b"))
    t:file("files.lua", texts "a")
    assert.equal("applied", t:reload().outcome)
    assert.equal("a", (t:file "/etc/web/web.d/a"))
    assert.is_nil((t:file "/etc/web/web.d/b"))
  end)

  it("does not share a file with another module", function()
    local t = testing.policy("files.lua", { text = head .. "files = {" .. one .. [[ } },
      b = { kind = "files", files = { { to = "/etc/web/web.conf",
        content = function() return "b" end } } } } }]] })
    t:file("web.tmpl", "a"):file("config.yaml", "port: 80\n")
    local result = t:start()
    assert.equal("failed", result.outcome)
    assert.matches("/etc/web/web.conf is a file of module '%a+' already", result.errors[1].message)
  end)

  it("changes several files as one set, and is planned", function()
    local t = rehearse(one .. ', { to = "/etc/web/b.conf", content = function(c) '
      .. 'return "b " .. c.port end }', 'check = "web -t"')
    t:on_command("web -t", true)
    local plan = t:plan()
    assert.equal(2, #plan.files)
    assert.is_nil((t:file "/etc/web/b.conf"))
    t:start()
    assert.equal("b 80", (t:file "/etc/web/b.conf"))
    t:file("/etc/web/b.conf", nil)
    assert.is_nil((t:file "/etc/web/b.conf"))
    t:file("config.yaml", "port: 81\n")
    assert.equal(2, #t:signal("HUP").files)
    assert.equal("b 81", (t:file "/etc/web/b.conf"))
  end)

  it("holds a set whose template needs what is not there yet", function()
    local t = rehearse('{ template = "web.tmpl", to = "/etc/web/web.conf", '
      .. 'functions = "consul-template" }', 'wait = "2s"')
    t:file("web.tmpl", '{{key "web/name"}}\n')
    local result = t:start()
    assert.equal("held", result.outcome)
    assert.matches("needs web/name, which is not there yet", result.errors[1].message)
    assert.is_nil((t:file "/etc/web/web.conf"))
    t:file("config.yaml", "web: { name: a }\n")
    assert.equal("applied", t:reload().outcome)
    assert.equal("a\n", (t:file "/etc/web/web.conf"))
  end)

  it("answers commands of the policy by the words they begin with, and by a function", function()
    local t = testing.policy("run.lua", { text = [[
      local segue = require "segue"
      return { sources = { segue.file "config.yaml" }, triggers = { segue.signal "HUP" },
        check = function() return segue.run({ "tool", "--version" }).stdout == "2" end }]] })
    t:file("config.yaml", "a: 1\n")
    t:on_command("too", "1")
    t:on_command("tool", "2")
    assert.equal("applied", t:start().outcome)
    t:on_command(function(argv) return argv[2] == "--version" end, "3")
    t:file("config.yaml", "a: 2\n")
    assert.equal("rejected", t:signal("HUP").outcome)
  end)
end)

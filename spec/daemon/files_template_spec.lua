-- SPDX-License-Identifier: MIT
-- Modules of the kind files whose files are templates: rendered, rejected with the place of the
-- mistake, rendered again when the template changes.
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { @TRIGGERS@ },
  secrets = { "**.password" },
  modules = { web = { kind = "files", config = "web",
    files = { { to = "out/a.conf", template = "a.tmpl", @FILE@ } },
    apply = "cat out/a.conf > applied; echo run >> runs" } },
}]]

local function start(o)
  o = o or {}
  return segue.start { policy = policy:gsub("@(%u+)@",
      { FILE = o.file or "", TRIGGERS = o.triggers or [[segue.signal "HUP"]] }),
    files = { ["a.yaml"] = o.config or "web:\n  x: 1\n",
      ["a.tmpl"] = o.template or "x={{.x}}\n" } }
end

local function message_of(answer)
  return answer.errors and answer.errors[1] and answer.errors[1].message or ""
end

local function put(d, config)
  d.dir:save("a.yaml", config)
  return d:reload()
end

-- The live file, and nothing was applied since.
local function stays(d, text)
  assert.equal(text, d.dir:read "out/a.conf")
  assert.equal("run\n", d.dir:read "runs")
  assert.equal(text, d.dir:read "applied")
end

describe("a file of a template", function()
  after_each(segue.cleanup)

  it("is rendered from the module's part of the configuration, with kinds of numbers", function()
    local d = start { config = [[
web: { i: 1000000, f: 1000000.0, big: 9007199254740993, list: [b, a], map: { z: 1, a: ~ } }
]], template = "{{.i}} {{.f}} {{.big}} {{range .list}}{{.}}{{end}} {{.map}} {{.map.none}}\n" }
    assert.equal("1000000 1e+06 9007199254740993 ba map[a:<nil> z:1] <no value>\n",
      d.dir:read "out/a.conf")
  end)

  it("has functions, delimiters and a mode of missing keys as its options say", function()
    local d = start { config = "web:\n  x: 1\nservices:\n  api: [{ ID: one }]\n",
      file = [[functions = "consul-template", missingkey = "error", left_delimiter = "<%",
        right_delimiter = "%>",]],
      template = [[<% range service "api" %><% .ID | toUpper %><% end %> {{<% .x %>}}]] }
    assert.equal("ONE {{1}}", d.dir:read "out/a.conf")
    d.dir:save("a.tmpl", "<% .none %>")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.matches('template: a.tmpl:1:3: executing "a.tmpl" at <.none>: '
      .. 'map has no entry for key "none"', message_of(answer), 1, true)
    stays(d, "ONE {{1}}")
  end)

  it("rejects a reload that it cannot be rendered from, with the places", function()
    local d = start()
    assert.equal(200, (put(d, "web:\n  x:\n    y: 1\n")))
    d.dir:save("a.tmpl", "one\n{{.x.y.z}}\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    local e = answer.errors[1]
    assert.matches("template: a%.tmpl:2:4: executing \"a%.tmpl\" at <%.x%.y%.z>: can't evaluate",
      e.message)
    assert.matches("/a%.tmpl$", e.file)
    assert.equal(2, e.line)
    assert.equal("web.x.y", e.path)
    assert.equal("x=map[y:1]\n", d.dir:read "out/a.conf")
    for text, pattern in pairs { ["{{if}}"] = "template: a.tmpl:1: missing value for if",
        ["{{nofunction}}"] = [[template: a.tmpl:1: function "nofunction" not defined]],
        ["{{index .list 9}}"] = "template: a.tmpl:1:2: executing" } do
      d.dir:save("a.tmpl", text)
      status, answer = put(d, "web:\n  list: [1]\n")
      assert.equal(422, status)
      assert.matches(pattern, message_of(answer), 1, true)
    end
    assert.equal("x=map[y:1]\n", d.dir:read "applied")
  end)

  it("names path and place of a value that does not fit", function()
    local d = start()
    d.dir:save("a.tmpl", "{{range .list}}{{.name.first}}{{end}}")
    local status, answer = put(d, "web:\n  list:\n    - name: { first: a }\n    - name: b\n")
    assert.equal(422, status)
    local e = answer.errors[1]
    assert.matches("a%.tmpl:1:%d+: executing", e.message)
    assert.matches("%(the value is from .*a%.yaml:4:%d+%)", e.message)
    assert.equal("web.list[1].name", e.path)
    stays(d, "x=1\n")
  end)

  it("does not show a secret in the message of its error", function()
    local d = start { template = "{{if .password}}{{parseInt .password}}{{end}}" }
    local status, answer, text = put(d, "web:\n  password: correct-horse-battery\n")
    assert.equal(422, status)
    assert.matches("parseInt", message_of(answer))
    assert.not_matches("horse", (text or "") .. message_of(answer))
    assert.not_matches("horse", d:log())
    d.dir:save("a.tmpl", "{{.password.x}}")
    status, answer = d:reload()
    assert.equal(422, status)
    assert.not_matches("horse", message_of(answer) .. d:log())
  end)

  it("goes live when its template changes, and only then is applied again", function()
    local d = start { triggers = [[segue.watch()]] }
    stays(d, "x=1\n")
    d.dir:save("a.tmpl", "y={{.x}}\n")
    wait.until_true(function() return d.dir:read "runs" == "run\nrun\n" end, nil,
      function() return d:log() end)
    assert.equal("y=1\n", d.dir:read "applied")
  end)

  it("returns with a rollback as the generation had it", function()
    local d = start()
    d.dir:save("a.tmpl", "y={{.x}}\n")
    assert.equal(200, (d:reload()))
    assert.equal("y=1\n", d.dir:read "applied")
    local result = d:cli("rollback", "1")
    assert.equal(0, result.code, result:describe())
    assert.equal("x=1\n", d.dir:read "applied")
    assert.equal("y={{.x}}\n", d.dir:read "a.tmpl")
  end)

  it("has an end where it runs without one", function()
    local d = segue.start { policy = policy:gsub("@(%u+)@",
        { FILE = "", TRIGGERS = [[segue.signal "HUP"]] }),
      env = { SEGUE_TEST_RENDER_MS = "300" },
      files = { ["a.yaml"] = "web:\n  x: 1\n", ["a.tmpl"] = "x={{.x}}\n" } }
    d.dir:save("a.tmpl", [[{{define "t"}}{{range loop 1000000}}{{template "u"}}{{end}}{{end}}]]
      .. [[{{define "u"}}{{range loop 1000000}}{{end}}{{end}}{{template "t"}}]])
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("template: a%.tmpl:1:%d+: executing .* used more than 0%.3 s of CPU time",
      message_of(answer))
    stays(d, "x=1\n")
    d.dir:save("a.tmpl", "z={{.x}}\n")
    assert.equal(200, (d:reload()))
    assert.equal("z=1\n", d.dir:read "out/a.conf")
  end)

  it("ends by its limit where the daemon stops meanwhile, and nothing is touched", function()
    local d = segue.start { policy = policy:gsub("@(%u+)@",
        { FILE = "", TRIGGERS = [[segue.signal "HUP"]] }),
      env = { SEGUE_TEST_RENDER_MS = "500" },
      files = { ["a.yaml"] = "web:\n  x: 1\n", ["a.tmpl"] = "x={{.x}}\n" } }
    -- The template reads a pipe: the spec knows that it runs once the pipe has a reader.
    assert.equal(0, process.run({ "mkfifo", d.dir:at "pipe" }).code)
    d.dir:save("a.tmpl", ('{{file %q}}{{range loop 1000000}}{{range loop 1000000}}{{end}}{{end}}')
      :format(d.dir:at "pipe"))
    d:signal "hup"
    local fd = wait.until_true(function()
      return uv.fs_open(d.dir:at "pipe", bit.bor(uv.constants.O_WRONLY, uv.constants.O_NONBLOCK), 0)
    end)
    uv.fs_close(fd)
    d:stop()
    stays(d, "x=1\n")
  end)

  it("is a mistake of the policy where it is missing or has options that do not fit", function()
    for file, pattern in pairs {
      ["content = function() return '' end"] = "content cannot stand beside template",
      ["functions = 'confed'"] = "confd",
      ["missingkey = 'zerro'"] = "zero" } do
      local d = segue.folder { policy = policy:gsub("@(%u+)@", { FILE = file,
        TRIGGERS = [[segue.signal "HUP"]] }), files = { ["a.yaml"] = "web: { x: 1 }\n",
        ["a.tmpl"] = "" } }
      local result = d:cli "check"
      assert.equal(3, result.code, result:describe())
      assert.matches(pattern, result.stderr .. result.stdout, 1, true)
    end
    for from, pattern in pairs { ['template = "a.tmpl"'] = "needs the option template or content",
      ['template = "a.tmpl", '] = "needs the option template or content" } do
      local text = policy:gsub("@(%u+)@", { FILE = [[missingkey = "zero"]],
        TRIGGERS = [[segue.signal "HUP"]] })
      local at, to = text:find(from, 1, true)
      local d = segue.folder { policy = text:sub(1, at - 1) .. text:sub(to + 1):gsub("^,", ""),
        files = { ["a.yaml"] = "web: { x: 1 }\n" } }
      local result = d:cli "check"
      assert.equal(3, result.code, result:describe())
      assert.matches(pattern, result.stderr .. result.stdout, 1, true)
      assert.matches("has an effect only with template", result.stderr .. result.stdout, 1, true)
    end
    local d = segue.folder { policy = policy:gsub("@(%u+)@", { FILE = "",
      TRIGGERS = [[segue.signal "HUP"]] }), files = { ["a.yaml"] = "web: { x: 1 }\n" } }
    local result = d:cli "check"
    assert.is_true(result.code ~= 0)
    assert.matches("a%.tmpl", result.stderr .. result.stdout)
  end)
end)

describe("nginx behind a template", function()
  after_each(nginx.cleanup)

  it("serves what the template renders, and keeps its files where the template fails", function()
    local d = nginx.behind([[
      config = "upstreams",
      files = { { template = "upstreams.tmpl", to = "conf.d/upstreams.conf", mode = "0644" } },
      check = { "nginx", "-t", "-p", ".", "-c", "nginx.conf" },
      apply = { "nginx", "-s", "reload", "-p", ".", "-c", "nginx.conf" }, timeout = "10s",
]], { ["a.yaml"] = "upstreams: [{ name: one, text: first }]\n",
      ["upstreams.tmpl"] = [[
server { listen 127.0.0.1:@PORT@;
{{- range .}}
  location /{{.name}} { return 200 {{.text}}; }
{{- end}}
}
]], ["conf.d/upstreams.conf"] = nginx.site })
    local function serves(path, text) nginx.serves(d, path, text) end
    serves("/one", "first")
    assert.equal(200, (put(d, "upstreams: [{ name: two, text: second }]\n")))
    serves("/two", "second")
    local before = d.dir:read "conf.d/upstreams.conf"
    local status, answer = put(d, "upstreams: [{ name: two, text: second }, three]\n")
    assert.equal(422, status)
    assert.matches("template: upstreams%.tmpl:3:%d+: executing", message_of(answer))
    assert.equal(before, d.dir:read "conf.d/upstreams.conf")
    serves("/two", "second")
    status, answer = put(d, "upstreams: [{ name: two, text: \"second oops\" }]\n")
    assert.equal(422, status)
    assert.matches("invalid number of arguments in \"return\" directive", message_of(answer))
    serves("/two", "second")
  end)
end)

-- SPDX-License-Identifier: MIT
-- `segue import`: what it writes is a policy that runs, and its report names each setting that is
-- not carried over.
local cjson = require "cjson"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local function folder(files)
  local dir = tempdir.new()
  for name, text in pairs(files) do
    dir:write(name, (text:gsub("@DIR@", dir.path)))
  end
  return dir
end

local function import(dir, ...)
  return segue.cli({ "import", ... }, { cwd = dir.path })
end

local function started(dir, policy, env)
  local d = segue.folder { dir = dir, policy = dir:read(policy), env = env }
  d:spawn()
  d:wait_log "generation 1 is live"
  return d
end

-- The notes of a report, without the name of the folder.
local function notes(result)
  local list = {}
  for line in result.stdout:gmatch "[^\n]+" do
    if line:match ":%d+: " then list[#list + 1] = line:gsub("^[^:]*/", "") .. "" end
  end
  return list
end

local confd = {
  ["confd/confd.toml"] = [[
backend = "etcdv3"
nodes = ["http://127.0.0.1:2379"]
interval = 60
log-level = "debug"
prefix = "/prod"
]], ["confd/conf.d/nginx.toml"] = [[
[template]
src = "nginx.tmpl"
dest = "@DIR@/live/nginx.conf"
mode = "0640"
prefix = "/other"
keys = ["/port", "/hosts"]
check_cmd = "grep -q listen {{ .src }}"
reload_cmd = "cat @DIR@/live/nginx.conf >> @DIR@/applied"
]], ["confd/templates/nginx.tmpl"] = 'listen {{getv "/port"}};{{range gets "/hosts/*"}} '
    .. '{{base .Key}}={{.Value}}{{end}}\n' }

local function with(files, changes)
  local all = {}
  for name, text in pairs(files) do all[name] = text end
  for name, text in pairs(changes) do all[name] = text or nil end
  return all
end

describe("segue import confd", function()
  after_each(segue.cleanup)

  it("writes a policy that renders, checks and applies as confd did", function()
    local dir = folder(confd)
    local result = import(dir, "confd", "confd")
    assert.equal(0, result.code, result:describe())
    assert.same({
      'confd.toml:1: backend = "etcdv3": is not carried over: the keys are read from keys.yaml, '
        .. "which has none yet",
      "confd.toml:2: nodes: belongs to the connection to the backend: set it where the keys come "
        .. "from",
      "confd.toml:4: log-level: start the daemon with: segue run --log-level debug",
      'nginx.toml:5: prefix = "/other": has no effect, as in confd: the prefix of confd.toml '
        .. "replaces it" }, notes(result))
    assert.matches("#   /prod/port\n", dir:read "keys.yaml", 1, true)
    dir:write("keys.yaml", "prod: { port: 80, hosts: { a: 10.0.0.1, b: 10.0.0.2 } }\n")
    started(dir, "reload.lua")
    assert.equal("listen 80; a=10.0.0.1 b=10.0.0.2\n", dir:read "live/nginx.conf")
    assert.equal(dir:read "live/nginx.conf", dir:read "applied")
    assert.equal(tonumber("640", 8), uv.fs_stat(dir:at "live/nginx.conf").mode % 512)
  end)

  it("names no line for a setting that stands in none", function()
    local without = { ["confd/conf.d/nginx.toml"] = confd["confd/conf.d/nginx.toml"] }
    for path, text in pairs(confd) do
      if path:find "templates" then without[path] = text end
    end
    local dir = folder(without)
    local result = import(dir, "confd", "confd")
    assert.equal(0, result.code, result:describe())
    assert.matches('\nconfd: backend = "etcd", the default: is not carried', result.stdout, 1, true)
    assert.not_matches("confd.toml:", result.stdout, 1, true)
    result = import(dir, "--json", "confd", "confd", "other")
    assert.equal(0, result.code, result:describe())
    assert.matches('"file":"confd","line":null,', result.stdout, 1, true)
  end)

  it("carries over what the settings mean", function()
    local dir = folder(with(confd, {
      ["confd/confd.toml"] = 'backend = "file"\nfile = ["/etc/a.yaml", "@DIR@/confd", "b.yaml"]\n'
        .. "watch = true\nonetime = true\nother = 1\n",
      ["confd/conf.d/nginx.toml"] = '[template]\nsrc = "sub/a.tmpl"\ndest = "live/a"\nuid = 0\n'
        .. 'gid = 5\nmode = "644"\nprefix = "/my/2app"\nreload_cmd = "x {{.dest}}"\n'
        .. "[other]\n",
      ["confd/conf.d/ignored.txt"] = "not TOML", ["confd/templates/sub/a.tmpl"] = "text" }))
    local result = import(dir, "confd", "confd/", "out")
    assert.equal(0, result.code, result:describe())
    local policy = dir:read "out/reload.lua"
    for _, text in ipairs { 'segue.file "/etc/a.yaml"', '/confd/*.{yaml,yml,json}"',
      'segue.file "b.yaml"', 'mode = "0644"', 'owner = "0:5"', 'keys = "my.2app"',
      'template = "templates/sub/a.tmpl"' } do
      assert.matches(text, policy, 1, true)
    end
    assert.not_matches("segue.poll", policy, 1, true)
    assert.equal("text", dir:read "out/templates/sub/a.tmpl")
    assert.is_nil(dir:read "out/keys.yaml")
    local text = table.concat(notes(result), "\n")
    for _, note in ipairs { 'confd.toml:2: file = "b.yaml": differs: a relative path begins at',
      "confd.toml:4: onetime: is not carried over", "confd.toml:5: other: is not carried over: it "
      .. "is no known setting of confd", 'nginx.toml:3: dest = "live/a": differs',
      'nginx.toml:6: mode = "644": differs: confd reads a mode without a leading 0 as a decimal',
      "nginx.toml:8: reload_cmd: differs: nothing is replaced in apply",
      "nginx.toml:9: [other]: is not carried over" } do
      assert.matches(note, text, 1, true)
    end
    local checked = segue.cli({ "check", "-c", "out" }, { cwd = dir.path })
    assert.not_matches("option", checked.stderr)
  end)

  it("names the place of a mistake, and writes nothing", function()
    for _, case in ipairs {
      { "confd/confd.toml", "interval = 'x'", 3,
        'confd.toml:1: interval needs a number, not "x"' },
      { "confd/confd.toml", "a =", 3, "confd.toml:1: expected a value, found the end of the file" },
      { "confd/conf.d/nginx.toml", "a = 1", 3, "nginx.toml:1: the table [template] is missing" },
      { "confd/conf.d/nginx.toml", "[template]\ndest = '/a'", 3,
        "nginx.toml:1: src is missing in [template]" },
      { "confd/conf.d/nginx.toml", "[template]\nsrc = 'a'\ndest = '/a'\nmode = 'rw'", 3,
        'nginx.toml:4: mode needs a text such as "0644"' },
      { "confd/conf.d/nginx.toml", "[template]\nsrc = 'none'\ndest = '/a'", 4,
        "templates/none: no such file or directory" },
      { "confd/conf.d/nginx.toml", false, 4, "conf.d: no such file or directory" },
      { "reload.lua", "mine", 4, "reload.lua: it exists already" },
      { "keys.yaml", "mine", 4, "keys.yaml: it exists already" } } do
      local dir = folder(with(confd, { [case[1]] = case[2] }))
      local result = import(dir, "confd", "confd")
      assert.equal(case[3], result.code, result:describe())
      assert.matches(case[4], result.stderr, 1, true)
      assert.is_nil(uv.fs_stat(dir:at "templates"))
      assert.equal(case[1] == "reload.lua" and "mine" or nil, dir:read "reload.lua")
    end
  end)

  it("reports in JSON too", function()
    local dir = folder(confd)
    local result = import(dir, "--json", "confd", "confd")
    local report = cjson.decode(result.stdout)
    assert.same({ "reload.lua", "templates/nginx.tmpl", "keys.yaml" }, report.written)
    assert.equal(4, #report.notes)
    assert.equal("nodes", report.notes[2].setting)
    assert.equal(2, report.notes[2].line)
    local again = cjson.decode(import(dir, "--json", "confd", "confd").stdout)
    assert.equal(4, again.exit_code)
    assert.matches("reload.lua: it exists already", again.error, 1, true)
  end)
end)

local consul = [=[
consul { address = "127.0.0.1:8500" }
log_level = "WARN"
default_left_delimiter = "[["
default_right_delimiter = "]]"
template {
  source = "@DIR@/a.ctmpl"
  destination = "@DIR@/live/a"
  left_delimiter = "{{"
  right_delimiter = "}}"
  perms = 0600
  backup = true
  command = "echo run >> @DIR@/runs"
}
template {
  contents = <<-EOF
    x=[[ key "x" ]]
  EOF
  destination = "@DIR@/live/b"
  error_on_missing_key = true
  wait { min = "2s" max = "4s" }
  exec { command = ["sh", "-c", "echo run >> @DIR@/runs"] timeout = "1m" }
}
template {
  source = "@DIR@/a.ctmpl"
  destination = "@DIR@/live/c"
  left_delimiter = "{{"
  right_delimiter = "}}"
  command = "echo run >> @DIR@/runs"
}
]=]

describe("segue import consul-template", function()
  after_each(segue.cleanup)

  it("writes a policy that renders and runs each command once for all its files", function()
    local dir = folder { ["a.hcl"] = consul,
      ["a.ctmpl"] = '{{range service "api"}}{{.Address}}:{{.Port}} {{end}}\n' }
    local result = import(dir, "consul-template", "a.hcl", "out")
    assert.equal(0, result.code, result:describe())
    assert.same({ "a.hcl:1: consul: is not carried over: it belongs to the connection to the "
      .. "server, and the templates read data.yaml",
      "a.hcl:2: log_level: start the daemon with: segue run --log-level warn",
      "a.hcl:20: wait: is not carried over: changes that come close together are one reload" },
      notes(result))
    dir:write("out/data.yaml",
      "services: { api: [{ ID: a, Address: 10.0.0.1, Port: 80 }] }\nx: 3\n")
    local out = { path = dir:at "out" }
    local d = segue.folder { dir = setmetatable(out, getmetatable(dir)) }
    d:spawn()
    d:wait_log "generation 1 is live"
    assert.equal("10.0.0.1:80 \n", dir:read "live/a")
    assert.equal("10.0.0.1:80 \n", dir:read "live/c")
    assert.equal("  x=3\n", dir:read "live/b")
    assert.equal("run\nrun\n", dir:read "runs")
    assert.equal(tonumber("600", 8), uv.fs_stat(dir:at "live/a").mode % 512)
    local policy = dir:read "out/reload.lua"
    for _, text in ipairs { "backups = 1", 'missingkey = "error"', 'left_delimiter = "[["',
      'timeout = "60s"', 'timeout = "30s"' } do
      assert.matches(text, policy, 1, true)
    end
    assert.equal(2, select(2, policy:gsub('kind = "files"', "")))
    assert.equal(2, select(2, policy:gsub('template = "templates/a.ctmpl"', "")))
  end)

  it("names each function of a template that is not supported, with its line", function()
    local dir = folder { ["a.hcl"] = 'template { source = "a.tmpl" destination = "/a" }\n'
      .. 'template { contents = "<< caRoots >>" left_delimiter = "<<" right_delimiter = ">>"\n'
      .. 'destination = "/b" }',
      ["a.tmpl"] = 'caRoots\n{{ "pkiCert" }}{{ .plugin }}\n{{/* x\n*/}}\n'
      .. '{{ with\nsecret "a" }}{{ . | writeToFile "/x" }}{{ end }}\n' }
    local result = import(dir, "consul-template", "a.hcl", "out")
    assert.equal(0, result.code, result:describe())
    assert.same({ "a.tmpl:6: writeToFile: is not supported: it writes files",
      "a.hcl:2: caRoots: is not supported: certificates of Consul Connect" }, notes(result))
  end)

  it("carries over the child that consul-template starts", function()
    local dir = folder { ["a.hcl"] = [=[
exec {
  command = "echo it's up > up; exec sleep 1000"
  splay = "5s"
  reload_signal = "SIGUSR1"
  kill_signal = "SIGINT"
  kill_timeout = "2s"
  env { pristine = true custom = ["MODE=live it", "B="] }
}
template { contents = "x={{ key \"x\" }}" destination = "live/a" }
]=] }
    local result = import(dir, "consul-template", "a.hcl", "out")
    assert.equal(0, result.code, result:describe())
    assert.same({ "a.hcl:1: exec: start it with: segue exec -c reload.lua -- sh -c "
      .. "'echo it'\\''s up > up; exec sleep 1000'",
      "a.hcl:7: pristine: is not carried over: the child has the environment of segue, "
      .. "and env_from",
      'a.hcl:9: destination = "live/a": differs: a relative path begins at the folder of '
      .. "reload.lua, not at the current folder" }, notes(result))
    local policy = dir:read "out/reload.lua"
    for _, text in ipairs { 'splay = "5s"', 'reload_signal = "USR1"', 'kill_signal = "INT"',
      'kill_timeout = "2s"', 'env = { MODE = "live it", B = "" }' } do
      assert.matches(text, policy, 1, true)
    end
    dir:write("out/data.yaml", "x: 3\n")
    local checked = segue.cli({ "check", "-c", dir:at "out/reload.lua" })
    assert.equal(0, checked.code, checked:describe())
  end)

  it("reads JSON, and all files of a folder", function()
    local dir = folder { ["c/a.json"] = '{ "template": [{ "contents": "a", "destination": "/a" },'
      .. '{ "contents": "b", "destination": "/b", "user": "www", "perms": "0600" }] }',
      ["c/b.hcl"] = 'reload_signal = "SIGUSR1"\ntemplate { contents = "c" destination = "/c" }' }
    local result = import(dir, "consul-template", "c", "out")
    assert.equal(0, result.code, result:describe())
    local policy = dir:read "out/reload.lua"
    for _, text in ipairs { 'to = "/a"', 'to = "/b"', 'to = "/c"', 'owner = "www"',
      'segue.signal "USR1"' } do
      assert.matches(text, policy, 1, true)
    end
  end)

  it("names the place of a mistake, and writes nothing", function()
    for text, message in pairs {
      ["template {\n"] = "a.hcl:2: } is missing: the block began in line 1",
      ["template { contents = \"a\" }"] = "a.hcl:1: destination is missing in template",
      ["template { destination = \"/a\" }"] = "a.hcl:1: template needs source or contents",
      ["\ntemplate = 1"] = "a.hcl:2: template needs a block, not 1",
      ["\ntemplate { destination = \"/a\"\ncontents = \"x\"\nperms = \"rw\" }"] =
        'a.hcl:4: perms needs a mode such as 0644, not "rw"',
      ["template { destination = \"/a\"\ncontents = \"x\"\ncommand_timeout = \"soon\" }"] =
        'a.hcl:3: command_timeout needs a duration such as "30s", not "soon"',
      ["log_level = \"info\""] = "a.hcl: there is no template in it" } do
      local dir = folder { ["a.hcl"] = text }
      local result = import(dir, "consul-template", "a.hcl")
      assert.equal(3, result.code, result:describe())
      assert.matches(message, result.stderr, 1, true)
      assert.is_nil(dir:read "reload.lua")
    end
  end)
end)

describe("segue import", function()
  it("names the programs that it knows", function()
    local result = segue.cli { "import", "confdd", "/etc/confd" }
    assert.equal(2, result.code)
    assert.matches("cannot read the configuration of 'confdd': it reads confd and consul-template."
      .. " Did you mean confd?", result.stderr, 1, true)
    assert.equal(2, segue.cli({ "import", "confd" }).code)
  end)
end)

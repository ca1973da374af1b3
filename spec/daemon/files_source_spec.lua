-- SPDX-License-Identifier: MIT
-- Templates whose functions read one source by its name instead of the merged configuration.
local segue = require "spec.support.segue"
local web = require "spec.support.web"

local function policy(files, o)
  return ([[
local segue = require "segue"
return {
  sources = { segue.dir "base/*.yaml", segue.file "over.yaml" },
  triggers = { segue.signal "HUP" }, secrets = { "**.password" }, %s
  modules = { web = { kind = "files", config = "web", wait = "50ms", files = { %s },
    apply = "echo run >> runs" } },
}]]):format(o and o.more or "", files)
end

local function file(i, options)
  return ('{ to = "out/%d.conf", template = "%d.tmpl", %s },\n'):format(i, i, options)
end

-- options: of each file; o: templates, base, second, over, more, files
local function files_of(options, o)
  local list = {}
  for i, text in ipairs(options) do list[i] = file(i, text) end
  local files = { ["base/1.yaml"] = o.base, ["base/2.yaml"] = o.second or "two: { x: 1 }\n",
    ["over.yaml"] = o.over }
  for i, text in ipairs(o.templates) do files[i .. ".tmpl"] = text end
  for name, text in pairs(o.files or {}) do files[name] = text end
  return { policy = policy(table.concat(list), o), files = files }
end

local function put(d, files)
  for name, text in pairs(files) do d.dir:save(name, text) end
  return d:reload()
end

local function count(d)
  return tonumber(d:control { path = "/metrics" }.body:match
    'segue_templates_rendered_total{module="web"} (%d+)')
end

local BASE = [[source = "base/*.yaml"]]

describe("a template with the name of a source", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  it("reads what that source delivered, all of its documents and nothing else", function()
    local text = '{{key "app/port"}} {{key "two/x"}} {{keyOrDefault "web/y" "none"}} {{.y}}'
    local d = segue.start(files_of({ BASE, "", [[source = "over.yaml"]],
      [[source = "base/*.yaml", keys = "app"]] },
      { base = "app: { port: 80 }\n", over = "app: { port: 81, only: 1 }\nweb: { y: 2 }\n",
        templates = { text, text, '{{range ls "app"}}{{.Key}}={{.Value}} {{end}}',
          '{{range ls ""}}{{.Key}}={{.Value}} {{end}}' } }))
    assert.equal("80 1 none 2", d.dir:read "out/1.conf")
    assert.equal("81 1 2 2", d.dir:read "out/2.conf")
    assert.equal("only=1 port=81 ", d.dir:read "out/3.conf")
    assert.equal("port=80 ", d.dir:read "out/4.conf")
  end)

  it("is rendered again where its source changed, and only then", function()
    local d = segue.start(files_of({ BASE }, { base = "app: { port: 80, other: 1 }\n",
      over = "app: { port: 81 }\n", templates = { '{{key "app/port"}} {{key "two/x"}}' } }))
    assert.equal("80 1", d.dir:read "out/1.conf")
    -- Of the other source, and of the source itself, but not read.
    assert.equal(200, (put(d, { ["over.yaml"] = "app: { port: 82 }\n" })))
    assert.equal(200, (put(d, { ["base/1.yaml"] = "app: { port: 80, other: 2 }\n" })))
    assert.equal(1, count(d))
    -- The merged configuration is the same: the other source is over this value.
    assert.equal(200, (put(d, { ["base/1.yaml"] = "app: { port: 90, other: 2 }\n" })))
    assert.equal("90 1", d.dir:read "out/1.conf")
    assert.equal(2, count(d))
    assert.equal(200, (put(d, { ["base/2.yaml"] = "two: { x: 2 }\n" })))
    assert.equal("90 2", d.dir:read "out/1.conf")
  end)

  it("holds the set where its source lacks a value that another one has", function()
    local d = segue.start(files_of({ BASE }, { base = "app: { port: 80 }\n",
      over = "app: { port: 81 }\n", templates = { '{{key "app/port"}}' } }))
    local _, answer = put(d, { ["base/1.yaml"] = "app: { other: 1 }\n" })
    assert.equal("held", answer.outcome)
    assert.matches("app/port", answer.errors[1].message)
    assert.equal("80", d.dir:read "out/1.conf")
  end)

  it("does not show a secret that another source is over", function()
    local d = segue.start(files_of({ BASE }, { base = "db: { password: correct-horse-battery }\n",
      over = "db: { password: other-secret-value }\n",
      templates = { '{{key "db/password"}}\n' } }))
    assert.equal("correct-horse-battery\n", d.dir:read "out/1.conf")
    d.dir:save("base/1.yaml", "db: { password: staple-of-horses }\n")
    local plan = d:cli "plan"
    assert.equal(0, plan.code, plan:describe())
    assert.matches("%+%*%*%*", plan.stdout)
    assert.not_matches("horse", plan.stdout .. plan.stderr)
    d.dir:save("1.tmpl", '{{parseInt (key "db/password")}}')
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.not_matches("horse", answer.errors[1].message .. d:log())
  end)

  it("returns with a rollback, also where a schema gives defaults", function()
    local d = segue.start(files_of({ BASE }, { base = "app: { port: 80 }\n",
      over = "app: { port: 81 }\n", templates = { '{{key "app/port"}} {{.size}}' },
      more = [[schema = { path = "schema.json", defaults = true },]],
      files = { ["schema.json"] = [[{ "properties": { "web": { "default": {},
        "properties": { "size": { "default": 7 } } } } }]] } }))
    assert.equal("80 7", d.dir:read "out/1.conf")
    assert.equal(200, (put(d, { ["base/1.yaml"] = "app: { port: 90 }\n" })))
    assert.equal("90 7", d.dir:read "out/1.conf")
    -- The generation comes from the history, not from memory.
    d:stop()
    d:spawn()
    d:wait_ready()
    local result = d:cli("rollback", "1")
    assert.equal(0, result.code, result:describe())
    assert.equal("80 7", d.dir:read "out/1.conf")
  end)

  it("reads a remote source, also from its cache where the server is gone", function()
    local nginx = web.nginx()
    nginx.dir:write("www/remote.yaml", "app: { port: 80 }\n")
    local d = segue.start { files = { ["over.yaml"] = "app: { port: 1, only: 2 }\n",
      ["1.tmpl"] = '{{key "app/port"}} {{keyOrDefault "app/only" "none"}}' },
      policy = ([[
local segue = require "segue"
return {
  sources = { segue.url { "%s/remote.yaml", name = "remote", timeout = "5s",
    retry = { min = "20ms", max = "50ms" } }, segue.file "over.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", config = "web", wait = "50ms", files = {
    { to = "out/1.conf", template = "1.tmpl", source = "remote" } } } },
}]]):format(nginx.url) }
    assert.equal("80 none", d.dir:read "out/1.conf")
    nginx.dir:write("www/remote.yaml", "app: { port: 8080, x: 1 }\n")
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal("8080 none", d.dir:read "out/1.conf")
    assert.equal(2, count(d))
    -- A value that the template does not read.
    nginx.dir:write("www/remote.yaml", "app: { port: 8080, x: 20 }\n")
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal(2, count(d))
    d:stop()
    web.cleanup()
    d.dir:save("1.tmpl", 'port {{key "app/port"}}')
    d:spawn()
    d:wait_ready()
    assert.equal("port 8080", d.dir:read "out/1.conf")
  end)

  it("is a mistake of the policy where there is no such source", function()
    local d = segue.folder(files_of({ [[source = "basse/*.yaml"]] },
      { base = "", over = "app: {}\n",
      templates = { "" } }))
    local result = d:cli "check"
    assert.equal(3, result.code, result:describe())
    assert.matches("there is no source 'basse/*.yaml': did you mean 'base/*.yaml'?",
      result.stdout .. result.stderr, 1, true)
  end)
end)

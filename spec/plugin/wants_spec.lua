-- SPDX-License-Identifier: MIT
-- Templates that request values that are not there yet: sources that deliver on demand get the
-- names, in C and in Lua, and the set is held meanwhile.
local plugin = require "spec.support.plugin"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local SOURCES = {
  C = [[segue.source { name = "net", plugin = "./lazy.so", options = { folder = "store" } }]],
  Lua = [==[segue.source { name = "net",
    want = function(self, names)
      self.wanted = names
      local before = segue.read "store/names" or ""
      segue.write("store/names", before .. table.concat(names, " ") .. "\n")
    end,
    fetch = function(self)
      local value = { always = 1 }
      for _, name in ipairs(self.wanted or {}) do
        local text = segue.read("store/" .. name:gsub("/", "."))
        local at, keys = value, {}
        for key in name:gmatch "[^/]+" do keys[#keys + 1] = key end
        for i = 1, text and #keys - 1 or 0 do
          at[keys[i]] = at[keys[i]] or {}
          at = at[keys[i]]
        end
        local id = text and text:match "ID: (%w+)"
        if text then at[keys[#keys]] = id and { { ID = id } } or text end
      end
      return value
    end }]==],
}

local POLICY = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml", @SOURCE@ },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", config = "web", wait = "@WAIT@",
    files = { { to = "out/a.conf", template = "a.tmpl", functions = "consul-template" } },
    apply = "echo run >> runs" } },
}]]

local dir
before_each(function()
  dir = tempdir.new()
  dir:write("store/names", "")
end)
after_each(function()
  segue.cleanup()
  tempdir.remove_all()
end)

local function start(language, o)
  if language == "C" then plugin.build_file(dir:at "lazy.so", "spec/plugin/lazy_source.c") end
  for name, text in pairs(o.store or {}) do dir:write("store/" .. name, text) end
  local policy = POLICY:gsub("@(%u+)@",
    { SOURCE = SOURCES[language] or "", WAIT = o.wait or "30s" })
  return segue.start { dir = dir, policy = policy,
    files = { ["a.yaml"] = "web: { x: 1 }\nother: 1\n", ["a.tmpl"] = o.template } }
end

local function names(d)
  local out = {}
  for i, want in ipairs(d:json("/api/v1/status").wants) do
    out[i] = want.name .. (want.missing and " missing" or "") .. " " .. want.modules
  end
  return table.concat(out, "; ")
end

-- Live generations that differ.
local function next_generation(d, n)
  d.dir:save("a.yaml", ("web: { x: %d }\nother: 1\n"):format(n))
  assert.equal(200, (d:reload()))
end

for language in pairs(SOURCES) do
  describe("a source in " .. language .. " that delivers on demand", function()
    it("gets the names that templates ask for, also before the first generation", function()
      local d = start(language, { store = { ["services.api"] = "[{ID: one}]" },
        template = '{{range service "api"}}{{.ID}}{{end}} {{.x}}' })
      assert.equal("one 1", d.dir:read "out/a.conf")
      assert.equal("services/api web", names(d))
      assert.matches("wanted +services/api: used by web", d:cli("status").stdout)
      assert.equal("services/api\n", d.dir:read "store/names")
    end)

    it("delivers within the wait of a reload, which is then applied as one", function()
      local d = start(language, { template = "{{.x}}" })
      d.dir:write("store/app.port", "80")
      d.dir:write("store/app.host", "h")
      d.dir:save("a.tmpl",
        '{{key "app/port"}}{{if eq (key "app/port") "80"}}{{key "app/host"}}{{end}}')
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.equal("applied", answer.outcome)
      assert.equal("80h", d.dir:read "out/a.conf")
      assert.equal("run\nrun\n", d.dir:read "runs")
    end)

    it("holds the set where it does not deliver, and names what is missing from where", function()
      local d = start(language, { template = "{{.x}}", wait = "200ms" })
      d.dir:save("a.tmpl", 'half {{key "app/port"}} {{index (service "no") 0}}')
      local status, answer = d:reload()
      assert.equal(409, status)
      assert.equal("held", answer.outcome)
      assert.equal("a.tmpl needs app/port, services/no, which are not there yet: source net",
        answer.errors[1].message)
      assert.equal("1", d.dir:read "out/a.conf")
      assert.equal("app/port missing web; services/no missing web", names(d))
      assert.matches("missing +app/port: used by web", d:cli("status").stdout)
      d.dir:write("store/app.port", "80")
      d.dir:write("store/services.no", "[{ID: two}]")
      d.dir:save("a.tmpl", '{{key "app/port"}} {{(index (service "no") 0).ID}}')
      status = d:reload()
      assert.equal(200, status)
      assert.equal("80 two", d.dir:read "out/a.conf")
    end)

    it("drops a name when no template has used it for three generations", function()
      local d = start(language, { store = { ["app.port"] = "80" },
        template = '{{key "app/port"}}' })
      d.dir:save("a.tmpl", "{{.x}}")
      next_generation(d, 2)
      next_generation(d, 3)
      assert.equal("app/port ", names(d))
      -- The source of the policy that the changed template made got it too.
      assert.equal("app/port\napp/port\n", d.dir:read "store/names")
      next_generation(d, 4)
      assert.equal("", names(d))
      next_generation(d, 5)
      assert.equal("app/port\napp/port\n\n", d.dir:read "store/names")
    end)
  end)
end

describe("a template without a source that delivers on demand", function()
  it("holds the set at once", function()
    local d = start("none", { template = "{{.x}}", wait = "30s" })
    d.dir:save("a.tmpl", '{{key "app/port"}}')
    local status, answer = d:reload()
    assert.equal(409, status)
    assert.matches("a.tmpl needs app/port, which is not there yet: no source of the policy "
      .. "delivers on demand", answer.errors[1].message, 1, true)
    local plan = d:cli "plan"
    assert.equal(6, plan.code, plan:describe())
    assert.equal("app/port missing web", names(d))
    d.dir:save("a.yaml", "web: { x: 1 }\nother: 1\napp: { port: 90 }\n")
    assert.equal(200, (d:reload()))
    assert.equal("90", d.dir:read "out/a.conf")
  end)
end)

-- SPDX-License-Identifier: MIT
-- Every command that knows --json prints JSON and nothing else, also for errors; every command that
-- asks the daemon ends with 5 where none runs. The list of these commands is read from the help.
local cjson = require "cjson"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return { name = "json", sources = { segue.file "config.yaml" }, triggers = {} }
]]

-- Arguments that a command cannot do without.
local arguments = { why = { "a" }, freeze = { "a reason" }, test = { "." }, help = { "options" },
  import = { "confd", "confd", "imported" }, render = { "--dry-run" } }

local function knows(option)
  local names = {}
  for name in segue.cli({ "help" }).stdout:match("Commands:\n(.-)\n\n")
    :gmatch("%f[^\n%z]  (%S+)") do
    local shown = segue.cli({ "help", name }).stdout:match("Options:\n(.*)")
    if shown:find("--" .. option .. " ", 1, true) then names[#names + 1] = name end
  end
  return names
end

describe("--json", function()
  after_each(segue.cleanup)

  local function is_json(d, name, ...)
    local args = { name, "--json", ... }
    for _, arg in ipairs(arguments[name] or {}) do args[#args + 1] = arg end
    if name ~= "version" and name ~= "test" and name ~= "help"
        and name ~= "import" then
      args[#args + 1], args[#args + 2] = "-c", d.dir:at "reload.lua"
    end
    local p = segue.cli(args, { cwd = d.dir.path })
    local ok, value = pcall(cjson.decode, p.stdout)
    assert.is_true(ok, p:describe())
    return p.code, value
  end

  it("is an option of every command that reads", function()
    local names = {}
    for _, name in ipairs(knows "json") do names[name] = true end
    for _, name in ipairs { "check", "plan", "reload", "status", "diff", "history", "why",
        "version", "test" } do
      assert.is_true(names[name], name)
    end
  end)

  it("prints JSON for success", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    d.dir:write("a_spec.lua", "it('passes', function() end)")
    d.dir:write("confd/conf.d/a.toml", '[template]\nsrc = "a.tmpl"\ndest = "a"\n')
    d.dir:write("confd/templates/a.tmpl", "text\n")
    d.dir:write("config.yaml", "a: 2\n")
    assert.equal(200, (d:reload()))
    for _, name in ipairs(knows "json") do
      local code = is_json(d, name)
      local wanted = name == "confirm" and 6 or 0 -- nothing waits to be confirmed
      assert.equal(wanted, code, name)
    end
  end)

  it("prints JSON for an argument that is wrong, also if --json stands behind it", function()
    for _, args in ipairs { { "status", "--nonsense", "--json" }, { "status", "x", "--json" },
        { "history", "--json", "--nonsense" } } do
      local p = segue.cli(args)
      assert.equal(2, p.code)
      assert.is_string(cjson.decode(p.stdout).error, p:describe())
    end
    assert.matches("nonsense", segue.cli({ "status", "--nonsense", "--", "--json" }).stderr)
  end)

  it("is refused by help, except for the topic options", function()
    local p = segue.cli { "help", "--json" }
    assert.equal(2, p.code)
    assert.matches("segue help options", cjson.decode(p.stdout).error)
  end)

  it("prints JSON for a configuration that is rejected, or cannot be read", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    d.dir:write("config.yaml", "a: [\n")
    for _, name in ipairs { "check", "plan", "reload" } do
      assert.equal(3, (is_json(d, name)), name)
    end
    d.dir:delete "config.yaml"
    for _, name in ipairs { "check", "plan", "reload" } do
      local code, answer = is_json(d, name)
      assert.equal(4, code, name)
      assert.matches("config%.yaml", answer.errors[1].message)
    end
    assert.equal(0, (is_json(d, "status")))
  end)
end)

describe("a command without its daemon", function()
  after_each(segue.cleanup)

  it("ends with 5 and names the command to start; a plan is made without a daemon", function()
    local d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    local count = 0
    for _, name in ipairs(knows "socket") do
      if name ~= "run" and name ~= "exec" and name ~= "render" then -- these need no daemon
        local p = d:cli(name, unpack(arguments[name] or {}))
        assert.equal(name == "plan" and 0 or 5, p.code, p:describe())
        if name ~= "plan" then assert.matches("segue run", p.stderr) end
        count = count + 1
      end
    end
    assert.is_true(count > 8)
  end)

  it("ends with 2 for an option that it does not have", function()
    for _, name in ipairs(knows "help") do
      local p = segue.cli { name, "--nonsense" }
      assert.equal(2, p.code, p:describe())
      assert.matches("has no option %-%-nonsense", p.stderr)
    end
  end)
end)

-- SPDX-License-Identifier: MIT
-- `segue render -c`: the files of a policy without a daemon.
local cjson = require "cjson"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" }, triggers = { segue.signal "HUP" }, secrets = { "pw" },
  modules = { web = { kind = "files", check = "! grep -q bad {staged:out/a.conf}",
    apply = "echo run >> runs; test ! -e fail",
    files = { { to = "out/a.conf", mode = "0600", template = "a.tmpl" } } } },
}]]

local function folder(source)
  return segue.folder { policy = policy, files = {
    ["a.yaml"] = source or "host: alpha\npw: hunter2hunter\n",
    ["a.tmpl"] = "host {{.host}}\npassword {{.pw}}\n" } }
end

local text = "host alpha\npassword hunter2hunter\n"

describe("the files of a policy without a daemon", function()
  after_each(segue.cleanup)

  it("are shown as differences by --dry-run, and not touched", function()
    local d = folder()
    local answer = d:cli("render", "--dry-run")
    assert.equal(0, answer.code, answer.output)
    assert.matches("^  file     web +[^\n]*/out/a.conf: new, %+2 %-0 lines, 34 bytes, mode 0600\n"
      .. ".*\n%+host alpha\n%+password %*%*%*\n$", answer.stdout)
    assert.is_nil(d.dir:read "out/a.conf")
    assert.is_nil(d.dir:read "runs")
  end)

  it("are shown as JSON by --dry-run --json; the code is 0 with and without changes", function()
    local d = folder()
    local answer = d:cli("render", "--dry-run", "--json")
    assert.equal(0, answer.code, answer.output)
    local result = cjson.decode(answer.stdout)
    assert.same({ "applied", "web", d.dir:at "out/a.conf", cjson.null, 34 }, { result.outcome,
      result.files[1].module, result.files[1].path, result.files[1].before,
      result.files[1].after.size })
    assert.matches("\n%+password %*%*%*\n", result.files[1].diff)
    assert.equal(0, d:cli("render", "--once").code)
    answer = d:cli("render", "--dry-run", "--json")
    assert.same({ 0, {} }, { answer.code, cjson.decode(answer.stdout).files })
    answer = d:cli("render", "--dry-run")
    assert.same({ 0, "no file would change\n" }, { answer.code, answer.stdout })
    d.dir:save("a.yaml", "host: bad\npw: hunter2hunter\n")
    answer = d:cli("render", "--dry-run", "--json")
    assert.same({ 3, "rejected" }, { answer.code, cjson.decode(answer.stdout).outcome })
    for _, arguments in ipairs { { "--once" }, { "--template", "a.tmpl" }, { "--batch" } } do
      answer = d:cli("render", "--json", unpack(arguments))
      assert.equal(2, answer.code, answer.output)
    end
  end)

  it("are written below a folder by --out, where their places need not exist", function()
    local d = folder()
    local answer = d:cli("render", "--out", d.dir:at "below/it")
    assert.equal(0, answer.code, answer.output)
    assert.equal(text, d.dir:read("below/it" .. d.dir:at "out/a.conf"))
    assert.is_nil(d.dir:read "out/a.conf")
    assert.is_nil(d.dir:read "runs")
    d.dir:save("reload.lua", (policy:gsub('"out/a.conf", mode', '"../../../../a.conf", mode')
      :gsub("check = .-,\n", "\n")))
    answer = d:cli("render", "--out", d.dir:at "below")
    assert.equal(3, answer.code, answer.output)
    assert.matches('it has "%.%." in it', answer.output)
  end)

  it("are checked, replaced and applied once by --once", function()
    local d = folder()
    for _ = 1, 2 do
      local answer = d:cli("render", "--once")
      assert.equal(0, answer.code, answer.output)
      assert.equal(text, d.dir:read "out/a.conf")
      assert.equal("run\n", d.dir:read "runs")
    end
  end)

  it("have exit codes for a template, a check and an apply that fail", function()
    local d = folder()
    d.dir:save("a.tmpl", "{{.host.x}}")
    assert.equal(3, d:cli("render", "--once").code)
    assert.equal(3, d:cli("render", "--dry-run").code)
    assert.equal(3, d:cli("render", "--out", d.dir:at "below").code)
    d.dir:save("a.tmpl", "bad")
    assert.equal(3, d:cli("render", "--once").code)
    assert.equal(3, d:cli("render", "--dry-run").code)
    d.dir:save("a.tmpl", "good")
    d.dir:save("fail", "")
    assert.equal(4, d:cli("render", "--once").code)
    assert.is_nil(d.dir:read "out/a.conf")
    for _, arguments in ipairs { {}, { "--once", "--dry-run" }, { "--once", "--batch" } } do
      assert.equal(2, d:cli("render", unpack(arguments)).code)
    end
  end)
end)

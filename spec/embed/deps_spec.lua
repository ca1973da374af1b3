-- SPDX-License-Identifier: MIT
-- Installing missing packages without the permission to do so: an error with a remedy, no change.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

describe("make deps without root and without sudo", function()
  after_each(tempdir.remove_all)

  local function run(...)
    local dir = tempdir.new()
    local file = assert(io.open "spec/support/deps.sh")
    dir:write("deps.sh", file:read "*a")
    file:close()
    dir:mkdir "bin"
    for _, name in ipairs { "id", "dpkg-query" } do
      dir:link("/usr/bin/" .. name, "bin/" .. name)
    end
    for _, name in ipairs { "", "bin", "deps.sh" } do
      assert(uv.fs_chmod(name == "" and dir.path or dir:at(name), 493))
    end
    local command = { "/usr/bin/env", "PATH=" .. dir:at "bin", "/bin/sh", dir:at "deps.sh", ... }
    if uv.getuid() == 0 then
      for i, word in ipairs { "/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
        "--clear-groups" } do table.insert(command, i, word) end
    end
    return process.run(command)
  end

  it("names the packages and the command for root", function()
    local p = run("luajit2", "segue-no-such-package")
    assert.equal(1, p.code, p:describe())
    assert.matches("only root can install them: segue%-no%-such%-package%.", p.stderr)
    assert.matches("apt%-get install %-%-no%-install%-recommends segue%-no%-such%-package\n",
      p.stderr)
  end)

  it("has nothing to say where nothing is missing", function()
    local p = run "luajit2"
    assert.equal(0, p.code, p:describe())
    assert.equal("", p.stderr)
  end)
end)

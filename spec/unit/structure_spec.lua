-- SPDX-License-Identifier: MIT
-- The rules of `make lint` about the tree as a whole (spec/support/structure.lua), in trees that
-- break them one by one.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local program = [[
local check = dofile(arg[1])
local function breach(where, format, ...) print(where .. ": " .. format:format(...)) end
for i = 2, #arg do check(arg[i], breach) end
check(nil, breach)
]]

local endpoints = [[
static const segue__endpoint endpoints[] = {
    {"GET", "/api/v1/status", READ, .parameters = {{"limit", 32}}, .handler = f},
};
]]

describe("the rules about the tree", function()
  local tree
  before_each(function()
    tree = tempdir.new()
    tree:write("core/os/README.md", "| `a`, `b`, `c`, `d` | |\n")
    tree:write("core/admin/README.md", "`endpoints.c`\n")
    tree:write("core/admin/endpoints.c", endpoints)
    tree:write("README.md", "\n| `GET /api/v1/status?limit=N` | JSON |\n")
    tree:write("core/dist/segue.1",
      "\n.Sh HTTP\n.It Li GET /api/v1/status\n.Cm limit .\n.El\n.Sh X\n")
  end)
  after_each(tempdir.remove_all)

  local function breaches(files)
    local command = { "luajit", tree:write("run.lua", program),
      uv.cwd() .. "/spec/support/structure.lua", cwd = tree.path }
    for path, text in pairs(files) do
      tree:write(path, text)
      command[#command + 1] = path
    end
    local p = process.run(command)
    assert.equal(0, p.code, p:describe())
    return p.stdout
  end

  it("accept a tree that obeys them", function()
    assert.equal("", breaches { ["core/os/a.c"] = '\n#include "b.h"\n', ["core/os/b.h"] = "" })
  end)

  it("reject a circle of more than three files", function()
    local files = {}
    for name, other in pairs { a = "b", b = "c", c = "d", d = "a" } do
      files["core/os/" .. name .. ".h"] = ('\n#include "%s.h"\n'):format(other)
    end
    assert.matches("4 files include one another", breaches(files), 1, true)
    files["core/os/d.h"] = ""
    assert.equal("", breaches(files))
  end)

  it("reject a file that no README names", function()
    assert.equal("core/os/e.c: its README does not name it\n", breaches { ["core/os/e.c"] = "" })
  end)

  it("reject names of functions that many files share", function()
    local text = "\nstatic int same(void) {\n}\n"
    assert.matches("2 of 2 functions share their name", breaches { ["core/os/a.c"] = text,
      ["core/os/b.c"] = text }, 1, true)
  end)

  it("reject names that differ by one underscore", function()
    assert.matches("segue__level and segue_level %(core/os/b.h%) differ by one underscore",
      breaches { ["core/os/a.h"] = "int segue__level;\n", ["core/os/b.h"] = "int segue_level;\n" })
  end)

  it("reject an endpoint or a parameter that the documents do not name", function()
    tree:write("README.md", "\n| `GET /api/v1/status`, `/gone` | JSON |\n")
    tree:write("core/dist/segue.1", "\n.Sh HTTP\n.Sh X\n")
    local found = breaches {}
    assert.matches("README.md: GET /api/v1/status: does not name the parameter limit", found, 1,
      true)
    assert.matches("README.md: GET /api/v1/gone is not in core/admin/endpoints.c", found, 1, true)
    assert.matches("segue.1: does not name the endpoint GET /api/v1/status", found, 1, true)
  end)
end)

-- SPDX-License-Identifier: MIT
-- The man pages: well formed, and complete: every command and option is in them. The list of these
-- comes from the program and from the sources of the Lua half.
local process = require "spec.support.process"
local segue = require "spec.support.segue"

local read = require("spec.support.file").read

local function has_word(text, word)
  return text:find("%f[%w_.-]" .. word:gsub("%p", "%%%0") .. "%f[^%w_-]") ~= nil
end

local pages = { "core/dist/segue.1", "core/dist/reload.lua.5", "core/dist/segue-template.5" }

describe("the man pages", function()
  after_each(segue.cleanup)

  it("are well formed", function()
    for _, page in ipairs(pages) do
      local p = process.run { "mandoc", "-T", "lint", page }
      for line in p.output:gmatch("[^\n]+") do
        -- Pages that are not installed here, and the age of this machine's index.
        assert(line:find("referenced manual not found", 1, true) or line:find("mandoc.db", 1, true),
          line)
      end
    end
  end)

  it("can be read", function()
    for _, page in ipairs(pages) do
      local p = process.run { "mandoc", "-T", "ascii", page }
      assert.equal(0, p.code)
      assert.matches("NAME", (p.stdout:gsub("[^\n]\b", "")))
    end
  end)

  describe("segue(1)", function()
    local page = read(pages[1])

    it("has every command, and no other", function()
      local help, seen = segue.cli({ "help" }).stdout:match("Commands:\n(.-)\n\n"), {}
      for name in help:gmatch("%f[^\n%z]  (%S+)") do
        assert.truthy(page:find("\n.It Cm " .. name .. "%f[^%w-]"), name)
        seen[name] = true
      end
      for name in page:gmatch("\n%.It Cm (%S+)") do
        assert.is_true(seen[name], name .. " is no command")
      end
      assert.is_true(seen.reload)
    end)

    it("has every option, and no other", function()
      local seen = {}
      for name in page:gmatch("\n%.It Cm (%S+)") do
        for option in segue.cli({ "help", name }).stdout:match("Options:\n(.*)")
          :gmatch("%f[^\n%z]  [^\n]-%-%-([%w-]+)") do
          assert.truthy(page:find("\n.It Fl[^\n]* %-" .. option:gsub("%-", "%%-") .. "%f[^%w-]"),
            option)
          seen[option] = true
        end
      end
      for option in page:gmatch("Fl %-([%w-]+)") do
        assert.is_true(seen[option], option .. " is no option")
      end
    end)

    it("has every exit code, and no other", function()
      local section, seen = page:match("\n%.Sh EXIT STATUS(.-)\n%.Sh "), {}
      for code in read("core/daemon/cli.h"):gmatch("SEGUE__EXIT_%w+ = (%d+)") do
        assert.truthy(section:find("\n.It " .. code .. "\n", 1, true), code)
        seen[code] = true
      end
      for code in section:gmatch("\n%.It (%d+)\n") do assert.is_true(seen[code], code) end
    end)

    it("has every variable of the environment that the program reads", function()
      local p = process.run { "grep", "-rhoE", 'getenv\\("[A-Z_]+"\\)', "core/daemon",
        "core/instance" }
      local count = 0
      for name in p.stdout:gmatch('"([A-Z_]+)"') do
        count = count + 1
        local of_specs = name:find "^SEGUE_SPEC_" -- read by test builds only
        assert.is_true(name == "TERM" or of_specs ~= nil or has_word(page, name), name)
      end
      assert.is_true(count > 4)
    end)
  end)

  describe("reload.lua(5)", function()
    local page = read(pages[2])

    it("has every function and value of the library", function()
      local d = segue.folder { files = { ["config.yaml"] = "a: 1" }, policy = [[
        local segue = require "segue"
        local function walk(t, prefix)
          for name, value in pairs(t) do
            if type(value) == "table" and name ~= "state" then walk(value, prefix .. name .. ".")
            else print(("member %s%s %s"):format(prefix, name, type(value))) end
          end
        end
        walk(segue, "segue.")
        return { sources = { segue.file "config.yaml" } }
      ]] }
      local printed, count = d:cli("check", "--log-level", "info").stderr, 0
      for name, kind in printed:gmatch("member (%S+) (%w+)") do
        count = count + 1
        assert.truthy(page:find(kind == "function" and "Fn " .. name or "Va " .. name, 1, true),
          name)
      end
      assert.is_true(count > 35, printed)
    end)

    it("and the other texts made from the tables of options are those of the tables", function()
      local p = process.run { "luajit", "spec/support/options.lua",
        (os.getenv("SEGUE_SPEC_BUILD") or "build/spec") .. "/segue", "--check" }
      assert.equal("", p.output)
      assert.equal(0, p.code)
    end)

    it("and the lists of functions of segue-template(5) are those of the functions", function()
      local p = process.run { "luajit", "spec/support/template_page.lua", "--check" }
      assert.equal("", p.output)
      assert.equal(0, p.code)
    end)

    it("has every keyword and every format of a schema", function()
      local section, count = page:match("\n%.Sh JSON SCHEMA\n(.-)\n%.Sh "), 0
      local function known(names, where)
        for name in names do
          count = count + 1
          local found = section:find("%f[^%s]" .. name:gsub("%p", "%%%0") .. "%f[^%w-]")
          assert.truthy(found, where .. " " .. name)
        end
      end
      local keywords = read("core/schema/keywords.c")
      known(keywords:match("segue__keyword_table%[%] = (%b{})"):gmatch('{"([%w$]+)", %u'),
        "keyword")
      known(keywords:match("former%[%] = (%b{})"):gmatch('{"([%w$]+)", "'), "former keyword")
      local formats = read("core/schema/format.c"):match("formats%[%] = (%b{})")
      known(formats:gmatch('{"([%w-]+)", "'), "format")
      assert.is_true(count > 80, count .. " keywords and formats")
    end)

    it("has everything of a transaction, a validator and a task", function()
      local txn, count = read("core/bind/policy/txn.c"), 0
      local function known(name, where)
        count = count + 1
        assert.is_true(has_word(page, name), where .. " " .. name)
      end
      for name in txn:match("luaL_Reg methods%[%] = (%b{})"):gmatch('{"(%w+)"') do
        known("txn:" .. name, "txn")
      end
      for name in txn:gmatch('strcmp%(key, "(%w+)"%)') do known(name, "txn") end
      for name in read("lua/segue/validate.lua"):gmatch("function Validator:([%w_]+)") do
        known(name, "validator")
      end
      for name in read("lua/segue/tasks.lua"):gmatch("methods%.(%w+)") do known(name, "task") end
      assert.is_true(count > 20)
    end)
  end)
end)

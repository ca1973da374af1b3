-- SPDX-License-Identifier: MIT
-- The completions, in the shells that they are for.
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

-- The commands of the program, from its help: command -> options, and their order.
local function known()
  local commands, order = {}, {}
  local list = segue.cli({ "help" }).stdout:match("Commands:\n(.-)\n\n")
  for name in list:gmatch("%f[^\n%z]  (%S+)") do
    local options = {}
    local shown = segue.cli({ "help", name }).stdout:match("Options:\n(.*)")
    for option in shown:gmatch("%f[^\n%z]  [^\n]-%-%-([%w-]+)") do options[option] = true end
    commands[name], order[#order + 1] = options, name
  end
  return commands, order
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

describe("completion", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(segue.cleanup)

  describe("for bash", function()
    -- The words after which TAB is pressed; an empty last one is a new word.
    local function complete(...)
      local words = { "segue", ... }
      for i, word in ipairs(words) do words[i] = "'" .. word .. "'" end
      dir:write("segue.bash", segue.cli({ "completion", "bash" }).stdout)
      local script = ([[
        compopt() { :; } # knows only interactive completions
        source segue.bash
        complete -p segue >&2
        COMP_WORDS=(%s) COMP_CWORD=%d
        _segue
        printf '%%s\n' "${COMPREPLY[@]}"
      ]]):format(table.concat(words, " "), #words - 1)
      local p = process.run { "bash", "--norc", "-euc", script, cwd = dir.path }
      assert.equal(0, p.code, p:describe())
      assert.matches("%-F _segue segue", p.stderr)
      local found = {}
      for line in p.stdout:gmatch("[^\n]+") do found[line] = true end
      return found
    end

    it("knows every command and every option", function()
      local commands, order = known()
      assert.is_true(#order > 8)
      local found = complete("")
      for _, name in ipairs(order) do
        assert.is_true(found[name], name)
        local options = complete(name, "--")
        for option in pairs(commands[name]) do
          assert.is_true(options["--" .. option], name .. " --" .. option)
        end
        assert.is_nil(options["--nonsense"])
      end
    end)

    it("knows the values of an option and the arguments of a command", function()
      dir:write("mine.lua", "")
      dir:mkdir("folder")
      assert.same({ "reload" }, sorted(complete("rel")))
      assert.same({ "mine.lua" }, sorted(complete("check", "-c", "mi")))
      assert.same({ "mine.lua" }, sorted(complete("check", "--policy", "=", "mi")))
      assert.same({ "folder" }, sorted(complete("run", "--state", "=")))
      assert.same({ "json", "text" }, sorted(complete("run", "--log-format", "")))
      assert.same({ "live", "next", "previous" }, sorted(complete("diff", "")))
      assert.same({ "status" }, sorted(complete("help", "sta")))
      assert.same({}, sorted(complete("status", "")))
      assert.same({ "confd", "consul-template" }, sorted(complete("render", "--functions", "con")))
      assert.same({ "error" }, sorted(complete("render", "--missingkey", "=", "e")))
      assert.same({ "folder" }, sorted(complete("render", "--out", "fol")))
      assert.same({ "USR1", "USR2" }, sorted(complete("exec", "--reload-signal", "US")))
    end)

    it("knows the program of segue exec, then files, and no option of segue behind --", function()
      dir:write("mine.conf", "")
      local found = complete("exec", "-c", "reload.lua", "--", "sh")
      assert.is_true(found.sh)
      assert.is_nil(found["mine.conf"])
      assert.same({ "mine.conf" }, sorted(complete("exec", "--", "sh", "mi")))
      assert.same({}, sorted(complete("exec", "--", "sh", "--lo")))
      assert.same({ "--log-format", "--log-level" }, sorted(complete("exec", "--lo")))
    end)
  end)

  describe("for zsh", function()
    -- Types keys into an interactive zsh and waits for what it makes of them.
    local function type_keys(keys, wanted)
      dir:write("_segue", segue.cli({ "completion", "zsh" }).stdout)
      dir:write(".zshrc", ([[
        PS1='ready> ' fpath=(%s $fpath)
        autoload -Uz compinit && compinit -u -D
        unsetopt zle_bracketed_paste 2>/dev/null; unset zle_bracketed_paste
        zstyle ':completion:*' verbose yes
        LISTMAX=1000
      ]]):format(dir.path))
      dir:write("drive.zsh", ([==[
        zmodload zsh/zpty
        zpty shell 'COLUMNS=400 TERM=dumb ZDOTDIR=%s zsh -i'
        zpty -r shell text '*ready> '
        zpty -n -w shell %s
        integer tries=0
        seen=
        while (( tries++ < 200 )); do
          zpty -r -t shell text || { zselect -t 5 2>/dev/null || sleep 0.05; continue }
          seen+=$text
          [[ $seen == *%s* ]] && break
        done
        print -r -- "$seen"
        zpty -d shell
      ]==]):format(dir.path, keys, wanted))
      local p = process.run { "zsh", "-f", dir:at("drive.zsh"), cwd = dir.path }
      assert.equal(0, p.code, p:describe())
      return (p.stdout:gsub("\r", ""))
    end

    it("completes commands, options and files", function()
      dir:write("mine.lua", "")
      assert.matches("segue reload ", type_keys("$'segue relo\\t'", "'segue reload '"))
      assert.matches("%-%-if%-match=", type_keys("$'segue reload --if\\t'", "'--if-match='"))
      assert.matches("check %-c mine%.lua", type_keys("$'segue check -c mi\\t'", "'mine.lua'"))
      assert.matches("exec %-%- promtool ", type_keys("$'segue exec -- promto\\t'", "'promtool '"))
    end)

    it("knows every command and every option, with what it does", function()
      local commands, order = known()
      local text = type_keys("$'segue \\t'", "'who set a value'")
      for _, name in ipairs(order) do assert.truthy(text:find("\n" .. name .. " "), name) end
      local script = dir:read "_segue"
      for _, name in ipairs(order) do
        local block = script:match("\n    " .. name .. "%)\n(.-);;")
        for option in pairs(commands[name]) do
          assert.truthy(block:find("--" .. option, 1, true), name .. " --" .. option)
        end
      end
    end)
  end)

  it("is printed only for a shell that it knows", function()
    for _, args in ipairs { { "completion" }, { "completion", "fish" } } do
      local p = segue.cli(args)
      assert.equal(2, p.code)
      assert.matches("SHELL, which must be bash or zsh", p.stderr)
    end
  end)
end)

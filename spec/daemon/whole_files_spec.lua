-- SPDX-License-Identifier: MIT
-- A complete file as the daemon sees it: closed by its writer, not empty, present. And no file is
-- dropped from a merge without a message.
local segue = require "spec.support.segue"

describe("a file that is being written", function()
  after_each(segue.cleanup)

  it("does not go live in part when another file changes, and explicit reloads name it", function()
    local d = segue.start {
      files = { ["config.yaml"] = "listen: 80\nworkers: 4\n", ["other.yaml"] = "x: 1\n" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.file "config.yaml", segue.file "other.yaml" },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
          timeouts = { collect = "600ms" },
        }]],
    }
    local writer = assert(io.open(d.dir:at "config.yaml", "w"))
    writer:write("# managed by a tool\n")
    writer:flush()
    d.dir:write("other.yaml", "x: 2\n")
    d:wait_config(function(c) return c.x == 2 end)
    assert.same({ listen = 80, workers = 4, x = 2 }, d:config())
    d:wait_log "config.yaml is being written: a program has it open"
    local cli = d:cli "reload"
    assert.equal(4, cli.code, cli.output)
    assert.matches("config.yaml is being written", cli.output, 1, true)
    cli = d:cli "check"
    assert.equal(4, cli.code, cli.output)
    writer:write("listen: 80\nworkers: 8\n")
    writer:close()
    d:wait_config(function(c) return c.workers == 8 end)
    d:stop()
  end)
end)

describe("a folder of files", function()
  after_each(segue.cleanup)

  it("that has lost all of its files is a failure, not an empty configuration", function()
    local d = segue.start {
      files = { ["conf.d/10.yaml"] = "listen: 80\n", ["conf.d/20.yml"] = "workers: 4\n" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.dir "conf.d/*.{yaml,yml}" },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
        }]],
    }
    assert.same({ listen = 80, workers = 4 }, d:config())
    d.dir:write("conf.d/20.yml", "workers: 5\n")
    d:wait_config(function(c) return c.workers == 5 end)
    d.dir:delete "conf.d/10.yaml"
    d.dir:delete "conf.d/20.yml"
    local status, answer = d:reload()
    assert.equal(500, status)
    assert.matches("conf.d/*.{yaml,yml}: is the folder filled", answer.errors[1].message, 1, true)
    assert.same({ listen = 80, workers = 5 }, d:config())
    assert.equal(4, d:cli("check").code)
    d:stop()
  end)

  it("keeps each file apart with by = \"file\", and warns of a list that another file hides",
    function()
      local d = segue.start {
        files = { ["rules/a.yml"] = "groups: [{name: a, for: 1m}]\n",
          ["rules/b.yml"] = "groups: [{name: b}]\n", ["nginx.conf"] = "server {\n}\n" },
        policy = [[
          local segue = require "segue"
          return {
            sources = { segue.dir("rules/*.yml", { by = "file" }), segue.dir "rules/*.y*ml",
              segue.text "nginx.conf" },
            triggers = { segue.http "127.0.0.1:@PORT@" },
          }]],
      }
      local config = d:config()
      assert.equal("1m", config["a.yml"].groups[1]["for"])
      assert.equal("b", config.groups[1].name)
      assert.equal("server {\n}\n", config["nginx.conf"])
      d.dir:write("rules/a.yml", "groups: [{name: a, for: 7m}]\n")
      local _, answer = d:reload()
      assert.equal("applied", answer.outcome)
      assert.equal("7m", d:config()["a.yml"].groups[1]["for"])
      assert.matches("/rules/a.yml:1: lists of several files", answer.errors[1].message, 1,
        true)
      assert.equal("groups", answer.errors[1].path)
      d.dir:write("nginx.conf", "server {\n  listen 80;\n}\n")
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.matches("%YAML 1.1 has no effect", (function()
        d.dir:write("rules/b.yml", "%YAML 1.1\n---\ngroups: [{name: yes}]\n")
        return select(2, d:reload()).errors[1].message
      end)(), 1, true)
      assert.equal("yes", d:config().groups[1].name)
      d:stop()
    end)
end)

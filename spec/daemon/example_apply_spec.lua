-- SPDX-License-Identifier: MIT
-- examples/apply works as its README describes, with a server that runs.
local segue = require "spec.support.segue"
local uv = require "luv"

local read = require("spec.support.file").read

describe("examples/apply", function()
  after_each(segue.cleanup)

  local function start()
    local d = segue.folder { policy = read "examples/apply/reload.lua", files = {
      ["config.yaml"] = read "examples/apply/config.yaml",
      server = read "examples/apply/server" } }
    assert(uv.fs_chmod(d.dir:at("server"), 493)) -- 0755
    d:spawn()
    d:wait_ready()
    d:wait_log("generation 1 is live")
    return d
  end

  local function reload(d, text)
    d.dir:save("config.yaml", text)
    local status, answer = d:reload()
    return status, answer.outcome, answer.errors and answer.errors[1] and answer.errors[1].message
  end

  it("applies a configuration that the server accepts", function()
    local d = start()
    assert.equal("port 8080\nworkers 4\n", d.dir:read("live.conf"))
    assert.equal(200, (reload(d, "port: 9090\n")))
    assert.equal("port 9090\n", d.dir:read("live.conf"))
  end)

  it("rejects a configuration that the server's check refuses, and changes nothing", function()
    local d = start()
    local status, outcome, message = reload(d, "port: abc\n")
    assert.equal(422, status)
    assert.equal("rejected", outcome)
    assert.equal("./server check exited with code 1: port 'abc' is not a number", message)
    assert.equal("port 8080\nworkers 4\n", d.dir:read("live.conf"))
    assert.equal(8080, d:config().port)
  end)

  it("undoes a configuration that the server cannot apply", function()
    local d = start()
    local status, outcome, message = reload(d, "port: 6666\n")
    assert.equal(500, status)
    assert.equal("reverted", outcome)
    assert.matches("%./server apply exited with code 1: cannot bind port 6666: in use", message)
    assert.equal("port 8080\nworkers 4\n", d.dir:read("live.conf"))
    assert.equal(8080, d:config().port)
    assert.equal(200, (reload(d, "port: 9091\n")))
    assert.equal("port 9091\n", d.dir:read("live.conf"))
  end)

  it("applies nothing at a restart if the server has the configuration already", function()
    local d = start()
    d.dir:write("server", (read("examples/apply/server"):gsub("set %-eu\n",
      'set -eu\necho "$1" >> commands\n')))
    local seen = 0
    local function commands()
      local all = d.dir:read "commands" or ""
      local new = all:sub(seen + 1)
      seen = #all
      return new
    end
    local function restarted()
      d:stop()
      d:spawn()
      d:wait_ready()
      return commands()
    end
    assert.equal("check\n", restarted())
    assert.equal(200, (d:reload "?force=1")) -- an operator who forces it wants it applied
    assert.equal("check\napply\n", commands())
    -- the server has something else, as after a kill -9 in the middle of a reload
    d.dir:write("live.conf", "port 9000\n")
    assert.equal("check\napply\n", restarted())
    assert.equal("port 8080\nworkers 4\n", d.dir:read "live.conf")
    d.dir:save("config.yaml", "port: 9090\n")
    assert.equal("check\napply\n", restarted())
    assert.equal("port 9090\n", d.dir:read "live.conf")
    assert.equal("check\n", restarted())
  end)

  it("explains the remedy when the server does not run", function()
    local d = start()
    d.dir:delete("server")
    local _, outcome, message = reload(d, "port: 9092\n")
    assert.equal("rejected", outcome)
    assert.matches("cannot run .*/server: it does not exist", message)
  end)
end)

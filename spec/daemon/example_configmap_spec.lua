-- SPDX-License-Identifier: MIT
-- examples/configmap with a volume as Kubernetes mounts it, and nginx as the webhook.
local nginx = require "spec.support.nginx"
local port = require "spec.support.port"
local read = require("spec.support.file").read
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

describe("examples/configmap", function()
  local server
  after_each(function()
    segue.cleanup()
    if server then server:stop() end
    server = nil
  end)

  local hook -- its folder

  local function start()
    local number = port.free()
    hook = tempdir.new()
    server = nginx.serve(hook, number, ("server { access_log calls; listen 127.0.0.1:%d; "
      .. "location /-/reload { if ($request_method = POST) { return 200; } return 405; } }")
      :format(number))
    local volume = tempdir.new()
    local d = segue.folder { policy = read("examples/configmap/reload.lua"):gsub("7377", "@PORT@"),
      env = { VOLUME_DIR = volume.path,
        WEBHOOK_URL = ("http://127.0.0.1:%d/-/reload"):format(number) } }
    d.volume = volume
    d.volume:configmap { ["app.conf"] = "a1", ["other.conf"] = "b1" }
    d:spawn()
    d:wait_ready()
    return d
  end

  local function calls() return select(2, (hook:read "calls" or ""):gsub("POST /%-/reload", "")) end

  it("calls the webhook once for each version of the volume", function()
    local d = start()
    assert.equal(0, calls())
    for version = 2, 4 do
      d.volume:configmap { ["app.conf"] = "a" .. version, ["other.conf"] = "b" .. version }
      wait.until_true(function() return calls() == version - 1 end, nil,
        function() return d:log() end)
      assert.same({ ["app.conf"] = "a" .. version, ["other.conf"] = "b" .. version }, d:config())
    end
    d:stop()
    d.volume:configmap { ["app.conf"] = "a4", ["other.conf"] = "b4" }
    d:spawn()
    d:wait_ready()
    assert.equal(3, calls())
    d:stop()
    d.volume:configmap { ["app.conf"] = "a5", ["other.conf"] = "b5" }
    d:spawn()
    d:wait_ready()
    assert.equal(4, calls())
    d:stop() -- with the connection to the webhook, which is kept for 3 s
  end)
end)

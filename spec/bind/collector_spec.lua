-- SPDX-License-Identifier: MIT
-- The same specs with a collector that never pauses, and collects everything before and after each
-- call into Lua: what is not anchored is found.
local bind = require "spec.support.bind"

describe("with the collector at work all the time:", function()
  setup(function() bind.stress = true end)
  teardown(function() bind.stress = false end)
  for _, name in ipairs { "value", "task", "reload" } do
    describe(name, function()
      setfenv(assert(loadfile("spec/bind/" .. name .. "_spec.lua")), getfenv())()
    end)
  end
end)

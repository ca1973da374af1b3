-- SPDX-License-Identifier: MIT
-- Programs in Go that specs compare segue with. They share a cache below the build folder: to
-- compile Go's own packages takes 20 times as long as the program.
local process = require "spec.support.process"
local uv = require "luv"
local M = {}

--- Builds sources ("spec/support/x.go") into the folder; returns the path of the program.
function M.build(dir, ...)
  local program, top = dir.path .. "/reference", os.getenv "SEGUE_SPEC_TOP" or "build"
  local cache = (top:sub(1, 1) == "/" and top or uv.cwd() .. "/" .. top) .. "/go"
  local command = { "go", "build", "-o", program, deadline_ms = 300000,
    env = { GOCACHE = cache, GO111MODULE = "off", GOTOOLCHAIN = "local",
      GOPATH = "/usr/share/gocode" } }
  for i, source in ipairs { ... } do command[4 + i] = source end
  local built = process.run(command)
  assert(built.code == 0, built:describe())
  return program
end

return M

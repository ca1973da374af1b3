-- SPDX-License-Identifier: MIT
-- Templates beside Go's text/template.
local go = require "spec.support.go"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

local texts = {
  "{{range .s}}server {{.Name}} {{.ID}} {{.Address}}:{{.Port}}\n{{end}}",
  '{{range $i, $s := .s}}{{if .Up}}server {{.Name}}-{{$i}} {{.ID}} {{.Address}}:{{.Port}} '
    .. '{{printf "%s:%d" .Address .Port}} {{index .Meta "w"}}{{range .Tags}} {{.}}{{end}}'
    .. "{{if eq .Port 8001}} backup{{end}}{{else}}# {{.Name}} down{{end}}\n{{end}}",
  "{{range .s}}server {{.Name}} {{.ID}} {{.Address}}:{{.Port}}{{end}}\n",
}

-- Runs a program that prints a name, the ms, and the bytes in each line.
local function times(command)
  for _, text in ipairs(texts) do command[#command + 1] = text end
  command.deadline_ms = 60000
  local p = process.run(command)
  assert(p.code == 0, p:describe())
  local ms, bytes = {}, {}
  for name, took, size in p.stdout:gmatch "(%S+)%s+(%S+)%s+(%d+)\n" do
    ms[name], bytes[name] = tonumber(took), size
  end
  return ms, bytes
end

return {
  templates = { title = "templates: 10,000 services", run = function(report)
    local of_go, their_bytes = times { go.build(tempdir.new(), "spec/bench/templates.go") }
    local ours, our_bytes = times { "luajit", "spec/bench/templates_driver.lua" }
    assert(their_bytes.fields == our_bytes.fields and their_bytes.actions == our_bytes.actions)
    local function line(name, theirs, unit, at_most)
      report { ours = ours[name], theirs = theirs, peer = "Go's text/template", unit = unit,
        at_most = at_most }
    end
    line("fields", of_go.fields, "ms 4 fields", 0.1)
    line("actions", of_go.actions, "ms 10 acts.", 1 / 30)
    line("small", of_go.small, "ms 1,000 new", 1)
    line("cached", of_go.small, "ms 1,000 old", 0.2)
  end },
}

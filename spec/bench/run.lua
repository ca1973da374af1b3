-- SPDX-License-Identifier: MIT
-- `make bench`: every result beside the programs that Debian offers, measured in one run on this
-- machine, so that the ratios count and not the machine. ROW=name runs one row; CHECK=1 exits with
-- 1 if a ratio falls short of its goal.
local rows = require "spec.bench.rows"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

local check = os.getenv("CHECK") == "1"
local only = os.getenv("ROW")
if only == "" then only = nil end
for _, part in ipairs { "files", "fronts", "keys",
  "outputs", "past", "serving", "templates", "tls" } do
  for name, row in pairs(require("spec.bench." .. part)) do rows[name] = row end
end

local order = { "reload_small", "reload_5000", "yaml", "json", "schema", "options", "diff", "read",
  "gate", "log", "stall", "memory", "pattern", "async", "http", "front", "front_close",
  "front_flat", "front_log", "tls", "tls_idle", "idle_connections", "change", "hook", "two_changes",
  "idle", "flat", "durable", "last_good", "history", "templates", "files",
  "files_templates", "files_many", "files_idle", "keys" }
local short = 0

local function print_line(title, line)
  local ratio = line.theirs and line.ours / line.theirs
  local verdict = ""
  if line.at_most then
    verdict = ("<= %.2f %s"):format(line.at_most, ratio <= line.at_most and "ok" or "SHORT")
    if ratio > line.at_most then short = short + 1 end
  elseif line.at_least then
    verdict = (">= %.2f %s"):format(line.at_least, ratio >= line.at_least and "ok" or "SHORT")
    if ratio < line.at_least then short = short + 1 end
  end
  io.write(("%-44s %9.2f %9s %-20s %-12s %7s  %s\n"):format(title, line.ours,
    line.theirs and ("%.2f"):format(line.theirs) or "", line.peer or "", line.unit,
    ratio and ("%.3f"):format(ratio) or "", verdict))
  io.flush()
end

io.write(("%-44s %9s %9s %-20s %-12s %7s  %s\n"):format("", "segue", "peer", "peer is", "unit",
  "ratio", "goal"))
local ran = 0
for _, name in ipairs(order) do
  local row = rows[name]
  if row and (not only or only == name) then
    ran = ran + 1
    local ok, err = xpcall(row.run, debug.traceback,
      function(line) print_line(row.title, line) end)
    process.stop_all()
    tempdir.remove_all()
    if not ok then
      short = short + 1
      io.write(("%-44s FAILED: %s\n"):format(row.title, err))
    end
  end
end
if ran == 0 then
  io.write("There is no row ", tostring(only), "; there are: ", table.concat(order, " "), ".\n")
  os.exit(2)
end
io.write(short == 0 and "Every goal is reached.\n" or short .. " goals are missed.\n")
os.exit(check and short > 0 and 1 or 0)

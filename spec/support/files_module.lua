-- SPDX-License-Identifier: MIT
-- Daemons with one module of the kind files, whose file out/a has the value x of a.yaml:
--   local fill = files_module.policy "secrets = {},"; files_module.put(d, 2); files_module.live(d)
local M = {}

--- The policy: a function that returns its text for the options of the module. more: fields of the
--- policy; to: another file.
function M.policy(more, to)
  local text = [==[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  @MORE@
  modules = { web = { kind = "files", timeout = "20s",
    files = { { to = [=[@TO@]=], content = function(config) return config.x .. "\n" end } },
    @MODULE@ } },
}]==]
  return function(module)
    return (text:gsub("@(%u+)@", { MODULE = module, MORE = more or "", TO = to or "out/a" }))
  end
end

--- The policy of files out/NAME, each with its name and the value x, which the function file(name)
--- describes; modules: the table of modules, as a text.
function M.named(modules)
  local text = [==[
local segue = require "segue"
local function file(name)
  return { to = "out/" .. name, content = function(config) return name .. config.x .. "\n" end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = @MODULES@,
}]==]
  return (text:gsub("@MODULES@", function() return modules end))
end

--- The same with one module that has the files a and b; module: its other options.
function M.two(module)
  return M.named('{ web = { kind = "files", files = { file "a", file "b" }, ' .. module .. " } }")
end

--- Writes x and reloads: status and answer.
function M.put(d, x)
  d.dir:save("a.yaml", ("x: %s\n"):format(x))
  return d:reload()
end

--- The value that is live, as a text.
function M.live(d) return (d.dir:read "out/a" or ""):match "%d+" end

--- The first error message of an answer.
function M.message_of(answer)
  return answer.errors and answer.errors[1] and answer.errors[1].message or ""
end

--- Reloads to x, which must be undone so that 1 is live: the message and its error.
function M.reverts(d, x)
  local status, answer = M.put(d, x)
  assert(status == 500 and answer.outcome == "reverted",
    ("%d %s %s"):format(status, tostring(answer.outcome), M.message_of(answer)))
  assert(M.live(d) == "1", d:log())
  return M.message_of(answer), answer.errors[1]
end

return M

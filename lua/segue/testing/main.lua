-- SPDX-License-Identifier: MIT
-- `segue test`: hands specs to busted, or an incident to the replay. Returns 0 (all is well) or 1;
-- or nil and why nothing could be run.
return function(files, replay, json)
  if replay then return require("segue.testing.replay").main(replay, json) end
  local found, runner = pcall(require, "busted.runner")
  if not found then
    return nil, "busted, which runs the specs, cannot be loaded: install the Debian package "
      .. "lua-busted (" .. tostring(runner):match("^[^\n]*") .. ")"
  end
  local words = { [0] = "segue test", "--pattern=_spec", "--keep-going" }
  if json then words[#words + 1] = "--output=json" end
  for _, file in ipairs(files) do words[#words + 1] = file end
  _G.arg = words
  -- busted calls itself by the name of the chunk that calls it, and raises nil where specs fail.
  local call = loadstring("local runner = ... runner { standalone = false }", "@segue test")
  local ok, raised = pcall(call, runner)
  if ok then return 0 end
  if raised ~= nil then return nil, tostring(raised) end
  return 1
end

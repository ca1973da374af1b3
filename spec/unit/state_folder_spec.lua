-- SPDX-License-Identifier: MIT
-- The state folder is trusted: a policy in it is run. So it is rejected if another user can write
-- it. (Specs run as root, which can change the owner of files.)
local C = require "spec.support.c"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local STRANGER = 65534

describe("a state folder", function()
  local dir, folder
  before_each(function()
    dir = tempdir.new()
    folder = dir:at "state"
  end)
  after_each(tempdir.remove_all)

  -- nil, or the error of opening it.
  local function open()
    local state, e = C.new "segue__state", C.error()
    local code = C.segue__state_open(state, folder, e)
    C.segue__state_close(state)
    if code < 0 then return C.err(e) end
  end

  local function mode(path, octal) uv.fs_chmod(path, tonumber(octal, 8)) end

  local function refused(pattern)
    local e = assert(open(), "it was opened")
    assert.equal("EPERM", e.name)
    assert.matches(pattern, e.message)
  end

  it("is created for its user only, and opened again with its content", function()
    assert.is_nil(open())
    assert.equal(tonumber("40700", 8), uv.fs_stat(folder).mode)
    for name, octal in pairs { ["last-good.a"] = "600", ["history.db"] = "644" } do
      dir:write("state/" .. name, "x")
      mode(dir:at("state/" .. name), octal)
    end
    assert.is_nil(open())
  end)

  it("is refused where others may write it, by mode or by owner", function()
    uv.fs_mkdir(folder, tonumber("700", 8))
    for _, octal in ipairs { "777", "770", "702", "1777" } do
      mode(folder, octal)
      refused("^the state folder .* can be written by other users %(mode %d+%).*chmod go%-w")
    end
    mode(folder, "755")
    assert.is_nil(open())
    uv.fs_chown(folder, STRANGER, STRANGER)
    refused("^the state folder .* belongs to another user %(uid 65534%)")
  end)

  it("is refused with a file that another user planted or can change", function()
    assert.is_nil(open())
    for _, name in ipairs { "last-good.a", "last-good.b", "history.db", "anything" } do
      local path = dir:write("state/" .. name, "x")
      mode(path, "666")
      refused("^the state file .*/state/" .. name:gsub("%p", "%%%0") .. " can be written")
      mode(path, "600")
      uv.fs_chown(path, STRANGER, STRANGER)
      refused("^the state file .* belongs to another user %(uid 65534%)")
      os.remove(path)
    end
    assert.is_nil(open())
  end)

  it("is refused with a link that leads to such a file, or belongs to another user", function()
    assert.is_nil(open())
    local target, link = dir:write("target", "x"), dir:at "state/history.db"
    mode(target, "644")
    uv.fs_symlink(target, link)
    assert.is_nil(open())
    mode(target, "666")
    refused("history.db can be written by other users")
    mode(target, "644")
    uv.fs_lchown(link, STRANGER, STRANGER)
    refused("history.db belongs to another user")
  end)
end)

-- SPDX-License-Identifier: MIT
-- Files that Lua code requires: the Lua half is read once, and a file that cannot be read is a
-- failure of the world, which is tried again.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local b
before_each(function() b = bind.open { slice_ms = 100 } end)
after_each(function()
  local opened = b
  b = nil
  if opened then opened:close() end
end)

local function each_file(fn)
  local dir = assert(uv.fs_scandir("lua/segue"))
  for name in function() return uv.fs_scandir_next(dir) end do fn("lua/segue/" .. name) end
end

local codes = { EMFILE = -24, EIO = -5, ENOMEM = -12 }

local plain = 'local segue = require "segue"\nreturn { sources = { segue.value {} } }'

describe("the Lua half", function()
  it("is read once: a state can be created without its files", function()
    local text = [[local segue = require "segue"
      return { sources = { segue.value {} }, check = function(next)
        while next.loop do end
        return segue.equal(1, 1)
      end }]]
    local policy = assert(b:load(text))
    each_file(function(path) C.scripted_files_del(b.files, path) end)
    assert.equal("SEGUE_ETIMEOUT", b:check(policy, "loop: true").status)
    assert.is_true(b:check(policy, "loop: false").ok) -- in a new state
    assert(b:load(text .. " -- another policy"))
  end)

  it("is read with the files of its folders, and those of the plugins beside it", function()
    local dir = tempdir.new()
    for _, folder in ipairs { "lua", "lua/segue", "lua/segue/testing", "plugins", "plugins/kv" } do
      dir:mkdir(folder)
    end
    local out, len = C.new("segue__library *[1]"), C.new("size_t[1]")
    local paths = { "lua/segue/init.lua", "lua/segue/testing/fakes.lua", "lua/../plugins/kv/a.lua" }
    for _, path in ipairs(paths) do dir:write(path, "-- " .. path) end
    C.check(C.segue__library_new(out, C.segue__os_default(), dir:at "lua"))
    for _, path in ipairs(paths) do
      assert.equal("-- " .. path, C.str(C.segue__library_find(out[0], dir:at(path), len)))
    end
    -- Errors of sources that plugins bring may show the words of these files.
    assert.equal("-- " .. paths[3], C.str(C.segue__library_plugin(out[0], 0, len)))
    assert.is_true(C.segue__library_plugin(out[0], 1, len) == nil)
    C.segue__library_free(out[0])
    dir:remove()
  end)

  for code, number in pairs(codes) do
    it("reads a file later if the start could not, and reports a failure of the system: " .. code,
      function()
        b:close()
        local read = { "lua/segue/init.lua", "lua/segue/constructors.lua", "lua/segue/url.lua" }
        for _, path in ipairs(read) do
          b = bind.open { before = function(files)
            C.scripted_files_fail(files, path, number)
          end }
          b:write("reload.lua", plain)
          b:engine()
          local result = b:reload()
          assert.equal("failed", result.outcome, path)
          assert.equal(code, result.errors[1].name, result.errors[1].text)
          local file = assert(io.open(path))
          b:write(path, file:read("*a"))
          file:close()
          assert.equal("applied", b:reload().outcome)
          b:close()
        end
        b = nil
      end)
  end
end)

describe("a file beside the policy", function()
  local text = 'local segue = require "segue"\nlocal part = require "part"\n'
    .. "return { sources = { segue.value { a = part } } }"

  it("that cannot be read fails the reload, as a failure of the system", function()
    b:write("reload.lua", text)
    C.scripted_files_fail(b.files, "part.lua", codes.EMFILE)
    b:engine()
    local result = b:reload()
    assert.equal("failed", result.outcome)
    assert.equal("EMFILE", result.errors[1].name)
    assert.equal("reload.lua:2", result.errors[1].file .. ":" .. result.errors[1].line)
    b:write("part.lua", "return 7")
    assert.equal("applied", b:reload().outcome)
  end)

  it("that is missing or wrong rejects the reload, as an error of the policy", function()
    b:write("reload.lua", text)
    b:engine()
    assert.equal("rejected", b:reload().outcome)
    b:write("part.lua", "return =")
    assert.equal("rejected", b:reload().outcome)
  end)

  it("that cannot be read does not matter if the policy works without it", function()
    C.scripted_files_fail(b.files, "part.lua", codes.EIO)
    assert(b:load('pcall(require, "part")\n' .. plain))
    local e = b:refused('pcall(require, "part")\n' .. plain:gsub("sources", "sorces"))
    assert.is_true(e.name == "SEGUE_EPOLICY" or e.name == "EIO", e.name)
  end)
end)

-- SPDX-License-Identifier: MIT
-- Modes and owners of rendered files: of another user, over a rollback; and the files in which
-- segue records them.
local files_module = require "spec.support.files_module"
local other_user = require "spec.support.other_user"
local segue = require "spec.support.segue"
local uv = require "luv"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of

-- out/a has the value, and these options.
local function policy(options, more)
  return ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files",
    files = { { to = "out/a", %s content = function(config) return config.x .. "\n" end },
      { to = "out/b", content = function(config) return config.x .. "\n" end } }, %s } },
}]]):format(options, more or "")
end

-- "MODE UID:GID"
local function attributes(d, name)
  local st = assert(uv.fs_stat(d.dir:at(name or "out/a")))
  return ("%o %d:%d"):format(st.mode % 4096, st.uid, st.gid)
end

describe("a rendered file of a segue that is not root", function()
  after_each(segue.cleanup)

  local function start(options)
    local d = segue.folder { policy = policy(options or ""), files = { ["a.yaml"] = "x: 1\n",
      ["out/c"] = "" } }
    return other_user.own(d)
  end

  it("is refused where its owner cannot be set, before anything is replaced", function()
    local d = start()
    d:spawn()
    d:wait_ready()
    d.dir:save("reload.lua", policy [[owner = "root:root",]])
    local status, answer = put(d, 2)
    assert.is_true(status >= 400)
    assert.matches("/out/a to uid 0.*only root may do that.*set owner", message_of(answer))
    assert.same({ "1", "1\n" }, { live(d), d.dir:read "out/b" })
    d.dir:save("reload.lua", policy(("owner = %q,"):format(other_user.ID .. ":" .. other_user.ID)))
    assert.equal(200, (put(d, 2)))
    assert.same({ "2", "2\n" }, { live(d), d.dir:read "out/b" })
  end)

  it("is refused where another user owns it, with the owner and the remedy", function()
    local d = start()
    d:spawn()
    d:wait_ready()
    assert(uv.fs_chown(d.dir:at "out/a", 0, 0))
    local status, answer = put(d, 2)
    assert.is_true(status >= 400)
    assert.matches("/out/a.*owner", message_of(answer))
    assert.same({ "1", "1\n", "644 0:0" }, { live(d), d.dir:read "out/b", attributes(d) })
    assert(uv.fs_chown(d.dir:at "out/a", other_user.ID, other_user.ID))
    assert.equal(200, (put(d, 2)))
    assert.equal("2", live(d))
  end)

  it("is refused in a folder that it may not write", function()
    local d = start()
    d:spawn()
    d:wait_ready()
    assert(uv.fs_chown(d.dir:at "out", 0, 0))
    local status, answer = put(d, 2)
    assert.is_true(status >= 400)
    assert.matches("/out.*[Pp]ermission", message_of(answer))
    assert.equal("1", live(d))
    assert(uv.fs_chown(d.dir:at "out", other_user.ID, other_user.ID))
    assert.equal(200, (put(d, 2)))
  end)
end)

describe("mode and owner of a rendered file", function()
  after_each(segue.cleanup)

  it("return with an undo and with a rollback", function()
    local d = segue.start { policy = policy [[mode = "0640", owner = "1:1",]],
      files = { ["a.yaml"] = "x: 1\n" } }
    assert.equal("640 1:1", attributes(d))
    d.dir:save("reload.lua", policy([[mode = "0600", owner = "2:3",]],
      'apply = "! grep -q 9 out/a"'))
    assert.equal(500, (put(d, 9)))
    assert.equal("640 1:1", attributes(d))
    assert.equal(200, (put(d, 2)))
    assert.equal("600 2:3", attributes(d))
    d.dir:save("reload.lua", policy [[mode = "4755", owner = "0:0",]])
    assert.equal(200, (put(d, 2)))
    assert.equal("4755 0:0", attributes(d))
    for generation, is in ipairs { "640 1:1", "600 2:3", "4755 0:0", "600 2:3" } do
      local to = generation == 4 and 2 or generation
      local answer = d:control { method = "POST", path = "/api/v1/rollback?to=" .. to }
      assert.equal(200, answer.status, answer.body)
      assert.equal(is, attributes(d), to)
    end
  end)

  it("are of the file that was there where the policy names none", function()
    local d = segue.folder { policy = policy "", files = { ["a.yaml"] = "x: 1\n",
      ["out/a"] = "theirs\n" } }
    assert(uv.fs_chmod(d.dir:at "out/a", 416) and uv.fs_chown(d.dir:at "out/a", 5, 6))
    d:spawn()
    d:wait_ready()
    assert.same({ "1", "640 5:6" }, { live(d), attributes(d) })
    assert.equal(200, (put(d, 2)))
    assert.same({ "2", "640 5:6" }, { live(d), attributes(d) })
  end)
end)

describe("the state folder of a daemon that renders files", function()
  after_each(segue.cleanup)

  it("has files that no other user can read, whatever the umask is", function()
    local d = segue.folder { policy = policy [[backups = 2,]], files = { ["a.yaml"] = "x: 1\n" } }
    d.options.under = { "sh", "-c", 'umask 0; exec "$@"', "sh" }
    d:spawn()
    d:wait_ready()
    assert.equal(200, (put(d, 2)))
    d:cli("freeze", "--why", "look")
    local seen = {}
    local function look(folder)
      for _, name in ipairs(d.dir:list(folder)) do
        local path = folder .. "/" .. name
        local st = assert(uv.fs_lstat(d.dir:at(path)))
        seen[#seen + 1] = name
        assert.equal(0, st.mode % 64, ("%s: %o"):format(path, st.mode))
        if st.type == "directory" then look(path) end
      end
    end
    look ".segue"
    assert.matches("files%.json", table.concat(seen, " "))
    assert.is_true(#seen >= 4, table.concat(seen, " "))
    assert.equal("644 0:0", attributes(d, "out/b"))
    assert.equal(0, uv.fs_stat(d.dir:at "out/.segue.lock").mode % 64)
  end)
end)

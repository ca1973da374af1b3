-- SPDX-License-Identifier: MIT
-- A folder of generations in the daemon: applied, checked, planned, listed, rolled back; drift; a
-- reader that lists it all the time while it is switched.
local cjson = require "cjson"
local folder_module = require "spec.support.folder_module"
local kill = require "spec.support.killed"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local content, put = folder_module.content, folder_module.put

local function reload(d, x)
  put(d, x)
  return d:reload()
end

local function runs(d) return select(2, (d.dir:read "runs" or ""):gsub("run\n", "")) end

-- Waits until nothing but the link, the live folder, the lock and these names is in out.
local function left(d, names)
  wait.until_true(function() return table.concat(folder_module.left(d), " ") == (names or "") end,
    nil, function() return table.concat(d.dir:list "out", " ") .. d:log() end)
end

describe("a folder of generations of a daemon", function()
  after_each(segue.cleanup)

  it("is switched and applied, and is as before where applying fails", function()
    local d = folder_module.start { module = 'apply = "echo run >> runs; ! grep -q 9 out/d/a"' }
    assert.equal("a1 b1", content(d))
    assert.equal(200, (reload(d, 2)))
    assert.equal("a2 b2", content(d))
    assert.equal(2, runs(d))
    assert.equal(500, (reload(d, 9)))
    assert.equal("a2 b2", content(d))
    assert.equal(4, runs(d))
    left(d)
  end)

  it("writes and applies nothing at a restart where nothing changed", function()
    local d = folder_module.start { module = 'apply = "echo run >> runs"' }
    left(d)
    local before = uv.fs_lstat(d.dir:at "out/d")
    d:stop()
    kill.arm(d, "files.folder.make=fail")
    d:wait_ready()
    assert.equal(before.ino, uv.fs_lstat(d.dir:at "out/d").ino)
    assert.equal(1, runs(d))
    assert.equal(500, (reload(d, 2))) -- the point was armed
  end)

  it("is checked in its place, and by the names of its staged files", function()
    local d = folder_module.start { folder = '"out/d"',
      module = [[check = "cat out/d/a out/d/b > seen; ! grep -q 9 seen"]] }
    assert.equal("a1\nb1\n", d.dir:read "seen")
    assert.equal(422, (reload(d, 9)))
    assert.equal("a9\nb9\n", d.dir:read "seen")
    assert.equal("a1 b1", content(d))
    left(d)
    for word, expected in pairs { ["{staged:out/d}/a"] = "a2\n", ["{staged:out/d/b}"] = "b2\n" } do
      d.dir:save("reload.lua", folder_module.policy { folder = '"out/d"',
        module = ('check = { "cp", "%s", "seen" }'):format(word) })
      assert.equal(200, (reload(d, 1)))
      assert.equal(200, (reload(d, 2)))
      assert.equal(expected, d.dir:read "seen")
    end
    d.dir:save("reload.lua", folder_module.policy { module = 'check = "echo x > out/d/a"' })
    assert.equal(422, (reload(d, 3)))
    assert.equal("a2 b2", content(d))
  end)

  it("is planned, checked and rendered without a change, with the paths of its files", function()
    local d = folder_module.start {}
    put(d, 2)
    for _, command in ipairs { "plan", "check" } do
      local answer = d:cli(command)
      assert.equal(0, answer.code, answer.output)
      assert.matches("%-a1\n%+a2\n.*%-b1\n%+b2\n", answer.stdout)
      assert.truthy(answer.stdout:find("/out/d/a: changed", 1, true), answer.stdout)
      assert.is_nil(answer.stdout:find("gen-", 1, true))
    end
    local answer = d:cli("render", "--out", d.dir:at "below")
    assert.equal(0, answer.code, answer.output)
    assert.equal("a2\n", d.dir:read("below" .. d.dir:at "out/d/a"))
    assert.equal("a1 b1", content(d))
    left(d)
  end)

  it("is checked as run decides: a foreign link is replaced, what goes is listed", function()
    local d = folder_module.start { module = 'removed = "remove"' }
    wait.until_true(function() return d.dir:read ".segue/files.json" end)
    d.dir:save("out/d/mine", "3\n")
    put(d, 2)
    local before = d.dir:read ".segue/files.json"
    for _, command in ipairs { "plan", "check" } do
      local answer = d:cli(command)
      assert.equal(0, answer.code, answer.output)
      assert.matches("out/d/mine: removed.*%-3\n", answer.stdout)
    end
    d:stop()
    local live = uv.fs_readlink(d.dir:at "out/d")
    os.remove(d.dir:at "out/d")
    assert(uv.fs_symlink("../own", d.dir:at "out/d"))
    local answer = d:cli("check", "--state", d.dir:at ".segue")
    assert.equal(0, answer.code, answer.output)
    assert.matches("out/d/a: new", answer.stdout)
    assert.equal(before, d.dir:read ".segue/files.json")
    assert.equal("../own", uv.fs_readlink(d.dir:at "out/d"))
    assert.equal(4, d:cli("check", "--state", d.dir:at "none").code)
    os.remove(d.dir:at "out/d")
    assert(uv.fs_symlink(live, d.dir:at "out/d"))
    d.dir:save("reload.lua", 'return { sources = { require("segue").file "a.yaml" } }')
    answer = d:cli "check"
    assert.equal(0, answer.code, answer.output)
    assert.matches("out/d/a: removed.*out/d/b: removed", answer.stdout)
  end)

  it("is listed, compared and rolled back by its files", function()
    local d = folder_module.start {}
    local _, answer = reload(d, 2)
    local files = d:json "/api/v1/files"[1].files
    assert.same({ 2, d.dir:at "out/d/a", "in place" }, { #files, files[1].path, files[1].state })
    assert.equal(d.dir:at "out/d/b", d:json("/api/v1/reloads/" .. answer.id).files[2].path)
    local diff = d:cli("diff", "1", tostring(answer.generation)).stdout
    assert.matches("/out/d/a: changed.*%-a1\n%+a2\n", diff)
    assert.matches("2 rendered", d:cli("status").stdout)
    assert.equal(0, d:cli("rollback", "1").code)
    assert.equal("a1 b1", content(d))
  end)

  it("loses a file that the policy drops, where the folder itself would stay", function()
    local d = folder_module.start {}
    d.dir:save("reload.lua", folder_module.policy { files = 'file "a", file "c"' })
    local plan = cjson.decode(d:cli("plan", "--json").stdout)
    assert.equal(2, #plan.files)
    assert.equal(200, (d:reload()))
    assert.equal("a1 c1", content(d))
    d:wait_log "out/d/b.*it is removed"
    left(d)
    d.dir:save("reload.lua", folder_module.policy { folder = '{ "out/e", backups = 0 }' })
    assert.equal(200, (d:reload()))
    assert.equal("a1 c1", content(d))
    assert.equal("a1 b1", content(d, "out/e"))
  end)

  it("passes to a module of another name", function()
    local d = folder_module.start { module = 'removed = "remove"' }
    put(d, 2)
    d.dir:save("reload.lua", (d.dir:read("reload.lua"):gsub("web = ", "site = ")))
    assert.equal(200, (d:reload()))
    assert.equal("a2 b2", content(d))
    left(d)
    assert.equal("site", d:json "/api/v1/files"[1].module)
  end)

  it("has the mode of the policy, also where nothing else changes", function()
    local d = folder_module.start {}
    d.dir:save("reload.lua", folder_module.policy {
      folder = '{ "out/d", backups = 0, mode = "0700" }' })
    assert.equal(200, (d:reload()))
    assert.equal(448, uv.fs_stat(d.dir:at "out/d").mode % 512)
    left(d)
  end)

  it("is refused at the load of a policy that mixes the two kinds of places", function()
    local d = folder_module.start {}
    for text, message in pairs {
      ['{ name = "a/b", content = print }'] = "must be a name in the folder",
      ['{ name = "..", content = print }'] = "must be a name in the folder",
      ['{ name = "a\\nb", content = print }'] = "has a control character",
      ['{ name = "a\\255", content = print }'] = "has a control character",
      ['{ name = "a", to = "b", content = print }'] = "cannot stand beside to",
      ['{ name = "a", backups = 1, content = print }'] = "has no effect with name",
      ['{ name = "a", link = "replace", content = print }'] = "has no effect with name",
      ['{ content = print }'] = "needs the option to",
      ['file "a", { to = "out/d/b", content = print }'] = "is in the folder of the module",
      ['{ to = "b", content = print }'] = "folder has no file",
    } do
      d.dir:save("reload.lua", folder_module.policy { files = text })
      local answer = d:cli "check"
      assert.equal(3, answer.code, answer.output)
      assert.truthy(answer.output:find(message, 1, true), answer.output)
    end
    d.dir:save("reload.lua", folder_module.policy { folder = "nil" })
    assert.matches("needs the option folder", d:cli("check").output)
    d.dir:save("reload.lua", folder_module.policy { folder = '{ "out/d", backups = -1 }' })
    assert.matches("backups must be between 0 and 100", d:cli("check").output)
    d.dir:save("reload.lua", folder_module.policy { folder = '{ "out/d", mode = "0311" }' })
    assert.matches("mode must let the owner read and enter", d:cli("check").output)
    d.dir:save("reload.lua", folder_module.policy { folder = '"out/."' })
    assert.matches("must end with a name", d:cli("check").output)
  end)

  it("is checked beside a daemon that switches it", function()
    local d = folder_module.start { module = [[check = "test -z \"$SLOW\" || { touch began; "
      .. "until test -e go; do sleep 0.05; done; cat out/d/b > seen; }"]] }
    put(d, 2)
    local check = process.start { segue.binary, "check", "-c", d.dir:at "reload.lua",
      cwd = d.dir.path, env = { SLOW = "1" } }
    wait.until_true(function() return d.dir:read "began" end)
    assert.equal(200, (reload(d, 3)))
    d.dir:write("go", "")
    assert.equal(0, (check:wait_exit()), check:describe())
    assert.equal("b2\n", d.dir:read "seen")
    left(d)
  end)

  it("is refused before anything is changed where the place is taken", function()
    local d = segue.folder { policy = folder_module.policy {}, files = { ["a.yaml"] = "x: 1\n",
      ["out/d/own"] = "own\n" } }
    d:spawn()
    assert.is_true(d:wait_exit(20000) ~= 0)
    assert.matches("out/d as a folder of generations: it is a real folder.*move it away", d:log())
    assert.same({ "own" }, d.dir:list "out/d")
    assert.same({ ".segue.lock", "d" }, d.dir:list "out")
  end)

  it("is not shared by two daemons", function()
    local d = folder_module.start {}
    local other = segue.start { policy = folder_module.policy { folder = ('"%s"'):format(
      d.dir:at "out/d") }, files = { ["a.yaml"] = "x: 5\n" }, ready = false }
    assert.is_true(other:wait_exit(20000) ~= 0)
    assert.matches("is written by another segue", other:log())
    assert.equal("a1 b1", content(d))
    assert.equal(200, (reload(d, 2)))
  end)
end)

describe("a file of a folder that another program changes", function()
  after_each(segue.cleanup)

  local function start(mode)
    local d = folder_module.start { module = ('drift = "%s", apply = "echo run >> runs"'):format(
      mode) }
    wait.until_true(function() return d.dir:read ".segue/files.json" end)
    return d
  end

  it("is reported, after a switch too, and kept with its folder", function()
    local d = start "report"
    assert.equal(200, (reload(d, 2)))
    left(d)
    d.dir:save("out/d/a", "9\n")
    d:wait_log "another program has changed a file.*out/d/a.*its content was changed"
    wait.until_true(function()
      return d:json "/api/v1/files"[1].files[1].state == "drifted"
    end)
    assert.equal(200, (reload(d, 3)))
    assert.equal("a3 b3", content(d))
    d:wait_log "that version is kept.*%.d%.changed%-"
    local kept = d:log():match "kept=%S*/(out/%.d%.changed%-%w+)"
    assert.equal("9 b2", content(d, kept))
  end)

  it("is reported where it is added, or the folder gets another mode", function()
    local d = start "report"
    d.dir:save("out/d/mine", "3\n")
    d:wait_log "another program has changed a file.*file=%S*out/d change=\"mine was added to it\""
    local files = d:json("/api/v1/files")[1].files
    assert.same({ 3, "in place", "drifted" }, { #files, files[1].state, files[3].state })
    assert.matches("out/d$", files[3].path)
    d.dir:save("out/d/.more", "3\n")
    d:wait_log "change=\".more and 1 more were added to it\""
    assert.equal(200, (reload(d, 2)))
    assert.equal("a2 b2", content(d))
    d:wait_log "that version is kept"
    assert.equal(2, #d:json("/api/v1/files")[1].files)
    assert(uv.fs_chmod(d.dir:at "out/d", 448))
    d:wait_log "change=\"its mode was changed from 0755 to 0700\""
    assert.equal(2, select(2, d:log():gsub("added to it", "")))
  end)

  it("is removed and kept where it is added to a folder that is restored", function()
    local d = start "restore"
    d.dir:save("out/d/mine", "3\n")
    wait.until_true(function() return runs(d) == 2 end, nil, function() return d:log() end)
    assert.equal("a1 b1", content(d))
    local kept
    wait.until_true(function()
      kept = d:log():match "kept=%S*/(out/%.d%.changed%-%w+)"
      return kept
    end)
    assert.equal("a1 b1 3", content(d, kept))
  end)

  it("is restored at once, in another folder", function()
    local d = start "restore"
    d.dir:delete "out/d/b"
    wait.until_true(function()
      return d.dir:read "out/d/b" and runs(d) == 2
    end, nil, function() return d:log() end)
    assert.equal("a1 b1", content(d))
    d.dir:delete "out/d"
    wait.until_true(function() return d.dir:read "out/d/b" and runs(d) == 3 end)
    assert.equal("a1 b1", content(d))
  end)

  it("is adopted until its rendered content changes", function()
    local d = start "adopt"
    d.dir:save("out/d/a", "9\n")
    d:wait_log "out/d/a.*it stays until the rendered content changes"
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.equal("9 b1", content(d))
    assert.equal(1, runs(d))
    assert.equal(200, (reload(d, 2)))
    assert.equal("a2 b2", content(d))
  end)
end)

describe("a reader that opens a folder of generations, lists it and reads its files", function()
  after_each(segue.cleanup)

  -- Opens the folder, and reads all relative to it. A folder that was replaced twice meanwhile may
  -- be gone; the one that the link leads to has all its files.
  local script = [[
    local uv, link, stop = require "luv", ...
    local reads, seen = 0, {}
    local function read(folder)
      local texts = {}
      for name in function(scan) return (uv.fs_scandir_next(scan)) end, uv.fs_scandir(folder) do
        local fd = uv.fs_open(folder .. "/" .. name, "r", 0)
        if not fd then return {} end
        texts[#texts + 1] = name .. uv.fs_read(fd, 100, 0)
        uv.fs_close(fd)
      end
      return texts
    end
    while not uv.fs_stat(stop) do
      local target = uv.fs_readlink(link)
      local fd = assert(uv.fs_open(link, "r", 0))
      local texts = read("/proc/self/fd/" .. fd)
      local own = uv.fs_readlink("/proc/self/fd/" .. fd):match "[^/]+$"
      uv.fs_close(fd)
      if #texts == 20 then
        reads = reads + 1
        local x = texts[1]:match "%d+\n"
        seen[x] = true
        for _, text in ipairs(texts) do assert(text:match "%d+\n" == x, "mixed") end
      else
        assert(own ~= uv.fs_readlink(link) or own ~= target, "a file was missing")
      end
    end
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    print(reads, count)
  ]]

  local function run(times)
    local d = folder_module.start { folder = '"out/d"',
      files = "(function() local l = {} for i = 1, 20 do l[i] = file('f' .. i .. '_') end "
        .. "return unpack(l) end)()" }
    d.dir:save("reader.lua", script)
    local reader = process.start { "luajit", d.dir:at "reader.lua", d.dir:at "out/d",
      d.dir:at "stop", name = "the reader" }
    for x = 2, times do assert.equal(200, (reload(d, x))) end
    d.dir:save("stop", "")
    assert.equal(0, reader:wait_exit(20000), reader:describe())
    local reads, count = reader.stdout:match "(%d+)%s+(%d+)"
    assert.is_true(tonumber(reads) > 1 and tonumber(count) > 1, reader:describe())
    left(d, ".d.backup-1 " .. uv.fs_readlink(d.dir:at "out/.d.backup-1"))
  end

  it("sees the files of one generation over reloads", function() run(30) end)
  it("sees the files of one generation over 200 reloads #long", function() run(200) end)
end)

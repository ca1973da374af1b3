-- SPDX-License-Identifier: MIT
-- Reading, listing and writing files: the results, and the error of each failure.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

Tempdir.on_disk()
local os_default = C.segue__os_default()
local MAX = 1048576

pcall(ffi.cdef, [[
int mkfifo(const char *path, unsigned mode);
int setegid(unsigned gid);
int seteuid(unsigned uid);
]])

local function read(path, max, reader)
  local bytes, e = ffi.new("segue__bytes[1]"), C.error()
  local rc = (reader or os_default.read_file)(nil, path, max or MAX, bytes, e)
  if rc < 0 then
    assert.is_true(bytes[0].data == nil)
    local err = C.err(e)
    assert.equal(rc, err.code)
    return nil, err.name, err.message
  end
  local text = ffi.string(bytes[0].data, bytes[0].len)
  assert.equal(0, bytes[0].data[bytes[0].len])
  C.segue__free(bytes[0].data)
  return text
end

local function read_whole(path) return read(path, nil, os_default.read_whole) end

local function list(pattern)
  local names, e = ffi.new("segue__names[1]"), C.error()
  local rc = os_default.list_files(nil, pattern, names, e)
  if rc < 0 then return nil, C.err(e).name, C.err(e).message end
  local found = {}
  for i = 0, tonumber(names[0].count) - 1 do found[#found + 1] = C.str(names[0].items[i]) end
  C.segue__names_deinit(names)
  return found
end

local function write(path, text, options)
  local w, e = ffi.new("segue__write[1]"), C.error()
  w[0].path, w[0].data, w[0].len = path, text, #text
  w[0].mode = options and options.mode or 0
  w[0].keep_owner = options and options.keep_owner or false
  local rc = os_default.write_file(nil, w, e)
  if rc < 0 then return nil, C.err(e).name, C.err(e).message end
  return true
end

-- Runs fn as a user that owns no file.
local function as_nobody(fn)
  assert.equal(0, ffi.C.setegid(65534))
  assert.equal(0, ffi.C.seteuid(65534))
  local ok, err = pcall(fn)
  ffi.C.seteuid(0)
  ffi.C.setegid(0)
  if not ok then error(err, 0) end
end

local dir, live, fds
before_each(function()
  dir = Tempdir.new()
  live, fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
end)
after_each(function()
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  assert.equal(live, tonumber(C.segue__mem_live()))
  assert.equal(fds, C.os_harness_open_fds())
  Tempdir.remove_all()
end)

describe("reading a file that must be whole", function()
  it("is refused while a program has it open for writing, and not for reading", function()
    local path = dir:at("a.yaml")
    dir:write("a.yaml", "x: 1")
    assert.equal("x: 1", read_whole(path))
    local reader = assert(io.open(path, "r"))
    assert.equal("x: 1", read_whole(path))
    local writer = assert(io.open(path, "r+"))
    local text, name, message = read_whole(path)
    assert.is_nil(text)
    assert.equal("ETXTBSY", name)
    assert.matches(path .. " is being written: a program has it open", message, 1, true)
    assert.equal("x: 1", read(path)) -- a file that need not be complete
    writer:write("y")
    assert.equal("ETXTBSY", select(2, read_whole(path)))
    writer:close()
    reader:close()
    assert.equal("y: 1", read_whole(path))
  end)

  it("keeps no lease and no signal: a writer can open the file right away", function()
    local path = dir:at("a.yaml")
    dir:write("a.yaml", "x: 1")
    for _ = 1, 1000 do assert.equal("x: 1", read_whole(path)) end
    local fd = assert(uv.fs_open(path, "r+", 0)) -- would wait 45 s for a lease
    assert(uv.fs_close(fd))
  end)

  it("is not refused where the kernel grants no leases", function()
    assert.truthy(read_whole("/proc/self/status"):find("^Name:"))
  end)
end)

describe("reading a file", function()
  it("returns its bytes, also of an empty file, and zero bytes", function()
    assert.equal("a: 1\n", read(dir:write("a.yaml", "a: 1\n")))
    assert.equal("", read(dir:write("empty", "")))
    assert.equal("x\0y", read(dir:write("zero", "x\0y")))
    local big = ("0123456789abcdef"):rep(65536 / 4)
    assert.equal(big, read(dir:write("big", big)))
  end)

  it("reads through links, and files whose size the system does not know", function()
    dir:write("v1/a", "one")
    dir:link("v1", "now")
    dir:link("now/a", "a")
    assert.equal("one", read(dir:at("a")))
    assert.truthy(read("/proc/self/status"):find("Name:", 1, true))
  end)

  it("reports that a file, or its folder, does not exist", function()
    local _, code, message = read(dir:at("a.yaml"))
    assert.equal("ENOENT", code)
    assert.equal(("cannot read %s: it does not exist; create it or correct the path")
      :format(dir:at("a.yaml")), message)
    _, code, message = read(dir:at("x/y/a.yaml"))
    assert.equal("ENOENT", code)
    assert.equal(("cannot read %s: folder %s is missing; create it or correct the path")
      :format(dir:at("x/y/a.yaml"), dir:at("x")), message)
    dir:link("gone.yaml", "link.yaml")
    _, code, message = read(dir:at("link.yaml"))
    assert.equal("ENOENT", code)
    assert.truthy(message:find("it is a symbolic link to gone.yaml, which does not exist; "
      .. "create that or correct the link", 1, true))
    _, code, message = read("")
    assert.equal("ENOENT", code)
    assert.truthy(message:find("name is empty", 1, true))
  end)

  it("names the user of the process and the owner of the file if permission is denied", function()
    local path = dir:write("secret", "x")
    uv.fs_chmod(path, 384)
    uv.fs_chmod(dir.path, 493)
    as_nobody(function()
      local _, code, message = read(path)
      assert.equal("EACCES", code)
      assert.equal(("cannot read %s: permission denied to user nobody (uid 65534); it has mode "
        .. "0600 and belongs to root (uid 0)"):format(path), message)
    end)
    uv.fs_chmod(dir.path, 448)
    as_nobody(function()
      local _, code, message = read(path)
      assert.equal("EACCES", code)
      assert.truthy(message:find("folder " .. dir.path .. " has mode 0700", 1, true))
    end)
  end)

  it("refuses what is not a regular file, without opening or waiting for it", function()
    local _, code, message = read(dir:mkdir("conf.d"))
    assert.equal("EISDIR", code)
    assert.truthy(message:find("conf.d/*.yaml", 1, true))
    assert.equal(0, ffi.C.mkfifo(dir:at("fifo"), 384))
    _, code, message = read(dir:at("fifo"))
    assert.equal("EFTYPE", code)
    assert.truthy(message:find("it is a named pipe, not a regular file; name a file", 1, true))
    _, code, message = read("/dev/zero")
    assert.equal("EFTYPE", code)
    assert.truthy(message:find("it is a device", 1, true))
  end)

  it("names a circle of links, a file in place of a folder, a name too long", function()
    dir:link("b", "a")
    dir:link("a", "b")
    local _, code, message = read(dir:at("a"))
    assert.equal("ELOOP", code)
    assert.truthy(message:find("go in a circle", 1, true))
    dir:write("file", "")
    _, code, message = read(dir:at("file/a"))
    assert.equal("ENOTDIR", code)
    local folder = dir:at("file") .. " is a file, not a folder; correct the path"
    assert.truthy(message:find(folder, 1, true))
    _, code = read(dir:at(("n"):rep(300)))
    assert.equal("ENAMETOOLONG", code)
  end)

  it("refuses a file over the limit, whatever size the system reports", function()
    local path = dir:write("a", ("x"):rep(101))
    assert.equal(("x"):rep(101), read(path, 101))
    local _, code, message = read(path, 100)
    assert.equal("SEGUE_ELIMIT", code)
    assert.equal(path .. " is 101 bytes; the limit is 100: split the file, "
      .. "perhaps into a folder that a dir source reads", message)
    _, code, message = read("/proc/self/status", 10)
    assert.equal("SEGUE_ELIMIT", code)
    assert.truthy(message:find("at least 11 bytes", 1, true))
  end)

  it("reads a file again that changed meanwhile, and fails after five attempts", function()
    local path = dir:write("a", "x")
    C.segue__fault_arm("read.changed#1=fail,read.changed#2=fail")
    assert.equal("x", read(path))
    assert.equal(3, C.segue__fault_reached("read.changed"))
    C.segue__fault_arm(nil)
    C.segue__fault_arm("read.changed=fail")
    local _, code, message = read(path)
    assert.equal("EAGAIN", code)
    assert.truthy(message:find("changed each of 5 times", 1, true))
    assert.equal(5, C.segue__fault_reached("read.changed"))
  end)

  it("never returns a mixture of two versions that are renamed into place", function()
    local path = dir:write("a", ("0"):rep(200000))
    local script = ('cd %s; i=0; while [ $i -lt 150 ]; do '
      .. 'head -c 200000 /dev/zero | tr "\\0" $((i %% 10)) > n; mv n a; i=$((i+1)); done')
    local pipe = io.popen(script:format(dir.path) .. "; echo end")
    local reads, last = 0, nil
    while reads < 20 or last ~= "9" do
      local text = assert(read(path))
      last = text:sub(1, 1)
      assert.equal(200000, #text)
      assert.is_true(text == last:rep(200000))
      reads = reads + 1
    end
    assert.equal("end\n", pipe:read("*a"))
    pipe:close()
  end)

  it("reports missing memory, wherever it runs out", function()
    local path = dir:write("a", ("x"):rep(10000))
    for n = 1, 50 do
      C.segue__mem_fail_at(n)
      local text, code = read(path)
      C.segue__mem_fail_at(0)
      if text then
        assert.is_true(n > 1)
        return
      end
      assert.equal("ENOMEM", code)
    end
    error("it never succeeded")
  end)
end)

describe("listing a folder", function()
  it("returns the regular files that match, sorted by bytes", function()
    for _, name in ipairs { "b", "a", "B", "10", "9", ".h" } do
      dir:write("d/" .. name .. ".yaml", "")
    end
    dir:write("d/x.json", "")
    dir:mkdir("d/sub.yaml")
    ffi.C.mkfifo(dir:at("d/pipe.yaml"), 384)
    dir:link("a.yaml", "d/link.yaml")
    dir:link("nowhere", "d/dead.yaml")
    local want = {}
    for _, name in ipairs { "10", "9", "B", "a", "b", "dead", "link" } do
      want[#want + 1] = dir:at("d/" .. name .. ".yaml")
    end
    assert.same(want, list(dir:at("d/*.yaml")))
    assert.same({ dir:at("d/.h.yaml") }, list(dir:at("d/.*.yaml")))
    assert.same({ dir:at("d/9.yaml") }, list(dir:at("d/[0-9].yaml")))
  end)

  it("returns none if no file matches, and names relative to the current folder", function()
    assert.same({}, list(dir:at("*.yaml")))
    assert.same({ "LICENSE" }, list("LICENS?"))
  end)

  it("fails where the folder is missing, unreadable or not a folder", function()
    local _, code, message = list(dir:at("x/*.yaml"))
    assert.equal("ENOENT", code)
    assert.truthy(message:find(dir:at("x") .. ": it does not exist", 1, true))
    dir:write("file", "")
    _, code = list(dir:at("file/*"))
    assert.equal("ENOTDIR", code)
    dir:mkdir("locked")
    uv.fs_chmod(dir:at("locked"), 448)
    uv.fs_chmod(dir.path, 493)
    as_nobody(function()
      _, code, message = list(dir:at("locked/*"))
      assert.equal("EACCES", code)
      assert.truthy(message:find("user nobody", 1, true))
    end)
  end)

  it("accepts wildcards in the last part only", function()
    for _, pattern in ipairs { dir:at("*/a.yaml"), dir:at("") } do
      local _, code = list(pattern)
      assert.equal("SEGUE_EUSAGE", code)
    end
  end)

  it("reports missing memory, wherever it runs out", function()
    for i = 1, 5 do dir:write(i .. ".yaml", "") end
    for n = 1, 50 do
      C.segue__mem_fail_at(n)
      local names, code = list(dir:at("*.yaml"))
      C.segue__mem_fail_at(0)
      if names then
        assert.is_true(n > 5)
        assert.equal(5, #names)
        return
      end
      assert.equal("ENOMEM", code)
    end
    error("it never succeeded")
  end)
end)

describe("writing a file", function()
  local function mode(name) return uv.fs_stat(dir:at(name)).mode % 4096 end

  it("replaces it as a whole, and leaves no other file", function()
    assert.is_true(write(dir:at("a"), "one"))
    assert.is_true(write(dir:at("a"), "two"))
    assert.equal("two", dir:read("a"))
    assert.is_true(write(dir:at("a"), ""))
    assert.equal("", dir:read("a"))
    assert.same({ "a" }, dir:list())
  end)

  it("keeps the mode, uses the requested one, or makes it private", function()
    write(dir:at("a"), "x")
    assert.equal(384, mode("a"))
    uv.fs_chmod(dir:at("a"), 420)
    write(dir:at("a"), "y")
    assert.equal(420, mode("a"))
    write(dir:at("a"), "z", { mode = 416 })
    assert.equal(416, mode("a"))
  end)

  it("keeps the owner on request", function()
    dir:write("a", "x")
    uv.fs_chown(dir:at("a"), 1234, 4321)
    write(dir:at("a"), "y", { keep_owner = true })
    local st = uv.fs_stat(dir:at("a"))
    assert.same({ 1234, 4321 }, { st.uid, st.gid })
    write(dir:at("a"), "z")
    assert.equal(0, uv.fs_stat(dir:at("a")).uid)
  end)

  it("replaces the target of a link, not the link", function()
    dir:write("real/a", "x")
    dir:link("real/a", "a")
    assert.is_true(write(dir:at("a"), "y"))
    assert.equal("link", uv.fs_lstat(dir:at("a")).type)
    assert.equal("y", dir:read("real/a"))
    assert.same({ "a" }, dir:list("real"))
  end)

  it("writes names as long as the file system allows", function()
    local name = ("n"):rep(255)
    assert.is_true(write(dir:at(name), "x"))
    assert.equal("x", dir:read(name))
  end)

  it("writes the file and then its folder to the disk", function()
    local files, folders = C.spec_fsyncs_of_files(), C.spec_fsyncs_of_folders()
    assert.is_true(write(dir:at("a"), "new"))
    assert.equal(files + 1, C.spec_fsyncs_of_files())
    assert.equal(folders + 1, C.spec_fsyncs_of_folders())
  end)

  it("leaves the old file and no other at each fault", function()
    dir:write("a", "old")
    for _, point in ipairs { "write.temp", "write.sync", "write.rename" } do
      C.segue__fault_arm(nil)
      C.segue__fault_arm(point .. "=fail:-28")
      local ok, code, message = write(dir:at("a"), "new")
      assert.is_nil(ok)
      assert.equal("ENOSPC", code)
      assert.equal(("cannot write %s: the file system is full; make room"):format(dir:at("a")),
        message)
      assert.equal(1, C.segue__fault_reached(point))
      assert.equal("old", dir:read("a"))
      assert.same({ "a" }, dir:list())
    end
  end)

  it("has the new file in place where only the sync of the folder fails", function()
    dir:write("a", "old")
    C.segue__fault_arm("write.dirsync=fail")
    local ok, code = write(dir:at("a"), "new")
    assert.is_nil(ok)
    assert.equal("EIO", code)
    assert.equal(1, C.segue__fault_reached("write.dirsync"))
    assert.equal("new", dir:read("a"))
    assert.same({ "a" }, dir:list())
  end)

  -- Writes "new" to the file a in another process; returns the output of that process.
  local function write_elsewhere(wrap, faults)
    local script = ([[
      local C = require "spec.support.c"
      local w, e = C.ffi.new("segue__write[1]"), C.error()
      w[0].path, w[0].data, w[0].len = "%s", "new", 3
      C.segue__os_default().write_file(nil, w, e)
      print("survived")]]):format(dir:at("a"))
    local file = dir:write("script.lua", script)
    -- A sanitizer's library must come first in that process as well.
    local pipe = io.popen(("%s env LD_PRELOAD=%s ASAN_OPTIONS=detect_leaks=0 SEGUE_FAULTS=%s "
      .. "luajit %s 2>&1"):format(wrap, os.getenv("SEGUE_SPEC_PRELOAD") or "", faults, file))
    local output = pipe:read("*a")
    pipe:close()
    return output
  end

  it("syncs the file before it is renamed, and the folder after", function()
    local trace = dir:at("trace")
    local output = write_elsewhere("strace -y -o " .. trace .. " -e trace=fsync,renameat", "")
    assert.truthy(output:find("survived", 1, true), output)
    local order = {}
    for line in io.lines(trace) do
      local call, path = line:match("^(%w+)%(%d+<([^>]*)>")
      if call == "fsync" and path == dir.path then call = "fsync folder" end
      if call then order[#order + 1] = call end
    end
    assert.same({ "fsync", "renameat", "fsync folder" }, order)
  end)

  it("leaves the old or the new file, whole, when it is killed at any point", function()
    for _, point in ipairs { "write.temp", "write.sync", "write.rename", "write.dirsync" } do
      dir:write("a", "old")
      local output = write_elsewhere("", point .. "=kill")
      assert.is_nil(output:find("survived", 1, true), output)
      assert.is_nil(output:find("luajit:", 1, true), output)
      assert.equal(point == "write.dirsync" and "new" or "old", dir:read("a"))
    end
  end)

  it("names the cause of a failure", function()
    local _, code, message = write(dir:at("x/y/a"), "x")
    assert.equal("ENOENT", code)
    assert.truthy(message:find("folder " .. dir:at("x") .. " is missing", 1, true))
    _, code = write(dir:mkdir("folder"), "x")
    assert.equal("EISDIR", code)
    dir:write("file", "")
    _, code, message = write(dir:at("file/a"), "x")
    assert.equal("ENOTDIR", code)
    assert.truthy(message:find("is a file, not a folder", 1, true))
    uv.fs_chmod(dir.path, 493)
    as_nobody(function()
      _, code, message = write(dir:at("a"), "x")
      assert.equal("EACCES", code)
      assert.truthy(message:find("permission denied to user nobody (uid 65534); folder " .. dir.path
        .. " has mode 0755 and belongs to root", 1, true), message)
    end)
    _, code, message = write("/proc/version", "x")
    assert.is_string(code)
    assert.truthy(message:find("cannot write /proc/version", 1, true))
  end)

  it("explains a mount point and a read-only file system", function()
    for code, text in pairs { [-16] = "it is a mount point and cannot be replaced; mount its",
      [-30] = "mounted read-only; remount it" } do
      C.segue__fault_arm(nil)
      C.segue__fault_arm("write.rename=fail:" .. code)
      local _, _, message = write(dir:at("a"), "x")
      assert.truthy(message:find(text, 1, true))
      assert.same({}, dir:list())
    end
  end)
end)

describe("the environment", function()
  it("is read through the same struct", function()
    ffi.C.setenv("SEGUE_SPEC_VALUE", "seen", 1)
    assert.equal("seen", C.str(os_default.getenv(nil, "SEGUE_SPEC_VALUE")))
    assert.is_true(os_default.getenv(nil, "SEGUE_SPEC_NOT_THERE") == nil)
    local all, found = os_default.environ(nil), false
    for i = 0, 10000 do
      if all[i] == nil then break end
      found = found or C.str(all[i]) == "SEGUE_SPEC_VALUE=seen"
    end
    assert.is_true(found)
  end)
end)

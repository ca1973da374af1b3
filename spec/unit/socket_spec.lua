-- SPDX-License-Identifier: MIT
-- The registry of listening sockets: one owner for each address, leases for its users, and sockets
-- that another process passed on.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local port = require "spec.support.port"
local raw = require "spec.support.raw_socket"
local uv = require "luv"
local wait = require "spec.support.wait"
local ffi = C.ffi

local PRIVATE = tonumber("600", 8)
local dir, live, sockets, log, lines, sink

local function parse(text)
  local address = C.new "segue__address[1]"
  C.check(C.segue__address_parse(text, address, C.error()))
  return address
end

local function named(fd)
  local address = C.new "segue__address[1]"
  local rc = C.segue__address_of_fd(fd, address)
  return rc == 0 and ffi.string(address[0].text) or C.name(rc)
end

before_each(function()
  dir, lines = Tempdir.new(), {}
  live = tonumber(C.segue__mem_live())
  sink = ffi.cast("void (*)(void *, const segue_log_entry *)", function(_, entry)
    local fields = {}
    for i = 0, tonumber(entry.field_count) - 1 do
      local field = entry.fields[i]
      fields[ffi.string(field.key)] = field.text ~= nil and ffi.string(field.text)
        or tonumber(field.number)
    end
    lines[#lines + 1] = { level = tonumber(entry.level), text = ffi.string(entry.message),
      fields = fields }
  end)
  log = ffi.new("segue__logger", { level = 2, sink = sink })
  local out = ffi.new "segue__sockets *[1]"
  C.check(C.segue__sockets_new(out, log))
  sockets = out[0]
end)
after_each(function()
  C.segue__mem_fail_at(0)
  if sockets then C.segue__sockets_free(sockets) end
  sockets = nil
  sink:free()
  raw.close_all()
  assert.equal(live, tonumber(C.segue__mem_live()))
  Tempdir.remove_all()
end)

local function acquire(text, options)
  options = options or {}
  local lease, e = ffi.new "segue__socket_lease[1]", C.error()
  local wish = ffi.new("segue__socket_wish[1]")
  local address, user = parse(text), options.user or "the spec"
  wish[0].address, wish[0].name, wish[0].user = address, options.name, user
  wish[0].mode = options.mode or 0
  local rc = C.segue__socket_acquire(sockets, wish, lease, e)
  if rc < 0 then return nil, C.err(e) end
  return lease
end

local function adopt(list)
  local passed = ffi.new "segue__passed[1]"
  local size = #list * ffi.sizeof "segue__passed_socket"
  passed[0].items = ffi.cast("segue__passed_socket *", C.segue__malloc(size))
  ffi.fill(passed[0].items, size)
  for i, item in ipairs(list) do
    local to = passed[0].items[i - 1]
    to.fd = raw.given(item[1])
    ffi.copy(to.name, item[2] or "")
    C.check(C.segue__passed_check(to, nil))
    passed[0].count = i
  end
  return C.segue__sockets_adopt(sockets, passed)
end

local function share(lease)
  assert(lease, "no lease")
  local fd = C.segue__socket_share(lease)
  assert(fd >= 0)
  return fd
end

-- The socket that the descriptor of a lease stands for.
local function socket_of(lease)
  local fd = share(lease)
  local identity = raw.identity(fd)
  ffi.C.close(fd)
  return identity
end

local function text_of(lease) return ffi.string(C.segue__socket_address(lease).text) end

local function port_of(lease) return C.segue__socket_address(lease).port end

-- Is a listener there? A refused connection comes at once, as does one that the kernel queues.
local function reachable(where)
  local client = type(where) == "number" and uv.new_tcp() or uv.new_pipe(false)
  local result
  local function cb(err) result = err or "yes" end
  if type(where) == "number" then client:connect("127.0.0.1", where, cb)
  else client:connect(where, cb) end
  while not result do uv.run "once" end
  client:close()
  uv.run "nowait"
  return result == "yes"
end

describe("the address of a socket", function()
  it("is the text that a policy writes", function()
    local p = port.free()
    for text, fd in pairs {
      ["127.0.0.1:" .. p] = raw.tcp("127.0.0.1", p),
      ["[::1]:" .. p] = raw.tcp("::1", p),
      ["udp://127.0.0.1:" .. p] = raw.udp("127.0.0.1", p),
      ["unix:" .. dir:at "a"] = raw.unix(dir:at "a"),
      ["unix:@segue-spec-" .. uv.os_getpid()] = raw.unix("@segue-spec-" .. uv.os_getpid()),
    } do
      assert.equal(text, named(fd))
      assert.equal(text, ffi.string(parse(text)[0].text))
    end
    local any = port.free()
    assert.equal("[::]:" .. any, named(raw.tcp("::", any)))
  end)

  it("is the IPv4 address where IPv6 only wraps one", function()
    local p = port.free()
    assert.equal("127.0.0.1:" .. p, named(raw.tcp("::ffff:127.0.0.1", p)))
  end)

  it("is none for sockets of other kinds", function()
    for _, fd in ipairs { raw.unix_datagrams(dir:at "d"), raw.unix_packets(dir:at "p"),
        raw.netlink() } do
      assert.equal("ENOTSUP", named(fd))
    end
  end)
end)

describe("a passed descriptor", function()
  local function refused(fd, name)
    local item, e = ffi.new "segue__passed_socket[1]", C.error()
    item[0].fd = fd
    ffi.copy(item[0].name, name or "web")
    local rc = C.segue__passed_check(item, e)
    return rc < 0 and C.err(e).message or nil, rc < 0 and C.name(rc)
  end

  it("is refused by number, name, kind and remedy unless it is a socket to listen on", function()
    local p = port.free()
    local listener = raw.tcp("127.0.0.1", p)
    local read_end = raw.pipe()
    for fd, wanted in pairs {
      [read_end] = "is a pipe: segue uses only ListenStream= and ListenDatagram=",
      [raw.file "Makefile"] = "is a file: segue uses only ListenStream=",
      [raw.file "spec"] = "is a folder: ",
      [raw.file "/dev/null"] = "is a character device: ",
      [raw.connection("127.0.0.1", p)] = "is a connection, and segue needs the socket that accepts "
        .. "them: remove Accept=yes from the socket unit",
      [raw.tcp("127.0.0.1", port.free(), { silent = true })] = "is a stream socket that does not "
        .. "listen: the process that passes it has to call listen(2)",
      [raw.unix_packets(dir:at "p")] = "is a socket of another kind than TCP, UDP and unix stream: "
        .. "remove it from the socket unit",
      [raw.unix_datagrams(dir:at "d")] = "of another kind", [raw.netlink()] = "of another kind",
      [999999] = "is not open: LISTEN_FDS is larger",
    } do
      local message, code = refused(fd)
      assert.equal("SEGUE_EUSAGE", code, wanted)
      assert.matches("^the passed descriptor " .. fd .. " %(web%) is ", message)
      assert.matches(wanted, message, 1, true)
    end
    assert.is_nil((refused(listener)))
    assert.matches("^the passed descriptor 999999 is not open", (refused(999999, "")))
  end)
end)

describe("the environment of a service manager", function()
  local NAMES = { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES" }
  after_each(function()
    for _, name in ipairs(NAMES) do uv.os_unsetenv(name) end
  end)

  local function read(pid, fds, names)
    for i, value in ipairs { pid, fds, names } do uv.os_setenv(NAMES[i], tostring(value)) end
    local passed, e = ffi.new "segue__passed[1]", C.error()
    local rc = C.segue__passed_read(passed, e)
    for _, name in ipairs(NAMES) do assert.is_nil((uv.os_getenv(name)), name) end
    assert.equal(0, tonumber(passed[0].count))
    return rc, rc < 0 and C.err(e).message
  end

  it("is read once and removed, also if it is invalid or for another process", function()
    local mine = uv.os_getpid()
    assert.equal(0, (read(mine + 1, 1, "web")))
    assert.equal(0, (read("x" .. mine, 1, "web")))
    assert.equal(0, (read(mine, 0, "")))
    for fds, wanted in pairs { [""] = '"", which is no count', ["-1"] = '"-1", which is no count',
        ["4294967296"] = "which is no count", ["99999999999999999999"] = "which is no count" } do
      local rc, message = read(mine, fds, "web")
      assert.equal("SEGUE_EUSAGE", C.name(rc))
      assert.matches(wanted, message, 1, true)
    end
  end)
end)

describe("the registry", function()
  it("binds new addresses, and closes them with the last lease", function()
    local p = port.free()
    local lease = acquire("127.0.0.1:" .. p)
    assert.equal("127.0.0.1:" .. p, text_of(lease))
    assert.is_true(reachable(p))
    local lent = ffi.new "segue__socket_lease[1]"
    C.segue__socket_lend(lease, lent)
    C.segue__socket_release(lease)
    assert.is_true(reachable(p))
    C.segue__socket_release(lent)
    assert.is_false(reachable(p))
  end)

  it("gives duplicates that are closed on exec", function()
    local lease = acquire "127.0.0.1:0"
    local fd = share(lease)
    assert.equal(1, ffi.C.fcntl(fd, 1)) -- F_GETFD: FD_CLOEXEC
    ffi.C.close(fd)
    C.segue__socket_release(lease)
  end)

  it("finds the port that the kernel chose, another one each time", function()
    local a, b = acquire "127.0.0.1:0", acquire "127.0.0.1:0"
    assert.is_true(port_of(a) > 0 and port_of(a) ~= port_of(b))
    assert.equal("127.0.0.1:" .. port_of(a), text_of(a))
    C.segue__socket_release(a)
    C.segue__socket_release(b)
    local six = acquire "[::1]:0"
    assert.equal("[::1]:" .. port_of(six), text_of(six))
    C.segue__socket_release(six)
  end)

  it("keeps TCP and UDP of one port apart", function()
    local p = port.free()
    local tcp, udp = acquire("127.0.0.1:" .. p), acquire("udp://127.0.0.1:" .. p)
    assert.is_not.equal(socket_of(tcp), socket_of(udp))
    C.segue__socket_release(tcp)
    C.segue__socket_release(udp)
  end)

  it("names the user of an address that another one requests", function()
    local p = port.free()
    local lease = acquire("127.0.0.1:" .. p, { user = "the admin API" })
    local none, e = acquire("127.0.0.1:" .. p)
    assert.is_nil(none)
    assert.equal("EADDRINUSE", e.name)
    assert.equal("127.0.0.1:" .. p .. " is in use by the admin API: choose another address (to "
      .. "move an address, remove it in one reload and add it in the next)", e.message)
    C.segue__socket_release(lease)
  end)

  it("passes a socket to the next user while a thread still leaves it", function()
    local p = port.free()
    local lease, thread = acquire("127.0.0.1:" .. p), ffi.new "segue__socket_lease[1]"
    C.segue__socket_lend(lease, thread)
    local identity = socket_of(lease)
    C.segue__socket_release(lease)
    C.segue__socket_leave(thread) -- the kernel drops new connections from here on
    local again = assert(acquire("127.0.0.1:" .. p))
    assert.equal(identity, socket_of(again))
    C.segue__socket_release(thread)
    assert.is_true(reachable(p))
    C.segue__socket_release(again)
    assert.is_false(reachable(p))
  end)

  it("refuses new connections of a socket once all leases have left, and only then", function()
    local SO_GET_FILTER = 26
    local lease, thread = acquire "127.0.0.1:0", ffi.new "segue__socket_lease[1]"
    local function is_deaf()
      local size = ffi.new("unsigned[1]", 0)
      local fd = share(thread)
      assert(ffi.C.getsockopt(fd, 1, SO_GET_FILTER, nil, size) == 0)
      ffi.C.close(fd)
      return size[0] > 0
    end
    C.segue__socket_lend(lease, thread)
    C.segue__socket_leave(lease)
    C.segue__socket_leave(lease)
    assert.is_false(is_deaf())
    C.segue__socket_leave(thread)
    assert.is_true(is_deaf())
    C.segue__socket_release(lease)
    C.segue__socket_release(thread)
  end)

  it("removes the file of a unix socket when the last one leaves, if it is its own", function()
    local path = dir:at "s"
    local lease = acquire("unix:" .. path)
    assert.is_true(C.segue__socket_has_file(lease))
    C.segue__socket_leave(lease)
    assert.is_nil((uv.fs_stat(path)))
    C.segue__socket_release(lease)
    lease = acquire("unix:" .. path)
    os.remove(path)
    assert.is_false(C.segue__socket_has_file(lease))
    local other = acquire("unix:" .. path) -- its file is gone, so the address is free
    C.segue__socket_release(lease)
    assert.is_true(C.segue__socket_has_file(other))
    C.segue__socket_disown(other)
    C.segue__socket_release(other)
    assert.truthy(uv.fs_stat(path))
  end)

  it("lets a thread release after its end", function()
    local lease = acquire "127.0.0.1:0"
    local p = port_of(lease)
    C.segue__sockets_free(sockets)
    sockets = nil
    assert.is_true(reachable(p))
    C.segue__socket_release(lease)
    assert.is_false(reachable(p))
  end)

  it("fails cleanly without memory", function()
    local p = port.free()
    C.segue__mem_fail_at(1)
    local none, e = acquire("127.0.0.1:" .. p)
    C.segue__mem_fail_at(0)
    assert.is_nil(none)
    assert.equal("ENOMEM", e.name)
    assert.is_false(reachable(p))
    local fd = raw.tcp("127.0.0.1", p)
    C.segue__mem_fail_at(2) -- the first is the list of the spec
    assert.equal("ENOMEM", C.name(adopt { { fd } }))
    C.segue__mem_fail_at(0)
    assert.is_false(reachable(p))
  end)
end)

-- The socket option makes the kernel keep a handshake open until the client has sent bytes.
describe("a handshake that is under way", function()
  local TCP, DEFER_ACCEPT = 6, 9

  for name, hosts in pairs { ["of IPv4"] = { "127.0.0.1", "127.0.0.1" },
    ["of IPv6"] = { "::1", "::1" }, ["of IPv4 at a socket of IPv6"] = { "::", "127.0.0.1" } } do
    it("is found at its own port until it is complete: " .. name, function()
      local fd, other = raw.tcp(hosts[1], 0), raw.tcp(hosts[1], 0)
      assert.equal(0, ffi.C.setsockopt(fd, TCP, DEFER_ACCEPT, ffi.new("int[1]", 60), 4))
      local address = C.new "segue__address[1]"
      C.check(C.segue__address_of_fd(fd, address))
      assert.equal(0, C.segue__socket_handshakes(fd))
      local client = raw.connection(hosts[2], address[0].port)
      assert.equal(1, C.segue__socket_handshakes(fd))
      assert.equal(0, C.segue__socket_handshakes(other))
      assert.equal(1, ffi.C.write(client, "x", 1))
      wait.until_true(function() return C.segue__socket_handshakes(fd) == 0 end)
    end)
  end

  it("is not known for a descriptor that is no socket", function()
    assert.is_true(C.segue__socket_handshakes(raw.file "/dev/null") < 0)
  end)
end)

describe("a passed socket", function()
  local p
  before_each(function() p = port.free() end)

  it("is used instead of a new one, and outlives its users", function()
    local fd = raw.tcp("127.0.0.1", p)
    local identity = raw.identity(fd)
    adopt { { fd, "web" } }
    for _ = 1, 2 do
      local lease = acquire("localhost:" .. p)
      assert.equal(identity, socket_of(lease))
      C.segue__socket_release(lease)
      assert.is_true(reachable(p))
    end
    C.segue__sockets_free(sockets)
    sockets = nil
    assert.is_false(reachable(p))
  end)

  it("does not block, and never refuses connections: the other process has it too", function()
    local O_NONBLOCK, F_GETFL, SO_GET_FILTER = 2048, 3, 26
    local mine = raw.tcp("127.0.0.1", p)
    adopt { { raw.dup(mine) } }
    local lease = acquire("127.0.0.1:" .. p)
    assert.equal(O_NONBLOCK, bit.band(ffi.C.fcntl(mine, F_GETFL), O_NONBLOCK))
    C.segue__socket_release(lease)
    local size = ffi.new("unsigned[1]", 0)
    assert.equal(0, ffi.C.getsockopt(mine, 1, SO_GET_FILTER, nil, size))
    assert.equal(0, size[0])
    lease = acquire("127.0.0.1:" .. p)
    C.segue__socket_shut(lease)
    assert.is_true(reachable(p))
    C.segue__socket_release(lease)
  end)

  it("keeps its file, and is found by each path that leads to it", function()
    local fd = raw.unix(dir:at "s")
    local identity = raw.identity(fd)
    assert(uv.fs_chmod(dir:at "s", PRIVATE))
    adopt { { fd } }
    dir:link(dir.path, "link")
    for _, path in ipairs { dir:at "s", dir:at "link/s" } do
      local lease = acquire("unix:" .. path)
      assert.equal(identity, socket_of(lease))
      C.segue__socket_release(lease)
      assert.is_true(reachable(dir:at "s"))
    end
    local abstract = "@segue-spec-" .. uv.os_getpid()
    fd = raw.unix(abstract)
    identity = raw.identity(fd)
    adopt { { fd } }
    local lease = acquire("unix:" .. abstract)
    assert.equal(identity, socket_of(lease))
    C.segue__socket_release(lease)
  end)

  it("whose file more users can open than its user allows is refused by name", function()
    adopt { { raw.unix(dir:at "s"), "api" } }
    assert(uv.fs_chmod(dir:at "s", tonumber("666", 8)))
    local none, e = acquire("unix:" .. dir:at "s")
    assert.is_nil(none)
    assert.equal("SEGUE_EUSAGE", e.name)
    assert.matches("^the passed descriptor %d+ %(api%): %S+ has mode 0666, and the policy allows "
      .. "0600: write SocketMode=0600 in the socket unit$", e.message)
    C.segue__socket_release(acquire("unix:" .. dir:at "s", { mode = tonumber("666", 8) }))
    assert(uv.fs_chmod(dir:at "s", PRIVATE))
    C.segue__socket_release(acquire("unix:" .. dir:at "s"))
  end)

  it("is chosen by name where several have one address, else the first", function()
    local fds = {}
    for i, name in ipairs { "blue", "green", "red" } do
      local fd = raw.tcp("127.0.0.1", p, { reuse_port = true })
      fds[i] = raw.identity(fd)
      adopt { { fd, name } }
    end
    for name, i in pairs { green = 2, red = 3, other = 1 } do
      local lease = acquire("127.0.0.1:" .. p, { name = name })
      assert.equal(fds[i], socket_of(lease), name)
      C.segue__socket_release(lease)
    end
  end)

  it("is used once although it is passed twice", function()
    local fd = raw.tcp("127.0.0.1", p)
    local again = raw.dup(fd)
    adopt { { fd, "web" }, { again, "again" } }
    local lease = acquire("127.0.0.1:" .. p)
    C.segue__sockets_report_unused(sockets)
    assert.equal(1, #lines)
    C.segue__socket_release(lease)
  end)

  it("that takes the address of a listener in part is named in the refusal", function()
    adopt { { raw.tcp("::", p), "web" } }
    local none, e = acquire("0.0.0.0:" .. p)
    assert.is_nil(none)
    assert.equal("EADDRINUSE", e.name)
    assert.matches("^0%.0%.0%.0:" .. p .. " cannot be opened beside the passed descriptor %d+ "
      .. "%(web%), which listens on %[::%]:" .. p .. ": write the same address in the policy and "
      .. "in the socket unit$", e.message)
    local lease = acquire("[::]:" .. p)
    assert.is_true(reachable(p))
    C.segue__socket_release(lease)
  end)

  it("of UDP where the policy listens by TCP is refused by name", function()
    adopt { { raw.udp("127.0.0.1", p), "web" } }
    local none, e = acquire("127.0.0.1:" .. p)
    assert.is_nil(none)
    assert.equal("SEGUE_EUSAGE", e.name)
    assert.matches("%(web%) is a UDP socket of this address, and the policy listens by TCP: write "
      .. "ListenStream= instead of ListenDatagram= in the socket unit$", e.message)
    C.segue__socket_release(acquire("udp://127.0.0.1:" .. p))
  end)

  it("that no listener uses is reported, once until it was used", function()
    adopt { { raw.tcp("127.0.0.1", p), "web" } }
    for _ = 1, 3 do C.segue__sockets_report_unused(sockets) end
    assert.equal(1, #lines)
    assert.equal(1, lines[1].level)
    assert.matches("no listener of the policy uses this passed socket", lines[1].text)
    assert.same({ "web", "127.0.0.1:" .. p }, { lines[1].fields.name, lines[1].fields.address })
    local lease = acquire("127.0.0.1:" .. p)
    C.segue__sockets_report_unused(sockets)
    assert.equal(2, #lines)
    assert.matches("a listener uses a passed socket", lines[2].text)
    C.segue__socket_release(lease)
    C.segue__sockets_report_unused(sockets)
    assert.equal(3, #lines)
  end)
end)

-- SPDX-License-Identifier: MIT
-- The ingress by itself: what a transaction does with its ports, and what is left of it when memory
-- runs out. Requests are in spec/embed/ingress_spec.lua.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local http = require "spec.support.http"
local port = require "spec.support.port"
local wait = require "spec.support.wait"
local ffi = C.ffi

describe("an ingress", function()
  local loop, log, gates, sockets, ingress, base, policies, ops

  before_each(function()
    base, policies = C.segue__mem_live(), {}
    loop = Loop.uv()
    log = ffi.new("segue__logger")
    ops = ffi.new("segue_module_ops")
    ops.size = ffi.sizeof(ops)
    local out = ffi.new("segue__gates *[1]")
    C.check(C.segue__gates_new(out))
    gates = out[0]
    C.segue__gates_begin(gates, loop.ptr)
    out = ffi.new("segue__sockets *[1]")
    C.check(C.segue__sockets_new(out, log))
    sockets = out[0]
  end)
  local function open()
    local options, out = ffi.new("segue__ingress_options"), ffi.new("segue__ingress *[1]")
    options.size, options.loop, options.log = ffi.sizeof(options), loop.ptr, log
    options.gates, options.sockets = gates, sockets
    local rc = C.segue__ingress_new(out, options)
    ingress = rc == 0 and out[0] or nil
    return rc
  end
  local function close()
    if not ingress then return end
    local closed, ended = false, false
    C.segue__ingress_close(ingress, 100, loop:cb("void (*)(void *)", function() closed = true end),
      nil)
    loop:run_until(function() return closed end, 60000)
    C.segue__ingress_free(ingress, loop:cb("void (*)(void *)", function() ended = true end), nil)
    ingress = nil
    loop:run_until(function() return ended end, 60000)
  end
  after_each(function()
    http.close_all()
    close()
    for _, policy in ipairs(policies) do C.segue__policy_unref(policy) end
    C.segue__gates_end(gates)
    C.segue__gates_unref(gates)
    C.segue__sockets_free(sockets)
    loop:close()
    assert.equal(tonumber(base), tonumber(C.segue__mem_live()))
  end)

  -- Modules by their addresses: policy { m = { "http://..." } }
  local function policy(modules, threads)
    local out, names = ffi.new("segue__policy *[1]"), {}
    C.check(C.segue__policy_new(out))
    local p = out[0]
    policies[#policies + 1] = p
    for name in pairs(modules) do names[#names + 1] = name end
    table.sort(names)
    p.threads = threads or 1
    p.modules = ffi.cast("segue__module_spec *",
      C.segue__calloc(#names, ffi.sizeof("segue__module_spec")))
    p.module_count = #names
    for i, name in ipairs(names) do
      local spec, urls = p.modules[i - 1], modules[name]
      spec.name, spec.kind, spec.ops = C.segue__strdup(name), C.segue__strdup("c"), ops
      spec.listen.urls = ffi.cast("char **", C.segue__calloc(#urls, ffi.sizeof("char *")))
      spec.listen.url_count = #urls
      for k, url in ipairs(urls) do spec.listen.urls[k - 1] = C.segue__strdup(url) end
    end
    return p
  end
  local function stage(p)
    local errors = ffi.new("segue__errors[1]")
    C.segue__errors_init(errors)
    local rc = C.segue__ingress_stage(ingress, p, errors)
    local text = errors[0].count > 0 and ffi.string(errors[0].items[0].message) or nil
    C.segue__errors_deinit(errors)
    return rc, text
  end
  local function check(p)
    local errors, found = ffi.new("segue__errors[1]"), {}
    C.segue__errors_init(errors)
    local rc = C.segue__ingress_check(p, C.segue__os_default(), errors)
    for i = 0, tonumber(errors[0].count) - 1 do
      found[#found + 1] = ffi.string(errors[0].items[i].message)
    end
    C.segue__errors_deinit(errors)
    return rc, found
  end
  local function url(p) return ("http://127.0.0.1:%d"):format(p) end
  -- The status that answers a request now, or nil without a listener.
  local function status(p)
    local connection = http.connect({ port = p }, true)
    if not connection then return nil end
    connection:write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    local ok, answer = pcall(connection.read_response, connection, 10000)
    return ok and answer.status or "closed"
  end
  local function until_status(p, wanted)
    wait.until_true(function() return status(p) == wanted end, 30000, "another answer")
  end

  it("accepts from the flip on, and not when the flip is undone", function()
    assert.equal(0, open())
    local p, q = port.free(), port.free()
    assert.equal(0, (stage(policy { m = { url(p), url(q) .. "/" } })))
    C.segue__ingress_flip(ingress, false)
    assert.equal(503, status(p)) -- there is no module behind its gate
    assert.equal(503, status(q))
    C.segue__ingress_flip(ingress, true)
    C.segue__ingress_discard(ingress)
    until_status(p, nil)
    until_status(q, nil)
    assert.equal(0, (stage(policy { m = { url(p) } })))
    C.segue__ingress_discard(ingress)
    until_status(p, nil)
  end)

  it("binds all or nothing", function()
    assert.equal(0, open())
    local p, taken, socket = port.free(), port.taken()
    local rc, text = stage(policy { a = { url(p) }, b = { url(taken) } })
    assert.is_true(rc < 0)
    assert.matches("is in use", text)
    until_status(p, nil)
    socket:close()
    wait.pump()
    assert.equal(0, (stage(policy { a = { url(p) }, b = { url(taken) } })))
    C.segue__ingress_flip(ingress, false)
    C.segue__ingress_settle(ingress)
    assert.equal(503, status(taken))
    local text_of = ffi.new("segue__buf[1]")
    C.segue__buf_init(text_of)
    C.segue__ingress_metrics(ingress, text_of)
    assert.matches(('segue_ingress_answers_total{address="127%%.0%%.0%%.1:%d",class="5xx"} 1\n')
      :format(taken), ffi.string(text_of[0].data))
    C.segue__buf_deinit(text_of)
  end)

  it("validates addresses", function()
    local rc, found = check(policy { a = { "127.0.0.1:80", "https://127.0.0.1:80", "http://x y:1",
      "http://unix:/run/x", "http://127.0.0.1:99999", url(("1"):rep(200)) } })
    assert.equal(C.SEGUE_EPOLICY, rc)
    assert.equal(6, #found, table.concat(found, "\n"))
    local _, no_handle = check(policy { a = { url(8080) } })
    assert.matches("module 'a' has listen, but its code serves no requests", no_handle[1])
    ops.handle = loop:cb("void (*)(void *, segue_request *)", function() end)
    local _, twice = check(policy { a = { url(8080) }, b = { "http://127.0.0.1:8080/" } })
    assert.same({ "modules 'a' and 'b' both listen at 127.0.0.1:8080: each address leads to one "
      .. "module" }, twice)
    local _, both = check(policy { a = { url(8080), url(8080) } })
    assert.same({ "module 'a' listens twice at 127.0.0.1:8080: remove one" }, both)
    assert.equal(0, (check(policy { a = { url(8080), url(8081), url(0), url(0) },
      b = { "http://[::1]:8080", url(0) } })))
  end)

  it("releases everything wherever memory runs out", function()
    local succeeded
    for n = 1, 200 do
      local p, q = port.free(), port.free()
      local one, two = policy { m = { url(p) } }, policy { m = { url(p), url(q) } }
      two.modules[0].listen.access.on = true
      two.modules[0].listen.access.path = C.segue__strdup("/dev/null")
      C.segue__mem_fail_at(n)
      local rc = open()
      if rc == 0 then
        for _, next in ipairs { one, two } do
          rc = stage(next)
          if rc ~= 0 then break end
          C.segue__ingress_flip(ingress, false)
          C.segue__ingress_settle(ingress)
        end
        C.segue__mem_fail_at(0)
        if rc == 0 then
          assert.equal(503, status(p))
          assert.equal(503, status(q))
        end
      end
      C.segue__mem_fail_at(0)
      close()
      if rc == 0 then
        succeeded = n
        break
      end
      assert.equal(-12, rc)
    end
    assert.is_true(succeeded and succeeded > 10)
  end)
end)

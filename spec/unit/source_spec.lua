-- SPDX-License-Identifier: MIT
-- The built-in sources: what they deliver, what they hand on, and what they refuse.
local C = require "spec.support.c"
local document = require "spec.support.document"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local real = C.segue__os_default()

-- A source as a policy would describe it; the fields live as long as the table.
local function source(kind, fields)
  local self = { kind = C["segue__source_" .. kind], next_id = ffi.new("uint32_t[1]", 1) }
  self.c = ffi.new("segue__source[1]")
  self.c[0].kind = self.kind
  self.c[0].format = -1
  fields.name = fields.name or fields.path or kind
  for name, value in pairs(fields) do
    if type(value) == "string" then
      local kept = ffi.new("char[?]", #value + 1, value)
      self[name] = kept
      value = kept
    end
    self.c[0][name] = value
  end
  return self
end

-- Fetches: the documents, or nil and the error. Documents of the last fetch are the previous ones.
local function fetch(self, options)
  options = options or {}
  local out, err = ffi.new("segue__documents[1]"), C.error()
  local rc = self.kind.fetch(self.c, options.os or real, document.limits(options.limits),
    self.previous, self.next_id, out, err)
  if rc ~= 0 then
    assert.equal(0, tonumber(out[0].count))
    C.segue__documents_deinit(out)
    local reported = C.err(err)
    assert.equal(rc, reported.code)
    return nil, reported
  end
  if self.previous then C.segue__documents_deinit(self.previous) end
  self.previous = out
  local list = {}
  for i = 0, tonumber(out[0].count) - 1 do list[#list + 1] = out[0].items[i] end
  return list
end

local function done(self)
  if self.previous then C.segue__documents_deinit(self.previous) end
  self.previous = nil
end

local function parsed(doc, env)
  local ok, err = document.read(doc, { env = env })
  return ok and document.json(doc.root) or err.text
end

local function watched(self)
  local names = ffi.new("segue__names[1]")
  C.check(self.kind.watch(self.c, names))
  local list = {}
  for i = 0, tonumber(names[0].count) - 1 do list[#list + 1] = C.str(names[0].items[i]) end
  C.segue__names_deinit(names)
  return list
end

-- An operating system whose environment is a table of "NAME=value".
local function with_environment(list, fn)
  local os = ffi.new("segue__os[1]", { real[0] })
  local strings, array = {}, ffi.new("char *[?]", #list + 1)
  for i, text in ipairs(list) do
    strings[i] = ffi.new("char[?]", #text + 1, text)
    array[i - 1] = strings[i]
  end
  local environ = ffi.cast("char **(*)(void *)", function() return array end)
  local getenv = ffi.cast("const char *(*)(void *, const char *)", function(_, name)
    name = ffi.string(name) .. "="
    for i, text in ipairs(list) do
      if text:sub(1, #name) == name then return ffi.cast("const char *", strings[i]) + #name end
    end
    return nil
  end)
  os[0].environ, os[0].getenv = environ, getenv
  local ok, err = pcall(fn, os)
  environ:free()
  getenv:free()
  if not ok then error(err, 0) end
end

describe("a file source", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function() dir:remove() end)

  it("delivers the file, with a format by its name or as declared", function()
    dir:write("a.yaml", "a: 1")
    dir:write("b.json", '{"b": 2}')
    local yaml = source("file", { path = dir:at("a.yaml"), name = "main" })
    local docs = fetch(yaml)
    assert.equal(1, #docs)
    assert.equal('{"a":1}', parsed(docs[1]))
    assert.equal("main", C.str(docs[1].source))
    assert.equal(dir:at("a.yaml"), C.str(docs[1].name))
    done(yaml)
    local json = source("file", { path = dir:at("b.json") })
    assert.equal(tonumber(C.SEGUE__JSON), tonumber(fetch(json)[1].format))
    done(json)
    local reported = source("file", { path = dir:at("b.json"), format = C.SEGUE__YAML })
    assert.equal(tonumber(C.SEGUE__YAML), tonumber(fetch(reported)[1].format))
    done(reported)
    assert.same({ dir:at("a.yaml") }, watched(yaml))
  end)

  it("delivers the same bytes as the same document", function()
    dir:write("a.yaml", "a: 1")
    local s = source("file", { path = dir:at("a.yaml") })
    local first = fetch(s)[1]
    assert.equal(1, first.id)
    assert.equal(first, fetch(s)[1])
    assert.equal(1, first.refs)
    dir:write("a.yaml", "a: 2") -- as long as before
    local second = fetch(s)[1]
    assert.equal(2, second.id)
    assert.equal('{"a":2}', parsed(second))
    done(s)
  end)

  it("depends on the bytes and never on the times of the file", function()
    local path = dir:write("a.yaml", "a: 1")
    local s = source("file", { path = path })
    assert.equal(1, fetch(s)[1].id)
    assert(uv.fs_utime(path, 1, 1)) -- touched only
    assert.equal(1, fetch(s)[1].id)
    dir:write("a.yaml", "a: 2")
    assert(uv.fs_utime(path, 1, 1)) -- as old and as long as before
    local second = fetch(s)[1]
    assert.equal(2, second.id)
    assert.equal('{"a":2}', parsed(second))
    done(s)
  end)

  it("is another document when a variable that it mentions changes", function()
    dir:write("a.yaml", "a: ${X}")
    local s = source("file", { path = dir:at("a.yaml"), expand = true })
    with_environment({ "X=1" }, function(os)
      assert.equal('{"a":1}', parsed(fetch(s, { os = os })[1], { X = "1" }))
      assert.equal(1, fetch(s, { os = os })[1].id)
    end)
    with_environment({ "X=1", "Y=2" }, function(os)
      assert.equal(1, fetch(s, { os = os })[1].id)
    end)
    with_environment({ "X=2" }, function(os)
      local doc = fetch(s, { os = os })[1]
      assert.equal(2, doc.id)
      assert.equal('{"a":2}', parsed(doc, { X = "2" }))
    end)
    with_environment({}, function(os) assert.equal(3, fetch(s, { os = os })[1].id) end)
    done(s)
  end)

  it("may be absent if it is optional; an existing file must be readable", function()
    local s = source("file", { path = dir:at("none.yaml"), name = "extra" })
    local docs, err = fetch(s)
    assert.is_nil(docs)
    assert.equal("ENOENT", err.name)
    assert.equal(dir:at("none.yaml"), err.file)
    assert.equal("extra", err.source)
    assert.is_truthy(err.message:find("none.yaml", 1, true))
    s.c[0].optional = true
    assert.same({}, fetch(s))
    done(s)
    local folder = source("file", { path = dir.path, optional = true })
    assert.equal("EISDIR", select(2, fetch(folder)).name)
  end)

  it("keeps the limit on bytes", function()
    dir:write("a.yaml", "a: 12345")
    local s = source("file", { path = dir:at("a.yaml") })
    assert.equal("SEGUE_ELIMIT", select(2, fetch(s, { limits = { bytes = 7 } })).name)
    assert.equal(1, #fetch(s, { limits = { bytes = 8 } }))
    done(s)
  end)
end)

describe("a dir source", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function() dir:remove() end)

  local function names(docs)
    local list = {}
    for i, doc in ipairs(docs) do list[i] = C.str(doc.name):match("[^/]+$") end
    return table.concat(list, " ")
  end

  it("delivers the files that match, sorted", function()
    for _, name in ipairs { "20-b.yaml", "10-a.yaml", "9.yaml", ".hidden.yaml", "x.txt" } do
      dir:write(name, "v: 1")
    end
    local s = source("dir", { path = dir:at("*.yaml") })
    assert.equal("10-a.yaml 20-b.yaml 9.yaml", names(fetch(s)))
    assert.same({ dir:at("*.yaml") }, watched(s))
    done(s)
  end)

  it("delivers unchanged documents again, and reads new or changed ones", function()
    for i = 1, 5 do dir:write(i .. ".yaml", "v: " .. i) end
    local s = source("dir", { path = dir:at("*.yaml") })
    assert.equal(5, #fetch(s))
    dir:write("3.yaml", "v: x")
    dir:write("0.yaml", "v: 0")
    os.remove(dir:at("5.yaml"))
    local ids = {}
    for i, doc in ipairs(fetch(s)) do ids[i] = doc.id end
    assert.same({ 6, 1, 2, 7, 4 }, ids)
    done(s)
  end)

  it("is an error without a match, unless it is optional", function()
    dir:write("a.txt", "v: 1")
    local s = source("dir", { path = dir:at("*.yaml"), name = "conf.d" })
    local _, err = fetch(s)
    assert.equal("ENOENT", err.name)
    assert.equal("conf.d", err.source)
    assert.equal(("no file matches %s: is the folder filled and the pattern right? (optional = "
      .. "true allows none)"):format(dir:at("*.yaml")), err.message)
    s.c[0].optional = true
    assert.same({}, fetch(s))
    done(s)
  end)

  it("accepts braces for alternatives", function()
    for _, name in ipairs { "a.yaml", "b.yml", "c.json", "d.yamlx", "{e}.yaml" } do
      dir:write(name, "{}")
    end
    local matches = {
      ["*.{yaml,yml}"] = "a.yaml b.yml {e}.yaml", ["*.y{a,}ml"] = "a.yaml b.yml {e}.yaml",
      ["{a,c}.*"] = "a.yaml c.json", ["{a.{yaml,json},[bc].{yml,json}}"] = "a.yaml b.yml c.json",
      ["{e}.*"] = "{e}.yaml", ["\\{e\\}.*"] = "{e}.yaml",
      ["*.{y*,z}"] = "a.yaml b.yml d.yamlx {e}.yaml",
    }
    for pattern, want in pairs(matches) do
      local s = source("dir", { path = dir:at(pattern) })
      assert.equal(want, names(fetch(s)), pattern)
      done(s)
    end
    for pattern, why in pairs { ["*.{yaml"] = "a '{' has no '}'",
      [("{a,b}"):rep(9)] = "its braces stand for more than 256 patterns" } do
      local s = source("dir", { path = dir:at(pattern) })
      local _, err = fetch(s)
      assert.equal("SEGUE_EUSAGE", err.name)
      assert.truthy(err.message:find(why, 1, true), err.message)
    end
  end)

  it("delivers each file below its name, as text too", function()
    dir:write("a.conf", "server {\n  x: [\n}\n")
    dir:write("b.conf", "y\n")
    local s = source("dir", { path = dir:at("*.conf"), format = C.SEGUE__TEXT })
    local docs = fetch(s)
    assert.equal('{"a.conf":"server {\\n  x: [\\n}\\n"}', parsed(docs[1]))
    assert.equal('{"b.conf":"y\\n"}', parsed(docs[2]))
    assert.equal(docs[1], fetch(s)[1])
    s.c[0].format, s.c[0].by_file = C.SEGUE__YAML, true
    assert.equal('{"b.conf":"y"}', parsed(fetch(s)[2]))
    dir:write("b.conf", "")
    assert.equal(dir:at("b.conf") .. ": " .. document.empty_message .. ' (at "b.conf")',
      parsed(fetch(s)[2]))
    s.c[0].allow_empty = true
    assert.equal('{"b.conf":{}}', parsed(fetch(s)[2]))
    s.c[0].format = C.SEGUE__TEXT
    assert.equal('{"b.conf":""}', parsed(fetch(s)[2]))
    done(s)
  end)

  it("is an error where the folder does not exist", function()
    local none = source("dir", { path = dir:at("none/*.yaml"), name = "conf.d" })
    local _, err = fetch(none)
    assert.equal("ENOENT", err.name)
    assert.equal("conf.d", err.source)
    none.c[0].optional = true
    assert.same({}, fetch(none))
    done(none)
  end)

  it("does not skip a directory or a pipe in place of a file", function()
    dir:write("a.yaml", "v: 1")
    dir:mkdir("c.yaml")
    local s = source("dir", { path = dir:at("*.yaml"), name = "conf.d", optional = true })
    local _, err = fetch(s)
    assert.equal("EISDIR", err.name)
    assert.equal("conf.d", err.source)
    assert.matches("cannot read " .. dir:at("c.yaml") .. ": it is a directory", err.message, 1,
      true)
    assert.equal(0, os.execute("mkfifo " .. dir:at("b.yaml")))
    _, err = fetch(s)
    assert.matches("cannot read " .. dir:at("b.yaml") .. ": it is a named pipe", err.message, 1,
      true)
    assert.equal(0, os.execute("rm " .. dir:at("b.yaml")))
    local all = source("dir", { path = dir:at("*") })
    assert.equal("a.yaml", names(fetch(all)))
    done(all)
  end)

  it("does not skip a link without a target", function()
    dir:write("a.yaml", "v: 1")
    dir:link("nowhere", "b.yaml")
    local s = source("dir", { path = dir:at("*.yaml") })
    local _, err = fetch(s)
    assert.equal("ENOENT", err.name)
    assert.equal(dir:at("b.yaml"), err.file)
  end)

  it("lists again when a file disappears between listing and reading", function()
    dir:write("a.yaml", "v: 1")
    dir:write("b.yaml", "v: 2")
    local listings, os_copy = 0, ffi.new("segue__os[1]", { real[0] })
    local list = ffi.cast("int (*)(void *, const char *, segue__names *, segue_error *)",
      function(data, pattern, out, err)
        listings = listings + 1
        local rc = real.list_files(data, pattern, out, err)
        os.remove(dir:at("b.yaml"))
        return rc
      end)
    os_copy[0].list_files = list
    local s = source("dir", { path = dir:at("*.yaml") })
    assert.equal("a.yaml", names(fetch(s, { os = os_copy })))
    assert.equal(2, listings)
    list:free()
    done(s)
  end)
end)

describe("an env source", function()
  local function env(list, fields)
    fields = fields or {}
    fields.name = "env APP_"
    fields.prefix = fields.prefix or "APP_"
    local s = source("env", fields)
    local docs, err
    with_environment(list, function(os) docs, err = fetch(s, { os = os }) end)
    local json = docs and document.json(docs[1].root)
    done(s)
    return json, err
  end

  it("builds a tree from names, with types where no character is lost", function()
    assert.equal('{"db":{"host":"h","port":5432,"tls":{"on":true}},"name":"a=b","zero":""}', env {
      "APP_NAME=a=b", "APP_DB__PORT=5432", "HOME=/root", "APP_DB__HOST=h", "APP_ZERO=",
      "APP_DB__TLS__ON=true", "app_lower=1" })
    assert.equal('{"a":{"b":{"c":1},"b_c":2},"ab":3}',
      env { "APP_A__B__C=1", "APP_A__B_C=2", "APP_AB=3" })
    assert.equal("{}", env { "HOME=/root", "APP=1" })
    assert.equal('{"k":"yes","l":"[1]"}', env { "APP_K=yes", "APP_L=[1]" })
    assert.equal('{"pin":"0042","sha":"12345e7","version":"1.10"}',
      env { "APP_PIN=0042", "APP_SHA=12345e7", "APP_VERSION=1.10" })
    assert.equal('{"a":"99999999999999999999999","b":-7,"c":1.5,"d":18446744073709551615}',
      env { "APP_A=" .. ("9"):rep(23), "APP_B=-7", "APP_C=1.5", "APP_D=18446744073709551615" })
  end)

  it("leaves all values text on request", function()
    assert.equal('{"a":"42","b":"true","c":"null"}',
      env({ "APP_A=42", "APP_B=true", "APP_C=null" }, { as_text = true }))
  end)

  it("splits at another separator", function()
    assert.equal('{"a":{"b__c":1}}', env({ "APP_A.B__C=1" }, { separator = "." }))
    assert.equal('{"a__b":1}', env({ "APP_A__B=1" }, { separator = "" }))
    assert.equal('{"_x":{"y":1}}', env({ "APP__X__Y=1" }))
  end)

  it("refuses names that do not form a tree, and names the variables", function()
    local function refused(message, list)
      local json, err = env(list)
      assert.is_nil(json)
      assert.equal("env APP_", err.source)
      assert.equal(message, err.message)
    end
    refused("environment variables APP_A and APP_A__B make the same key a value and a map: "
      .. "remove one", { "APP_A__B=1", "APP_AA=1", "APP_A=2" })
    refused("environment variables APP_Port and APP_PORT set the same key: remove one",
      { "APP_Port=1", "APP_PORT=1" } )
    refused("environment variable APP_A__ has an empty key in its name: rename it", { "APP_A__=1" })
    refused("environment variable APP___A has an empty key in its name: rename it", { "APP___A=1" })
    refused("environment variable APP_A____B has an empty key in its name: rename it",
      { "APP_A____B=1" })
    refused("environment variable APP_ has an empty key in its name: rename it", { "APP_=1" })
    refused("environment variable APP_B__C: the value is not valid UTF-8",
      { "APP_A=1", "APP_B__C=\255" })
  end)

  it("delivers the same values as the same document", function()
    local s = source("env", { name = "env APP_", prefix = "APP_" })
    local first
    with_environment({ "APP_A=1", "APP_B=2" }, function(os) first = fetch(s, { os = os })[1] end)
    with_environment({ "APP_B=2", "X=9", "APP_A=1" }, function(os)
      assert.equal(first, fetch(s, { os = os })[1])
    end)
    with_environment({ "APP_A=1" }, function(os)
      assert.not_equal(first, fetch(s, { os = os })[1])
    end)
    assert.same({}, watched(s))
    done(s)
  end)
end)

describe("a value source", function()
  it("delivers the document of the policy, each time the same", function()
    local s = source("value", { name = "defaults" })
    assert.same({}, fetch(s))
    local doc = document.new(nil, { format = "built" })
    s.c[0].value = doc
    assert.equal(doc, fetch(s)[1])
    assert.equal(2, doc.refs)
    assert.equal(doc, fetch(s)[1])
    assert.equal(2, doc.refs)
    done(s)
    assert.equal(1, doc.refs)
    assert.same({}, watched(s))
  end)
end)

describe("a source", function()
  it("frees the memory that a policy assigned to it", function()
    local base = document.live()
    local s = ffi.new("segue__source[1]")
    for _, field in ipairs { "name", "path", "prefix", "separator" } do
      s[0][field] = C.bytes(field)
    end
    s[0].value = ffi.gc(document.new(nil, { format = "built" }), nil)
    C.segue__source_deinit(s)
    assert.equal(base, document.live())
  end)
end)

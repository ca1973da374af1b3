-- SPDX-License-Identifier: MIT
-- `segue check`, `segue plan` and the history show the difference of each rendered file, and no
-- secret.
local cjson = require "cjson"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  secrets = { "pw", "keys" },
  modules = { web = { kind = "files", apply = "echo run >> runs", @MODULE@
    files = { { to = "out/a.conf", mode = "0640", content = function(config)
      return "host " .. config.host .. "\npassword " .. config.pw .. "\nlast\n"
    end }, @FILES@ } } },
}]]
local source = "host: alpha\npw: hunter2hunter\n"

local function fill(o)
  return (policy:gsub("@(%u+)@", { MODULE = o.module or "", FILES = o.files or "" }))
end

local function folder(o)
  return segue.folder { policy = fill(o), files = { ["a.yaml"] = source } }
end

local function start(o)
  return segue.start { policy = fill(o), files = { ["a.yaml"] = source } }
end

-- The text without the folder of the spec, and the lines that do not belong to files.
local function files_of(d, text)
  return (text:gsub(d.dir.path:gsub("%p", "%%%0") .. "/", ""):gsub("^.-\n(  file )", "%1"))
end

-- All files of the folder with their texts, but those of the daemon.
local function tree(d)
  local found = {}
  for _, name in ipairs(d.dir:list "") do
    if name ~= ".segue" and name ~= "out" then found[name] = d.dir:read(name) end
  end
  for _, name in ipairs(d.dir:list "out" or {}) do
    if name ~= ".segue.lock" then found["out/" .. name] = d.dir:read("out/" .. name) end
  end
  return found
end

describe("the difference of rendered files", function()
  after_each(segue.cleanup)

  it("is shown by check, which touches nothing", function()
    local d = folder { module = [[check = "cat out/a.conf > seen",]] }
    local answer = d:cli "check"
    assert.equal(0, answer.code, answer.output)
    assert.equal([[
  file     web              out/a.conf: new, +3 -0 lines, 39 bytes, mode 0640
--- /dev/null
+++ out/a.conf
@@ -0,0 +1,3 @@
+host alpha
+password ***
+last
]], files_of(d, answer.stdout))
    assert.equal("host alpha\npassword hunter2hunter\nlast\n", d.dir:read "seen")
    assert.is_nil(d.dir:read "out/a.conf")
    assert.is_nil(d.dir:read "runs")
    assert.same({}, d.dir:list "out" or {})
  end)

  it("is shown by plan without waiting for the disk, which a reload does", function()
    local d = start {}
    d:stop()
    kill.arm(d, "files.stage.sync#1=fail")
    d:wait_ready()
    d.dir:save("a.yaml", "host: beta\npw: hunter3hunter\n")
    local answer = cjson.decode(d:cli("plan", "--json").stdout)
    assert.same({ 1, {} }, { #answer.files, answer.errors })
    local status, failed = d:reload()
    assert.equal(500, status)
    assert.matches("i/o error", failed.errors[1].message)
    assert.equal(200, (d:reload()))
  end)

  it("is shown by plan, and nothing is changed or applied by that", function()
    local d = start {}
    local before = tree(d)
    d.dir:save("a.yaml", "host: beta\npw: hunter3hunter\n")
    local answer = d:cli("plan", "--json")
    local file = cjson.decode(answer.stdout).files[1]
    before["a.yaml"] = d.dir:read "a.yaml"
    assert.same({ "web", d.dir:at "out/a.conf", 2, 2, 39, 38, "0640" }, { file.module, file.path,
      file.added, file.removed, file.before.size, file.after.size, file.after.mode })
    assert.not_equal(file.before.hash, file.after.hash)
    assert.equal(files_of(d, file.diff), [[
--- out/a.conf
+++ out/a.conf
@@ -1,3 +1,3 @@
-host alpha
-password ***
+host beta
+password ***
 last
]])
    assert.not_matches("hunter", answer.stdout)
    wait.until_true(function() return #d.dir:list "out" == 2 end)
    assert.same(before, tree(d))
  end)

  it("is in the history of the reload that made it, also where the check refused it", function()
    local d = start { module = [[check = "! grep -q bad out/a.conf",]] }
    d.dir:save("a.yaml", "host: bad\npw: hunter3hunter\n")
    local status, refused = d:reload()
    assert.equal(422, status)
    d.dir:save("a.yaml", "host: beta\npw: hunter3hunter\n")
    local _, applied = d:reload()
    for host, id in pairs { bad = refused.id, beta = applied.id } do
      local text = d:cli("history", tostring(id)).stdout
      assert.matches("\n%-host alpha\n%-password %*%*%*\n%+host " .. host
        .. "\n%+password %*%*%*\n last\n$", text)
      assert.not_matches("hunter", text)
    end
  end)

  it("has no secret of an earlier configuration that this process never knew", function()
    local d = folder {}
    d.dir:save("out/a.conf",
      "host alpha\npassword swordfish99 and swordfish98\nlast\nold swordfish97\n")
    local text = d:cli("check").stdout
    assert.not_matches("swordfish", text)
    assert.not_matches("hunter", text)
    assert.matches("\n host alpha\n%-password %*%*%* %*%*%* %*%*%*\n%+password %*%*%*\n last\n"
      .. "%-%*%*%* %*%*%*\n$", text)
  end)

  it("is masked in lists, in several lines and in other writings of a value", function()
    local d = folder { files = [[{ to = "out/b.conf", content = function(config)
      return segue.json.encode(config.keys) .. "\n" .. ("%q"):format(config.keys.pem) .. "\n"
        .. config.keys.pem .. "\nnumber " .. config.keys.number .. "\n"
    end }]] }
    d.dir:save("a.yaml", 'host: alpha\npw: hunter2hunter\nkeys: { number: 88442211, '
      .. 'pem: "-----BEGIN-----\\nMIIEabcdefgh\\nxy==\\n", "quoted": "a\\"quoted\\"one" }\n')
    local text = d:cli("check").stdout
    for _, secret in ipairs { "MIIE", "8844", "xy==", "a\\", "BEGIN" } do
      assert.is_nil(text:find(secret, 1, true), text)
    end
    assert.matches("number %*%*%*", text)
  end)

  it("is masked where a template or a command encodes a value", function()
    local d = folder { module = [[check = "base64 out/a.conf; ]]
      .. [[od -An -tx1 -v out/c.conf | tr -d ' \\n'; exit 1",]],
      files = [[{ to = "out/c.conf", template = "c.tmpl", functions = "sprig" }]] }
    d.dir:save("c.tmpl", '{{ printf "user:%s" .pw | b64enc }}\n'
      .. "{{ .keys.q | urlquery }} {{ .keys.q | js }}\n{{ .pw }}\n")
    d.dir:save("a.yaml", 'host: alpha\npw: hunter2hunter\nkeys: { q: "p<ss w&rd/9" }\n')
    local answer = d:cli "check"
    assert.equal(3, answer.code, answer.output)
    assert.matches("\n%+dXNlcj%*%*%*\n%+%*%*%* %*%*%*\n%+%*%*%*\n", answer.stdout)
    for _, piece in ipairs { "aHVudGVy", "h1bnRlcj", "odW50ZXIy", "68756e746572", "hunter2",
      "p%3Css", "u003Css", "w0rd" } do
      assert.is_nil(answer.output:find(piece, 1, true), answer.output)
    end
    assert.matches("%*%*%*", answer.stdout:match "check command[^\n]*")
  end)

  it("is replaced by its reason where there is none: binary, too large, the mode alone", function()
    local d = start { files = [[
      { to = "out/b.bin", content = function(c) return "\0" .. c.host end },
      { to = "out/large", content = function(c) return (c.host .. "\n"):rep(2000000) end }]] }
    d.dir:save("a.yaml", "host: beta\npw: hunter2hunter\n")
    local text = files_of(d, d:cli("plan").stdout)
    assert.matches("out/b.bin: changed, binary %(6 bytes %-> 5 bytes%)\n", text)
    assert.matches("out/large: changed, too large for a difference "
      .. "%(12000000 bytes %-> 10000000 bytes%)\n", text)
    d.dir:save("a.yaml", "host: alpha\npw: hunter2hunter\n")
    d.dir:save("reload.lua", (fill({}):gsub("0640", "0600")))
    text = files_of(d, d:cli("plan").stdout)
    assert.equal("  file     web              out/a.conf: same text, mode 0640 -> 0600\n", text)
  end)

  it("obeys limits where 100,000 lines change, and shows no control characters", function()
    local d = start { files = [[{ to = "out/long", content = function(c)
      local list = {}
      for i = 1, 100000 do list[i] = c.host .. i end
      return "\27[2Jred\ttab\n" .. table.concat(list, "\n")
    end }]] }
    d.dir:save("a.yaml", "host: beta\npw: hunter2hunter\n")
    local answer = d:cli "plan"
    assert.equal(0, answer.code)
    assert.is_true(#answer.stdout < 100000)
    assert.matches(" \\x1b%[2Jred\ttab\n%-alpha1\n", answer.stdout)
    assert.matches("%(%d+ more lines of this difference%)\n$", answer.stdout)
    assert.matches("out/long: changed, %+100000 %-100000 lines\n", files_of(d, answer.stdout))
    local _, result = d:reload()
    assert.is_true(#d:cli("history", tostring(result.id)).stdout < 20000)
  end)

  it("comes with the reason where the check fails or does not end", function()
    for module, case in pairs {
      ['check = "exit 3",'] = { 3, "check command exit 3 exited with code 3" },
      ['check = "sleep 600 & wait", timeout = "300ms",'] = { 4, "took longer than 0.3 s" },
    } do
      local d = folder { module = module }
      local answer = d:cli "check"
      assert.equal(case[1], answer.code, answer.output)
      assert.matches(case[2], answer.stdout)
      assert.matches("\n%+host alpha\n%+password %*%*%*\n%+last\n$", answer.stdout)
      assert.same({}, d.dir:list "out" or {})
    end
  end)

  it("names a destination that cannot be read", function()
    local d = folder {}
    d.dir:mkdir "out"
    d.dir:mkdir "out/a.conf"
    local answer = d:cli "check"
    assert.equal(4, answer.code, answer.output)
    assert.matches("out/a.conf", answer.stdout)
  end)

  it("has colours on a terminal, unless NO_COLOR is set", function()
    local d = folder {}
    local function terminal(env)
      local pipe = io.popen(("cd '%s' && %s TERM=xterm script -qec '%s check' /dev/null"):format(
        d.dir.path, env, segue.binary))
      local text = pipe:read("*a"):gsub("\r", "")
      pipe:close()
      return text
    end
    assert.matches("\27%[1m%+%+%+ [^\n]*out/a.conf\27%[0m\n\27%[36m@@ %-0,0 %+1,3 @@\27%[0m\n"
      .. "\27%[32m%+host alpha\27%[0m\n", terminal "NO_COLOR=")
    assert.not_matches("\27", terminal "NO_COLOR=1")
  end)
end)

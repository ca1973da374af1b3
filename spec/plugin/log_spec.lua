-- SPDX-License-Identifier: MIT
-- The plugin log: what it writes, where, and what becomes of lines that cannot be written.
local cjson = require "cjson"
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

-- Each reload logs the text of its configuration, from `check`.
local policy = [[
local segue = require "segue"
local log = require "segue.log"
local lost = 0
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.signal("USR1", "reopen") },
  modules = { log = { kind = "c", config = "log", drain = "300ms" } },
  check = function(next)
    for i = 1, next.lines or 0 do
      local ok, why, code = log.info(next.text or "line", { n = i, of = next.lines })
      if ok == nil then segue.log.warn("lost: " .. why, { code = code }) end
    end
    log.debug("fine")
    return true
  end,
}
]]

local function read(path)
  local file = io.open(path)
  local text = file and file:read("*a") or ""
  if file then file:close() end
  return text
end

local function count(text, what)
  local _, n = text:gsub(what, "")
  return n
end

describe("the log", function()
  local daemon, dir
  after_each(function()
    segue.cleanup()
    process.stop_all()
    tempdir.remove_all()
  end)

  local function start(config)
    daemon = segue.start { policy = policy, files = { ["config.yaml"] = config } }
    dir = daemon.dir
  end

  local function reload(config, code)
    dir:write("config.yaml", config)
    local done = segue.cli({ "reload", "--force" }, { cwd = dir.path })
    assert.equal(code or 0, done.code, done:describe())
    return done.output
  end

  local function wait_file(name, pattern, n)
    wait.until_true(function() return count(read(dir:at(name)), pattern) >= (n or 1) end, 10000,
      function() return ("%s in %s: %s"):format(pattern, name, read(dir:at(name))) end)
  end

  local function metric(name)
    local page = daemon:http { path = "/metrics", socket = daemon:socket() }.body
    return tonumber(page:match("\n" .. name .. " (%d+)"))
  end

  it("writes lines for people, one for each entry, whatever its text", function()
    start "log: {file: app.log}\n"
    reload 'log: {file: app.log}\nlines: 1\ntext: "a\\nb \\"c\\" \\x1b[1m"\n'
    reload "log: {file: app.log}\nlines: 0\n"
    local line = read(dir:at("app.log"))
    assert.truthy(line:match('^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ info  policy: '
      .. 'a\\nb "c" \\x1b%[1m n=1 of=1\n$'), line)
  end)

  it("writes numbers to the last digit", function()
    local folder = tempdir.new()
    local source = folder:write("numbers.c", [[
#include <stdio.h>
#include "log.h"
int main(void) {
  const int64_t numbers[] = {0, -1, 10, 1234567890, INT64_MAX, INT64_MIN};
  for (int i = 0; i < 6; i++) {
    segue_log_field field = {"n", NULL, numbers[i]};
    segue_log_entry entry = {SEGUE_INFO, "host", "a", &field, 1};
    char memory[256];
    log_text text;
    log_text_init(&text, memory, sizeof memory);
    log_format(&text, &entry, false);
    fwrite(text.data, 1, text.len, stdout);
  }
}
]])
    plugin.program(folder:at "numbers", source .. " plugins/log/format.c -Iplugins/log")
    local reported = {}
    for n in process.run({ folder:at "numbers" }).stdout:gmatch(" info  host: a n=(%S+)\n") do
      reported[#reported + 1] = n
    end
    assert.same({ "0", "-1", "10", "1234567890", "9223372036854775807", "-9223372036854775808" },
      reported)
  end)

  it("writes JSON for machines, also for bytes that are no text", function()
    start "log: {file: app.log, format: json, level: debug}\n"
    wait_file("app.log", "serving", 0)
    reload 'log: {file: app.log, format: json}\nlines: 1\ntext: "a\\n\\"\\t\\x01é"\n'
    reload "log: {file: app.log}\nlines: 0\n"
    local last
    for line in read(dir:at("app.log")):gmatch("[^\n]+") do
      last = line:find('"n":"1"', 1, true) and cjson.decode(line) or last
    end
    assert.equal('a\n"\t\1é', last.message)
    assert.same({ "info", "policy", "1" }, { last.level, last.group, last.n })
  end)

  it("writes the lines that its level admits, and changes the level by a reload", function()
    start "log: {file: app.log}\n"
    reload "log: {file: app.log, level: debug}\n"
    assert.equal("", read(dir:at("app.log")))
    reload "log: {file: app.log, level: error}\nlines: 1\n"
    reload "log: {file: app.log, level: info}\nlines: 1\n"
    local text = read(dir:at("app.log"))
    assert.equal(1, count(text, "debug policy: fine"))
    assert.equal(1, count(text, "info  policy: line"))
  end)

  it("has written everything to the old file when the answer to a swap comes", function()
    start "log: {file: one.log}\n"
    for i = 1, 20 do
      local from, to = i % 2 == 1 and "one" or "two", i % 2 == 1 and "two" or "one"
      local before = count(read(dir:at(from .. ".log")), "\n")
      reload(("log: {file: %s.log}\nlines: 200\n"):format(to))
      assert.equal(before + 200, count(read(dir:at(from .. ".log")), "\n"))
    end
    assert.equal(2000, count(read(dir:at("one.log")), "\n"))
    assert.equal(2000, count(read(dir:at("two.log")), "\n"))
  end)

  it("opens its file again at USR1, without a reload", function()
    start "log: {file: app.log}\n"
    reload "log: {file: app.log}\nlines: 3\n"
    assert(os.rename(dir:at("app.log"), dir:at("app.log.1")))
    reload "log: {file: app.log}\nlines: 0\n"
    daemon.process:kill "usr1"
    wait.until_true(function() return metric "segue_log_reopened_total" == 1 end, 10000, "a reopen")
    reload "log: {file: app.log}\nlines: 2\n"
    wait_file("app.log", "line", 2)
    assert.equal(3, count(read(dir:at("app.log.1")), "line"))
    assert.truthy(daemon.process.output:find("files are opened again cause=SIGUSR1", 1, true))
    assert.falsy(daemon.process.output:find("cause=SIGUSR1 changes", 1, true))
  end)

  it("goes to a new file if the old one was deleted without a signal", function()
    start "log: {file: app.log}\n"
    for i = 1, 3 do
      reload(("log: {file: app.log, level: debug}\nlines: 1\ntext: t%d\n"):format(i))
      wait_file("app.log", "t" .. i)
      if i < 3 then assert(os.remove(dir:at "app.log")) end
    end
    assert.equal(0, metric "segue_log_dropped_total")
  end)

  it("rotates by size, and loses no line of the files that it keeps", function()
    start "log: {file: app.log, rotate: {size: 4KiB, keep: 30}}\n"
    for _ = 1, 4 do
      reload "log: {file: app.log, rotate: {size: 4KiB, keep: 30}}\nlines: 100\n"
    end
    reload "log: {file: app.log}\nlines: 0\n"
    local lines, files = count(read(dir:at("app.log")), "\n"), 1
    for i = 1, 30 do
      local text = read(dir:at("app.log." .. i))
      lines, files = lines + count(text, "\n"), files + (text ~= "" and 1 or 0)
    end
    assert.equal(400, lines)
    assert.truthy(files >= 4, files .. " files")
  end)

  it("keeps the configured number of old files", function()
    start "log: {file: app.log, rotate: {size: 1KiB, keep: 2}}\n"
    for i = 1, 8 do
      reload(("log: {file: app.log, rotate: {size: 1KiB, keep: 2}}\nlines: 30\ntext: t%d\n")
        :format(i))
    end
    reload "log: {file: app.log}\nlines: 0\n"
    assert.truthy(read(dir:at("app.log.2")) ~= "" and read(dir:at("app.log.3")) == "")
  end)

  it("rotates by age", function()
    start "log: {file: app.log, rotate: {age: 1}}\n"
    wait.until_true(function()
      reload "log: {file: app.log, rotate: {age: 1}}\nlines: 1\n"
      return read(dir:at("app.log.1")) ~= ""
    end, 20000, "app.log.1")
    reload "log: {file: app.log}\nlines: 0\n" -- what is idle holds the file that it wrote last
  end)

  it("reports lost lines to a policy, and writes the number of all of them", function()
    start "log: {file: app.log}\n"
    assert(os.execute("mkfifo " .. dir:at("pipe")) == 0)
    local reader = assert(uv.fs_open(dir:at "pipe", -- it reads at the end only
      uv.constants.O_RDWR + uv.constants.O_NONBLOCK, 0))
    reload("log: {file: pipe, queue: 64KiB}\nlines: 0\n")
    local text = ("x"):rep(1000)
    reload(("log: {file: pipe, queue: 64KiB}\nlines: 400\ntext: %s\n"):format(text))
    wait.until_true(function() return daemon.process.output:find("code=SEGUE_ELIMIT", 1, true) end,
      10000, "what was lost")
    local dropped = metric "segue_log_dropped_total"
    assert.truthy(dropped > 100)
    local got, lost, whole, all = "", 0, 0, 400
    wait.until_true(function()
      -- A report comes before the next line; the configuration of the log is the same.
      reload "log: {file: pipe, queue: 64KiB}\nlines: 1\n"
      all = all + 1
      got = got .. (uv.fs_read(reader, 65536, -1) or "")
      lost, whole = 0, count(got, " of=%d+\n")
      for n in got:gmatch " log: lines were lost lines=(%d+)\n" do lost = lost + tonumber(n) end
      return lost + whole == all
    end, 10000, function() return lost .. " lost, " .. whole .. " whole of " .. all end)
    assert.equal(lost, metric "segue_log_dropped_total")
    reload "log: {file: app.log}\n"
    uv.fs_close(reader)
  end)

  it("does not delay a reload for longer than its drain may take where a disk is full", function()
    start "log: {file: app.log}\n"
    reload "log: {file: /dev/full}\nlines: 0\n"
    reload "log: {file: app.log}\nlines: 5\n"
    assert.truthy(metric "segue_log_failures_total" > 0)
    wait.until_true(function() return metric "segue_log_dropped_total" == 5 end, 10000,
      "five lines that are lost")
    reload "log: {file: app.log}\nlines: 1\n"
    wait_file("app.log", "info  policy: line")
    assert.equal(1, count(read(dir:at("app.log")), "warn  log: lines were lost lines=5"))
  end)

  it("creates no file for a reload that fails, and continues with the present one", function()
    start "log: {file: app.log}\n"
    local reported = reload("log: {file: away/app.log}\n", 4)
    assert.truthy(
      reported:find("log: away/app.log cannot be made: No such file or directory", 1, true),
      reported)
    reported = reload("log: {file: .}\n", 4)
    assert.truthy(reported:find("log: . cannot be written: Is a directory", 1, true), reported)
    reload("log: {file: other.log}\nlines: 1\n")
    wait_file("app.log", "line")
    reload "log: {file: app.log}\n"
  end)

  it("does not exist without a module of that kind", function()
    daemon = segue.start { policy = (policy:gsub("modules = .-\n", "")),
      files = { ["config.yaml"] = "lines: 1\n" } }
    wait.until_true(function()
      return daemon.process.output:find("lost: no module of the policy offers a log", 1, true)
    end, 10000, function() return daemon.process.output end)
    assert.truthy(daemon.process.output:find("code=SEGUE_EMODULE", 1, true))
  end)

  it("raises an error about wrong arguments at the caller", function()
    local result = segue.cli({ "check", "-c", segue.folder {
      policy = 'require("segue.log").info(1)', files = {} }.dir:at("reload.lua") }, {})
    assert.truthy(result.output:find("reload.lua:1: segue.log: info: the message must be a text, "
      .. "not a number", 1, true), result.output)
    result = segue.cli({ "check", "-c", segue.folder {
      policy = 'require("segue.log").warn("a", 1)', files = {} }.dir:at("reload.lua") }, {})
    assert.truthy(result.output:find("fields must be a table, not a number", 1, true),
      result.output)
  end)

  it("names the place of a mistake in its configuration", function()
    start "log: {file: app.log}\n"
    for text, wanted in pairs {
      ["{}"] = "config.yaml:1:6: file is missing: name one, or - for standard error "
        .. "(at log)",
      ["{file: [1]}"] = "config.yaml:1:13: file must be a path, or - for standard error "
        .. "(at log.file)",
      ["{file: a, levle: info}"] = "config.yaml:1:23: levle is not a key of a log: it has "
        .. "file, level, format, overflow, queue, rotate, mode (at log.levle)",
      ["{file: a, level: loud}"] = "level must be error, warn, info or debug",
      ["{file: a, format: xml}"] = "format must be text or json",
      ["{file: a, overflow: lose}"] = "overflow must be wait or drop",
      ["{file: a, queue: 10}"] = "queue must be a size from 64KiB to 1GiB",
      ["{file: a, queue: 1XB}"] = "queue must be a size",
      ["{file: a, mode: 640}"] = 'mode must be a text such as "0640"',
      ["{file: a, mode: \"999\"}"] = "mode must be a text",
      ["{file: a, rotate: 5}"] = "rotate must be a map",
      ["{file: a, rotate: {size: 0}}"] = "rotate.size must be a size such as 100MiB (at "
        .. "log.rotate.size)",
      ["{file: a, rotate: {age: 1y}}"] = "rotate.age must be a time such as 1d",
      ["{file: a, rotate: {keep: -1}}"] = "rotate.keep must be a number up to 1000",
      ["{file: a, rotate: {count: 1}}"] = "rotate has a key that is not known: it has size",
      ["[]"] = "the log's configuration must be a map",
    } do
      local reported = reload("log: " .. text .. "\n", 3)
      assert.truthy(reported:find(wanted, 1, true), reported)
    end
  end)
end)

describe("a module whose start uses the log and the metrics that it needs", function()
  after_each(function()
    segue.cleanup()
    process.stop_all()
    tempdir.remove_all()
  end)

  local function files(rest)
    return { ["config.yaml"] = "log: { file: app.log }\nstats: {}\n", ["front.lua"] = [[
local log, stats = require "segue.log", require "segue.stats"
return { start = function()
  assert(log.info("front starts"))
  assert(stats.count "front_starts_total")
  ]] .. rest .. [[

end }
]] }
  end
  local with_front = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = {
    front = { kind = "lua", needs = { "log", "stats" } },
    log = { kind = "c", config = "log" },
    stats = { kind = "c", config = "stats" },
  },
}
]]

  it("finds them at the start of the daemon, and at each reload", function()
    local d = segue.start { policy = with_front, files = files "" }
    wait.until_true(function() return count(read(d.dir:at "app.log"), "front starts") == 1 end)
    assert.truthy(d:http("/metrics").body:find("\nfront_starts_total 1\n", 1, true))
    d.dir:write("front.lua", files("local _")["front.lua"])
    assert.equal(200, (d:reload()))
    wait.until_true(function() return count(read(d.dir:at "app.log"), "front starts") == 2 end)
  end)

  it("is undone before them where it fails, and its lines are written", function()
    local dir = tempdir.new()
    dir:write("reload.lua", (with_front:gsub("triggers = %b{}", "triggers = {}")))
    for name, text in pairs(files "error('no')") do dir:write(name, text) end
    local run = segue.cli({ "run" }, { cwd = dir.path, deadline_ms = 60000 })
    assert.equal(4, run.code, run:describe())
    assert.equal(1, count(read(dir:at "app.log"), "front starts"))
  end)
end)

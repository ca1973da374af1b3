-- SPDX-License-Identifier: MIT
-- The changes outside of the process that the journal has, for an operator: status and metrics.
local C = require "spec.support.c"
local segue = require "spec.support.segue"

local ffi = C.ffi

local policy = [[
local segue = require "segue"
return {
  name = "journal",
  sources = { segue.file "config.yaml" },
  secrets = { "password" },
}]]

-- Writes the state folder of a process that was killed while a module of a kind that this daemon
-- does not have changed something.
local function leave_open(folder, fields)
  local loop, record = ffi.new("segue__loop *[1]"), ffi.new("segue__record *[1]")
  C.check(C.segue__loop_open_manual(loop, 1000000, 1700000000000LL))
  C.check(C.scripted_record_new(record, loop[0], C.segue__os_default(), C.os_harness_log(), folder))
  local journal, intent = ffi.new("segue__journal[1]"), ffi.new("segue__intent[1]")
  C.segue__journal_init(journal)
  C.segue__intent_init(intent)
  for name, value in pairs(fields) do C.check(C.segue__intent_set(intent, name, value)) end
  C.check(C.segue__journal_add(journal, intent, ffi.new("uint64_t[1]")))
  C.check(C.segue__record_state(record[0], ffi.new("segue__decisions[1]"), journal, nil))
  C.segue__record_flush(record[0])
  C.segue__record_free(record[0])
  C.segue__intent_deinit(intent)
  C.segue__journal_deinit(journal)
  C.segue__loop_close(loop[0], nil, nil)
end

describe("a change that an earlier process left open", function()
  after_each(segue.cleanup)

  it("is shown by status and counted by a metric, without secrets", function()
    local d = segue.start { policy = policy,
      files = { ["config.yaml"] = "x: 1\npassword: hunter2-hunter2\n" } }
    assert.same({}, d:json "/api/v1/status".open_changes)
    assert.matches("\nsegue_changes_open 0\n", d:control("/metrics").body)
    assert.is_nil(d:cli("status").stdout:find("unfinished", 1, true))
    d:stop()
    leave_open(d.dir:at ".segue", { action = "mirror", module = "web", generation = "7",
      reload = "12", does = "copies hunter2-hunter2 to /srv" })
    d:spawn()
    d:wait_ready()
    assert.same({ { module = "web", action = "mirror", does = "copies *** to /srv",
      generation = 7, reload = 12, running = false } }, d:json "/api/v1/status".open_changes)
    assert.matches("\nsegue_changes_open 1\n", d:control("/metrics").body)
    assert.matches("\nunfinished +module web: copies %*%*%* to /srv %(mirror of reload 12%)\n",
      d:cli("status").stdout)
  end)
end)

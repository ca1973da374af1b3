-- SPDX-License-Identifier: MIT
-- The answers that a policy gets while an incident is recorded: their order and their bound.
local C = require "spec.support.c"
local cjson = require "cjson"
local ffi = require "ffi"

local MIB = 2 ^ 20
local mib_of_json = '"' .. ("x"):rep(MIB - 512) .. '"'

describe("the answers in a recording", function()
  local answers

  before_each(function()
    local out = ffi.new "segue__answers *[1]"
    assert.equal(0, C.segue__answers_new(out))
    answers = out[0]
    C.segue__answers_keep(answers, true)
  end)

  after_each(function() C.segue__answers_free(answers) end)

  local function ask(key)
    local answer = C.segue__answers_ask(answers, "segue.run")
    assert.is_false(answer == nil)
    C.segue__buf_add(answer.key, key, #key)
    return answer
  end

  local function answered(answer, events)
    C.segue__buf_add(answer.events, events, #events)
    C.segue__answers_add(answers, answer)
  end

  local function add(key, events) answered(ask(key), events or "1") end

  local function take()
    local buf = C.new("segue__buf")
    C.segue__answers_take(answers, buf)
    local text = C.buf(buf)
    C.segue__buf_deinit(buf)
    return cjson.decode("{" .. text .. "}")
  end

  local function keys(taken)
    local list = {}
    for i, answer in ipairs(taken.answers) do list[i] = answer.key end
    return list
  end

  it("are kept only while an incident is recorded", function()
    add "a"
    C.segue__answers_keep(answers, false)
    assert.is_true(C.segue__answers_ask(answers, "segue.run") == nil)
    assert.is_true(C.segue__answers_ask(nil, "segue.run") == nil)
    C.segue__answers_keep(answers, true)
    assert.same({}, take().answers)
  end)

  it("have the numbers of their requests, and are written once", function()
    local first, second = ask "first", ask "second"
    answered(second, "2")
    answered(first, "1")
    local list = take().answers
    assert.equal("second", list[1].key)
    assert.is_true(list[2].number < list[1].number)
    assert.same({ 1 }, list[2].events)
    assert.same({}, take().answers)
  end)

  it("of a reload that is not recorded are freed, those of tasks stay", function()
    add "task"
    C.segue__answers_running(answers, true)
    add "reload"
    C.segue__answers_forget(answers)
    add "next"
    assert.same({ "task", "next" }, keys(take()))
  end)

  it("of tasks make room for those of a reload, the oldest first", function()
    C.segue__answers_running(answers, true)
    add "reload 1"
    C.segue__answers_running(answers, false)
    for i = 1, 8 do add("task " .. i, mib_of_json) end
    C.segue__answers_running(answers, true)
    add("reload 2", mib_of_json)
    local taken = take()
    assert.same({ "reload 1", "task 2", "task 3", "task 4", "task 5", "task 6", "task 7", "task 8",
      "reload 2" }, keys(taken))
    assert.equal(1, taken.answers_left_out)
    assert.is_nil(taken.answers[9].left_out)
    assert.is_nil(take().answers_left_out)
  end)

  it("of a reload that find no room are left out by name", function()
    C.segue__answers_running(answers, true)
    for i = 1, 9 do add("reload " .. i, mib_of_json) end
    add("small", "1")
    local taken = take()
    assert.equal(10, #taken.answers)
    assert.is_true(taken.answers[9].left_out)
    assert.is_nil(taken.answers[9].events)
    assert.is_nil(taken.answers[10].left_out)
    assert.equal(1, taken.answers_left_out)
    for _ = 1, 40 do add(("n"):rep(MIB / 4)) end
    taken = take()
    assert.is_true(#taken.answers < 40)
    assert.equal(40 - 31, taken.answers_left_out)
  end)
end)

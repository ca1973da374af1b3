-- SPDX-License-Identifier: MIT
-- The rendered files of two generations, as the history joins them from the reloads in between:
-- what is missing is named, and the work is bounded.
local Record = require "spec.support.record"
local cjson = require "cjson"

local dir, h
Record.for_each_spec(function(folder) dir = folder end)

-- A spec with a history, which is closed before the memory is counted.
local function with_history(title, fn)
  it(title, function()
    h = assert(Record.history(dir:at "history.db"))
    local ok, why = pcall(fn)
    h:close()
    if not ok then error(why, 0) end
  end)
end

local function side(n)
  return { size = 2, hash = ("%032x"):format(n), mode = "0644", uid = 0, gid = 0 }
end

-- The change of a file from version a to version b.
local function change(a, b)
  return { module = "web", path = "/f", before = side(a), after = side(b),
    diff = ("--- /f\n+++ /f\n@@ -1 +1 @@\n-%d\n+%d\n"):format(a, b), added = 1, removed = 1 }
end

-- Adds the reload that makes a generation.
local function add(n, previous, files, more)
  h:add { id = n, generation = n,
    detail = cjson.encode { id = n, previous = previous, files = files or { change(n - 1, n) },
      more = more } }
end

describe("the rendered files of two generations", function()
  with_history("are joined from the reloads in between", function()
    for n = 1, 4 do add(n, n > 1 and n - 1 or nil) end
    local files, missing = h:changes(1, 4)
    assert.same({ 1, 0, "web" }, { #files, missing, files[1].module })
    assert.matches("%-1\n%+4\n$", files[1].diff)
    assert.matches("%-4\n%+1\n$", h:changes(1, 4, true)[1].diff)
    assert.same({}, (h:changes(4, 4)))
  end)

  with_history("are not known where a generation that was live has no reload", function()
    add(1)
    add(2, 1)
    add(4, 3)
    add(5, 4)
    assert.same({ {}, 3 }, { h:changes(1, 5) })
    assert.same({ {}, 3 }, { h:changes(2, 4) })
    assert.same({ {}, 6 }, { h:changes(4, 6) })
    local files, missing = h:changes(4, 5)
    assert.same({ 1, 0 }, { #files, missing })
  end)

  with_history("are known where a number is missing because its generation was undone", function()
    add(1)
    add(3, 1, { change(1, 3) })
    add(4) -- an older version wrote no number of the generation before
    local files, missing = h:changes(1, 4)
    assert.equal(0, missing)
    assert.matches("%-1\n%+4\n$", files[1].diff)
  end)

  with_history("are not joined from more than a thousand reloads", function()
    for n = 1, 1002 do add(n, n - 1, {}) end
    assert.same({ {}, 0 }, { h:changes(2, 1002) })
    assert.same({ nil, "SEGUE_ELIMIT" }, { h:changes(1, 1002) })
  end)

  with_history("are not joined from more than 16 MiB", function()
    local large = ("x"):rep(4 * 1024 * 1024)
    for n = 1, 6 do add(n, n - 1, nil, large) end
    assert.equal(1, #h:changes(3, 6))
    assert.same({ nil, "SEGUE_ELIMIT" }, { h:changes(1, 6) })
  end)
end)

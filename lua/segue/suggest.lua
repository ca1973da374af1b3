-- SPDX-License-Identifier: MIT
-- "Did you mean": the nearest of a few known words.
local floor, min = math.floor, math.min

-- Letters to change, add, drop or swap with their neighbour.
local function distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return last[#b]
end

local M = {}

--- The word of a list that is nearest to `word`, or nil if none is near.
---@param word string
---@param words string[]
---@return string?
function M.nearest(word, words)
  if #word > 64 then return nil end
  local best, found = floor(#word / 3) + 1, nil
  for _, candidate in ipairs(words) do
    local d = distance(word:lower(), candidate:lower())
    if d < best or (d == best and not found) then best, found = d, candidate end
  end
  return found
end

--- "did you mean 'x'?" where one is near, else the whole list.
---@param word string
---@param words string[]
---@return string
function M.hint(word, words)
  local near = M.nearest(word, words)
  if near then return ("did you mean '%s'?"):format(near) end
  return "known are " .. table.concat(words, ", ")
end

--- The keys of a table, sorted.
---@param t table<string, any>
---@return string[]
function M.keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

return M

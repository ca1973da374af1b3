-- SPDX-License-Identifier: MIT
-- The bytes that came on a connection and were not read yet, as the field `input` of a client. They
-- are kept as chunks and joined when a spec looks at them: to join the 20,000 chunks of a long
-- answer one by one, and to parse it again with each, takes longer than to receive it.
--   local Client = input.class(); local self = input.new(Client, { more = "fields" })
--   self:add(data); if self:is_worth_a_look() then parse(self.input) end
local M = {}

--- Makes a class whose objects have `input`; methods are added to it as to any table.
function M.class()
  local Class = {}

  function Class:__index(key)
    if key ~= "input" then return Class[key] end
    local chunks = rawget(self, "chunks")
    if #chunks > 1 then
      chunks = { table.concat(chunks) }
      rawset(self, "chunks", chunks)
    end
    return chunks[1] or ""
  end

  function Class:__newindex(key, value)
    if key ~= "input" then return rawset(self, key, value) end
    rawset(self, "chunks", value == "" and {} or { value })
    rawset(self, "size", #value)
    rawset(self, "looked", 0)
  end

  --- Adds bytes.
  function Class:add(data)
    self.chunks[#self.chunks + 1] = data
    self.size = self.size + #data
  end

  --- True if the input has grown by an eighth since it was last looked at, or does not grow now, or
  --- is complete.
  function Class:is_worth_a_look()
    local size = self.size
    if not self.ended and size ~= self.last_size and size - self.looked < self.looked / 8 then
      self.last_size = size
      return false
    end
    self.last_size, self.looked = size, size
    return true
  end

  return Class
end

function M.new(class, fields)
  fields.chunks, fields.size, fields.looked = {}, 0, 0
  return setmetatable(fields, class)
end

return M

-- SPDX-License-Identifier: MIT
-- SHA-256, MD5 and HMAC, for the functions that name them.
local bit = require "bit"

local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local rol, ror, rshift, tobit = bit.rol, bit.ror, bit.rshift, bit.tobit

local digest = {}

---@param bytes string
---@return string
function digest.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function word_bytes(w, little)
  local a, b, c, d = band(w, 255), band(rshift(w, 8), 255), band(rshift(w, 16), 255), rshift(w, 24)
  return little and string.char(a, b, c, d) or string.char(d, c, b, a)
end

local function pad(s, little)
  local bits = #s * 8
  local high, low = math.floor(bits / 2 ^ 32), bits % 2 ^ 32
  local length = little and word_bytes(tobit(low), true) .. word_bytes(tobit(high), true)
    or word_bytes(tobit(high)) .. word_bytes(tobit(low))
  return s .. "\128" .. ("\0"):rep((55 - #s) % 64) .. length
end

-- Constants: the fractions of roots of the first primes, and of sines.
local k256, h256 = {}, {}
do
  local n, candidate = 0, 2
  while n < 64 do
    local prime = true
    for d = 2, math.floor(math.sqrt(candidate)) do prime = prime and candidate % d ~= 0 end
    if prime then
      n = n + 1
      k256[n] = tobit(math.floor(candidate ^ (1 / 3) % 1 * 2 ^ 32))
      if n <= 8 then h256[n] = tobit(math.floor(math.sqrt(candidate) % 1 * 2 ^ 32)) end
    end
    candidate = candidate + 1
  end
end
local k5 = {}
for i = 1, 64 do k5[i] = tobit(math.floor(math.abs(math.sin(i)) * 2 ^ 32)) end
local shifts = { 7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21 }

local function words(block, at, little)
  local w = {}
  for i = 1, 16 do
    local a, b, c, d = block:byte(at + (i - 1) * 4, at + i * 4 - 1)
    if little then a, b, c, d = d, c, b, a end
    w[i] = tobit(a * 16777216 + b * 65536 + c * 256 + d)
  end
  return w
end

local function sha256_block(h, w)
  for i = 17, 64 do
    local x, y = w[i - 15], w[i - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
    w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
  end
  local a, b, c, d, e, f, g, hh = unpack(h)
  for i = 1, 64 do
    local t1 = tobit(hh + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f),
      band(bnot(e), g))
      + k256[i] + w[i])
    local t2 = tobit(bxor(ror(a, 2), ror(a, 13), ror(a, 22))
      + bxor(band(a, b), band(a, c), band(b, c)))
    hh, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
  end
  local new = { a, b, c, d, e, f, g, hh }
  for i = 1, 8 do h[i] = tobit(h[i] + new[i]) end
end

---@param s string
---@return string 32 bytes
function digest.sha256(s)
  local h, text = { unpack(h256) }, pad(s)
  for at = 1, #text, 64 do sha256_block(h, words(text, at)) end
  for i = 1, 8 do h[i] = word_bytes(h[i]) end
  return table.concat(h)
end

local function md5_block(h, w)
  local a, b, c, d = unpack(h)
  for i = 0, 63 do
    local f, g
    if i < 16 then f, g = bor(band(b, c), band(bnot(b), d)), i
    elseif i < 32 then f, g = bor(band(d, b), band(bnot(d), c)), (5 * i + 1) % 16
    elseif i < 48 then f, g = bxor(b, c, d), (3 * i + 5) % 16
    else f, g = bxor(c, bor(b, bnot(d))), 7 * i % 16 end
    local turned = rol(tobit(a + f + k5[i + 1] + w[g + 1]),
      shifts[math.floor(i / 16) * 4 + i % 4 + 1])
    a, d, c, b = d, c, b, tobit(b + turned)
  end
  local new = { a, b, c, d }
  for i = 1, 4 do h[i] = tobit(h[i] + new[i]) end
end

---@param s string
---@return string 16 bytes
function digest.md5(s)
  local h = { tobit(0x67452301), tobit(0xefcdab89), tobit(0x98badcfe), tobit(0x10325476) }
  local text = pad(s, true)
  for at = 1, #text, 64 do md5_block(h, words(text, at, true)) end
  for i = 1, 4 do h[i] = word_bytes(h[i], true) end
  return table.concat(h)
end

---@param key string
---@param message string
---@return string
function digest.hmac_sha256(key, message)
  if #key > 64 then key = digest.sha256(key) end
  key = key .. ("\0"):rep(64 - #key)
  local function mixed(n)
    return (key:gsub(".", function(c) return string.char(bxor(c:byte(), n)) end))
  end
  return digest.sha256(mixed(0x5c) .. digest.sha256(mixed(0x36) .. message))
end

return digest

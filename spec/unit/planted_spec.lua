-- SPDX-License-Identifier: MIT
-- 10,000 random documents, each with a secret and a mistake that makes a message want to quote it,
-- through the readers and the schema: no message shows a piece of any secret. #long specs take 30
-- times as many. SEGUE_SPEC_SEED=number repeats a run.
local document = require "spec.support.document"
local planted = require "spec.support.planted"
local schemas = require "spec.support.schema"
local uv = require "luv"

local SEED = tonumber(os.getenv "SEGUE_SPEC_SEED" or "") or uv.hrtime() % 1000000007
local SECRETS = { "*.password", "*.vault", "**.api_key", "*.plain" }

local function shows_nothing(reported, text)
  local at = planted.find(reported)
  if at then error(("seed %d: %s\nof: %s"):format(SEED, at, text), 2) end
end

for _, length in ipairs { { "", 1 }, { " #long", 30 } } do
  describe("a secret in a random document" .. length[1], function()
    it("is shown by no error of reading, with and without a known mask", function()
      local planter, refused = planted.new(SEED), 0
      local masks = { document.mask(SECRETS), document.mask { "**" }, false }
      for n = 1, 7000 * length[2] do
        local text, ending = planter:broken("n" .. n)
        local doc, err = document.parse(text, { format = ending:sub(2), expand = true, env = {},
          mask = masks[n % 3 + 1] })
        if doc then
          document.free(doc)
        else
          refused = refused + 1
          shows_nothing(err.text, text)
        end
      end
      assert.is_true(refused > 5000 * length[2], refused .. " refused")
    end)

    it("is shown by no error of the schema", function()
      local planter, schema = planted.new(SEED), assert(schemas.compile(planted.schema()))
      local refused = 0
      local mask = document.mask(SECRETS)
      for n = 1, 3000 * length[2] do
        local text = planter:unfit("n" .. n)
        local reported = schemas.reported(schema, text, { mask = mask })
        if reported ~= "" then refused = refused + 1 end
        shows_nothing(reported, text)
      end
      assert.is_true(refused > 2500 * length[2], refused .. " refused")
    end)

    it("is found by this search where a message does show it", function()
      local planter, found = planted.new(SEED), 0
      for n = 1, 200 do
        local text, ending = planter:broken("n" .. n)
        local doc, err = document.parse(text, { format = ending:sub(2), expand = true, env = {} })
        if doc then document.free(doc) elseif planted.find(err.text) then found = found + 1 end
      end
      assert.is_true(found > 50, found .. " found")
      assert.is_truthy(planted.find(schemas.reported('{"maximum": 1}', planted.marks[3] .. "1")))
    end)
  end)
end

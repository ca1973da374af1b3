-- SPDX-License-Identifier: MIT
-- The query of a request is read whole and once, or refused: a parameter that cannot be read is
-- never taken for one that is missing.
local cjson = require "cjson"
local back = require "spec.support.back"
local segue = require "spec.support.segue"

-- Endings that make of a value something that cannot be read, or two of them.
local spoiled = { "%00", "%001", "%", "%4", "%zz", "%00%00" }

describe("a query", function()
  local d
  before_each(function()
    d = back.start()
    back.apply(d, 2)
    back.apply(d, 3)
  end)
  after_each(function()
    local reloads, status = #d:json "/api/v1/reloads", back.status_of(d)
    local config = d:config()
    segue.cleanup()
    -- whatever was refused has done nothing
    assert.equal(3, reloads)
    assert.equal(3, config.x)
    assert.equal(3, status.generation)
    assert.equal(cjson.null, status.frozen)
  end)

  local function ask(method, path)
    return d:control { method = method, path = path }
  end

  local function refused(method, path, why)
    local r = ask(method, path)
    assert.equal(400, r.status, method .. " " .. path .. ": " .. r.body)
    assert.matches(why, r.body)
  end

  local parameters = {
    { "POST", "/-/reload", force = "1", wait = "5s", ["accept-shrink"] = "1" },
    { "PUT", "/-/reload", force = "1", wait = "5s", ["accept-shrink"] = "1" },
    { "POST", "/api/v1/plan", force = "1", wait = "5s", ["accept-shrink"] = "1" },
    { "POST", "/api/v1/rollback", to = "1", wait = "5s" },
    { "POST", "/api/v1/confirm", wait = "5s" },
    { "POST", "/api/v1/freeze", why = "because" },
    { "POST", "/api/v1/recording", after = "0" },
    { "GET", "/api/v1/reloads", limit = "1", before = "1" },
    { "GET", "/api/v1/diff", from = "1", to = "2" },
    { "GET", "/api/v1/config", path = "x" },
    { "GET", "/api/v1/why", path = "x" },
  }

  it("with an unreadable value is rejected", function()
    for _, p in ipairs(parameters) do
      for name, value in pairs(p) do
        if type(name) == "string" then
          for _, ending in ipairs(spoiled) do
            refused(p[1], ("%s?%s=%s%s"):format(p[2], name, value, ending),
              "the parameter " .. name:gsub("%-", "%%-") .. " cannot be read")
          end
        end
      end
    end
  end)

  it("that has a parameter twice is rejected, also where both values are the same", function()
    for _, p in ipairs(parameters) do
      for name, value in pairs(p) do
        if type(name) == "string" then
          refused(p[1], ("%s?%s=%s&%s=%s"):format(p[2], name, value, name, value),
            "is given twice")
          refused(p[1], ("%s?%s=%s&%%%02x%s"):format(p[2], name, value, name:byte(),
            name:sub(2)), "is given twice")
        end
      end
    end
  end)

  it("with a value longer than any valid one is rejected", function()
    for _, p in ipairs(parameters) do
      for name in pairs(p) do
        if type(name) == "string" and name ~= "why" then
          refused(p[1], ("%s?%s=%s1"):format(p[2], name, ("0"):rep(600)), "is too long")
        end
      end
    end
  end)

  it("that changes something and has an unknown parameter is rejected", function()
    for _, p in ipairs(parameters) do
      if p[1] ~= "GET" then
        refused(p[1], p[2] .. "?nothing=1", "the parameter nothing is not known here")
      end
    end
    refused("POST", "/api/v1/rollback?too=1", "did you mean to")
    refused("POST", "/-/reload?accept_shrink=1", "did you mean accept%-shrink")
    refused("POST", "/api/v1/unfreeze?why=x", "is not known here")
    refused("POST", "/-/reload?%zz=1", "has a name that cannot be read")
    for _, path in ipairs { "/api/v1/config?_=1", "/metrics?collect=all", "/-/ready?%zz" } do
      assert.equal(200, ask("GET", path).status, path) -- who only looks may say what they like
    end
  end)

  it("requires numbers, durations and booleans in their valid forms", function()
    for _, junk in ipairs { "1x", "x1", "+1", "-1", "1.0", "0x1", "1e1", " 1", "1 ", "1%0a", "1,2",
      "%31%2e", "%e2%85%a0" } do
      local value = junk:gsub(" ", "%%20"):gsub("%+", "%%2b")
      refused("POST", "/api/v1/rollback?to=" .. value, "to must be the number")
      refused("GET", "/api/v1/reloads?limit=" .. value, "limit must be a whole number")
      refused("GET", "/api/v1/reloads?before=" .. value, "before must be a whole number")
      refused("GET", "/api/v1/diff?from=" .. value, "must be a number, live, previous or next")
      refused("POST", "/api/v1/recording?after=" .. value, "after must be the number")
    end
    for _, junk in ipairs { "5x", "%2b5s", "-5s", "0x5s", "1e1s", "%205s", "5%20s", "5s%20", "s",
      "",
      "nan", "inf", "5ss", "1.2.3s", "5s%0a" } do
      refused("POST", "/-/reload?wait=" .. junk, "wait must be a duration")
    end
    for _, junk in ipairs { "off", "2", "%30%30", "no!", "1%20", "True" } do
      refused("POST", "/-/reload?force=" .. junk, "force must be 1 or 0")
      refused("POST", "/api/v1/plan?accept-shrink=" .. junk, "accept%-shrink must be 1 or 0")
    end
  end)

  it("with valid parameters is accepted", function()
    for path, status in pairs { ["/api/v1/plan?force"] = 200, ["/api/v1/plan?force=no"] = 200,
      ["/api/v1/plan?&&wait=5s&"] = 200, ["/api/v1/plan?wait=0.5m"] = 200,
      ["/api/v1/plan?%66orce=%31"] = 200, ["/api/v1/plan?"] = 200 } do
      assert.equal(status, ask("POST", path).status, path)
    end
    assert.equal(200, ask("GET", "/api/v1/reloads?limit=002").status)
  end)
end)

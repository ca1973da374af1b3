-- SPDX-License-Identifier: MIT
-- Services and nodes as consul-template's functions give them. They come from the mocks of a batch,
-- from "@services" and "@nodes" of the data, or from its "services" and "nodes": a map of lists of
-- instances, or one list. Names of their fields are compared without case and underscores.
local context = require "segue.template.context"
local quote = require "segue.template.quote"
local structs = require "segue.template.structs"
local value = require "segue.template.value"

local services = {}

local Service = structs.new("*dependency.HealthService", { "Node", "NodeID", "NodeAddress",
  "NodeDatacenter", "NodeTaggedAddresses", "NodeMeta", "ServiceMeta", "Address",
  "ServiceTaggedAddresses", "ID", "Name", "Tags", "Checks", "Status", "Port", "Weights" })
local Snippet = structs.new("*dependency.CatalogSnippet", { "Name", "Tags" })
local Node = structs.new("*dependency.Node", { "ID", "Node", "Address", "Datacenter",
  "TaggedAddresses", "Meta" })
local NodeService = structs.new("*dependency.CatalogNodeService", { "ID", "Service", "Tags", "Meta",
  "Port", "Address", "EnableTagOverride" })
local CatalogNode = structs.new("*dependency.CatalogNode", { "Node", "Services" })
services.Service, services.LIST = Service, structs.list_of(Service)
local SNIPPETS, NODES = structs.list_of(Snippet), structs.list_of(Node)
local NODE_SERVICES = structs.list_of(NodeService)

local function plain_name(name) return name:gsub("_", ""):lower() end

-- The members of a mock by their plain names.
local function members(item)
  local out = {}
  if value.kind(item) == "map" then
    for key, v in next, item do
      if type(key) == "string" and v ~= value.NULL then out[plain_name(key)] = v end
    end
  end
  return out
end

local function texts(v)
  local out = {}
  if value.kind(v) == "list" then
    for _, item in ipairs(v) do out[#out + 1] = tostring(item) end
  end
  table.sort(out)
  return value.list(out, value.STRINGS)
end

local function text_map(v)
  local out = {}
  if value.kind(v) == "map" then
    for key, item in next, v do
      if type(item) == "string" then out[key] = item end
    end
  end
  return value.map(out, value.STRING_MAP)
end

local function or_empty(v) return v or "" end

local function new_service(name, item)
  local m = members(item)
  local address = or_empty(m.nodeaddress)
  return setmetatable({
    Node = or_empty(m.node), NodeID = or_empty(m.nodeid), NodeAddress = address,
    NodeDatacenter = or_empty(m.nodedatacenter or m.datacenter),
    NodeTaggedAddresses = text_map(m.nodetaggedaddresses), NodeMeta = text_map(m.nodemeta),
    ServiceMeta = text_map(m.servicemeta or m.meta),
    Address = (m.address and m.address ~= "") and m.address or address,
    ServiceTaggedAddresses = m.servicetaggedaddresses or value.map {},
    ID = m.id or m.serviceid or m.name or name, Name = m.name or m.service or name,
    Tags = texts(m.tags), Checks = m.checks or value.list {}, Status = m.status or "passing",
    Port = m.port or 0, Weights = m.weights or value.map {},
  }, Service)
end

-- The instances in a list, or the one that a map is, by the name of their service; name is that of
-- instances that have none.
local function add_instances(out, name, list)
  if value.kind(list) == "map" then list = { list } end
  if type(list) ~= "table" then return end
  for _, item in ipairs(list) do
    local service = new_service(name, item)
    out[service.Name] = out[service.Name] or {}
    table.insert(out[service.Name], service)
  end
end

-- Every instance of every service, by name.
local function instances()
  local given, out = context.mock "services", {}
  if value.kind(given) == "list" then
    add_instances(out, "", given)
  elseif value.kind(given) == "map" then
    for _, name in ipairs(value.sorted_keys(given)) do add_instances(out, name, given[name]) end
  end
  return out
end

-- The instances of one service. A list of the data may hold those of others too.
local function instances_of(name)
  local out = {}
  local given, is_list = context.member("services", name)
  add_instances(out, is_list and "" or name, given)
  return out[name] or {}
end

local function by_node_and_id(a, b)
  if a.Node ~= b.Node then return a.Node < b.Node end
  return a.ID < b.ID
end

local filters = { any = true, passing = true, warning = true, critical = true, maintenance = true }

-- Parses "tag.name?query@dc~near|filter,filter"; nil and a message where it is wrong.
local function parse_query(query)
  local rest, filter = query:match "^([^|]*)|(.*)$"
  rest = (rest or query):gsub("~.*$", ""):gsub("%?[^@]*", "")
  local name, datacenter = rest:match "^([^@]*)@([%w_.-]+)$"
  name = name or rest
  local tag, plain = name:match "^([%w_=:.-]+)%.([%w_-]+)$"
  plain = plain or name:match "^([%w_-]+)$"
  if not plain then return nil, "health.service: invalid format: " .. quote.quote(query) end
  local wanted = {}
  for word in (filter or "passing"):gmatch "[^,]+" do
    word = word:match "^%s*(.-)%s*$"
    if not filters[word] then
      return nil, ("health.service: invalid filter: %s in %s"):format(quote.quote(word),
        quote.quote(query))
    end
    wanted[word] = true
  end
  return { name = plain, tag = tag, datacenter = datacenter, wanted = wanted }
end

local function has_tag(service, tag)
  for _, own in ipairs(service.Tags) do
    if own == tag then return true end
  end
  return false
end

-- The instances that a query requests, sorted by node and ID.
---@param query string
---@return any? list
---@return string? message
function services.find(query)
  local q, message = parse_query(query)
  if not q then return nil, message end
  local found = {}
  for _, service in ipairs(instances_of(q.name)) do
    if (q.wanted.any or q.wanted[service.Status]) and (not q.tag or has_tag(service, q.tag))
      and (not q.datacenter or service.NodeDatacenter == ""
        or service.NodeDatacenter == q.datacenter) then
      found[#found + 1] = service
    end
  end
  table.sort(found, by_node_and_id)
  return value.list(found, services.LIST)
end

-- {Name, Tags} of each service, by name.
function services.catalog()
  local out = {}
  for name, list in pairs(instances()) do
    local tags, seen = {}, {}
    for _, service in ipairs(list) do
      for _, tag in ipairs(service.Tags) do
        if not seen[tag] then tags[#tags + 1] = tag end
        seen[tag] = true
      end
    end
    out[#out + 1] = setmetatable({ Name = name, Tags = texts(value.list(tags)) }, Snippet)
  end
  table.sort(out, function(a, b) return a.Name < b.Name end)
  return value.list(out, SNIPPETS)
end

local function new_node(name, item)
  local m = members(item)
  return setmetatable({ ID = or_empty(m.id), Node = m.node or m.name or name,
    Address = or_empty(m.address), Datacenter = or_empty(m.datacenter),
    TaggedAddresses = text_map(m.taggedaddresses), Meta = text_map(m.meta) }, Node)
end

function services.nodes()
  local given, out = context.mock "nodes", {}
  if value.kind(given) == "list" then
    for i, item in ipairs(given) do out[i] = new_node("", item) end
  elseif value.kind(given) == "map" then
    for _, name in ipairs(value.sorted_keys(given)) do out[#out + 1] = new_node(name,
      given[name]) end
  end
  table.sort(out, function(a, b) return a.Node < b.Node end)
  return value.list(out, NODES)
end

-- A node with its services; an unknown one has neither.
---@param name? string nil: the first
function services.node(name)
  local nodes, found = services.nodes(), nil
  for _, node in ipairs(nodes) do
    if name == nil or node.Node == name then
      found = node
      break
    end
  end
  local list = {}
  for _, group in pairs(found and instances() or {}) do
    for _, s in ipairs(group) do
      if s.Node == found.Node then
        list[#list + 1] = setmetatable({ ID = s.ID, Service = s.Name, Tags = s.Tags,
          Meta = s.ServiceMeta, Port = s.Port, Address = s.Address, EnableTagOverride = false },
          NodeService)
      end
    end
  end
  table.sort(list, function(a, b) return a.ID < b.ID end)
  return setmetatable({ Node = found or value.NULL, Services = value.list(list, NODE_SERVICES) },
    CatalogNode)
end

return services

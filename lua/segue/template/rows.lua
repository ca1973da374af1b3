-- SPDX-License-Identifier: MIT
-- Differences from the original, function by function, and functions that are left out, with the
-- reason. The messages about functions that are not defined and the lists of segue-template(5) are
-- made from these rows. A function that is not named here is as in the original.
local rows = {}

local originals = { segue = "consul-template" }

-- The dialect whose rows a dialect has.
---@param name string
---@return string
function rows.original(name) return originals[name] or name end

local RE2 = "matched by PCRE2 within limits; what RE2 lacks is refused"
local ORDER = "sorted; the original has an order of chance"
local DATA = "the data cannot be changed: only a map that a function has made"

---@type table<string, table<string, string>>
rows.differs = {
  go = {
    slice = "beyond the length is an error; Go shows items behind the length",
    printf = "complex numbers do not exist",
    call = "no value is a function: always an error",
  },
  confd = {
    getv = "reads the configuration; a missing key holds the files",
    get = "reads the configuration; a missing key holds the files",
    gets = "reads the configuration", getvs = "reads the configuration",
    exists = "reads the configuration", ls = "reads the configuration",
    lsdir = "reads the configuration",
    json = "its error has other words", jsonArray = "its error has other words",
    datetime = "has Format, Unix, UTC, String, Year, Day, Hour, Minute, Second and YearDay",
    sortKVByLength = "keys of one length keep their order",
    lookupIP = "gives no addresses: templates use no network",
    lookupIPV4 = "gives no addresses: templates use no network",
    lookupIPV6 = "gives no addresses: templates use no network",
    lookupSRV = "gives no addresses: templates use no network",
  },
  ["consul-template"] = {
    key = "reads app.port of the configuration for \"app/port\"",
    keyExists = "reads the configuration", keyOrDefault = "reads the configuration",
    ls = "reads the configuration; nothing there is an empty list",
    tree = "reads the configuration; nothing there is an empty list",
    safeLs = "reads the configuration", safeTree = "reads the configuration",
    service = "reads services.NAME of the configuration; query and ~near have no effect",
    connect = "as service", services = "reads services of the configuration",
    nodes = "reads nodes of the configuration", node = "reads nodes and services",
    datacenters = "those of the nodes",
    secret = "reads secrets.PATH of the configuration as Data; does not write",
    secrets = "the names below secrets.PATH",
    nomadVar = "reads nomadVars.PATH of the configuration, as a map of texts",
    parseYAML = "YAML 1.2: yes, on, y and 010 are the texts that they are, dates too, and keys are "
      .. "texts",
    regexMatch = RE2, regexReplaceAll = RE2,
    toTitle = "in some scripts of Asia words begin elsewhere",
    mergeMap = "changes a copy where the first map is data",
    mergeMapWithOverride = "changes a copy where the first map is data",
    file = "is read by each reload, and not watched",
    env = "of the process of segue", mustEnv = "of the process of segue",
    envOrDefault = "of the process of segue",
  },
  sprig = {
    keys = ORDER, values = ORDER, set = DATA, unset = DATA,
    merge = "changes a copy where the first map is data",
    mergeOverwrite = "changes a copy where the first map is data",
    mustMerge = "changes a copy where the first map is data",
    mustMergeOverwrite = "changes a copy where the first map is data",
    addf = "15 digits", subf = "15 digits", mulf = "15 digits", divf = "15 digits",
    add1f = "15 digits", maxf = "15 digits", minf = "15 digits",
    dateInZone = "the zones UTC and Local", date_in_zone = "the zones UTC and Local",
    swapcase = "letters of ASCII", untitle = "letters of ASCII",
    initials = "takes whole characters; the original cuts those outside of ASCII",
    nospace = "keeps characters outside of ASCII; the original breaks them",
    slice = "beyond the length is an error; the original shows items behind the length",
    mustSlice = "beyond the length is an error; the original shows items behind the length",
    mustFromJson = "its error has other words",
    regexMatch = RE2, regexFind = RE2, regexFindAll = RE2, regexSplit = RE2,
    regexReplaceAll = RE2, regexReplaceAllLiteral = RE2, mustRegexMatch = RE2,
    mustRegexFind = RE2, mustRegexFindAll = RE2, mustRegexSplit = RE2,
    mustRegexReplaceAll = RE2, mustRegexReplaceAllLiteral = RE2,
  },
}

local CHANGES = "its result differs from run to run"
local NETWORK = "templates use no network"
local SECRETS = "keys and passwords come from a source"
local CASES = "the library that it uses has rules of its own"

---@type table<string, table<string, string>>
rows.left_out = {
  go = {},
  confd = {
    cget = "encrypted keys", cgetv = "encrypted keys", cgets = "encrypted keys",
    cgetvs = "encrypted keys",
  },
  ["consul-template"] = {
    pkiCert = "it writes files", writeToFile = "it writes files",
    plugin = "it runs a program: write a source", sockaddr = "the interfaces of the machine",
    caRoots = "certificates of Consul Connect", caLeaf = "certificates of Consul Connect",
    partitions = "Consul Enterprise", peerings = "Consul's peers",
    exportedServices = "Consul's peers",
    nomadService = "read nomad's services by service", nomadServices = "use services",
    nomadVarList = "use nomadVar", nomadVarListSafe = "use nomadVar",
    nomadVarExists = "use nomadVar",
    spew_dump = "for debugging", spew_printf = "for debugging", spew_sdump = "for debugging",
    spew_sprintf = "for debugging",
  },
  sprig = {
    randAlphaNum = CHANGES, randAlpha = CHANGES, randAscii = CHANGES, randNumeric = CHANGES,
    randInt = CHANGES, randBytes = CHANGES, shuffle = CHANGES, uuidv4 = CHANGES,
    getHostByName = NETWORK, urlParse = "URLs", urlJoin = "URLs",
    bcrypt = SECRETS, htpasswd = SECRETS, genPrivateKey = SECRETS, derivePassword = SECRETS,
    buildCustomCert = SECRETS, genCA = SECRETS, genCAWithKey = SECRETS,
    genSelfSignedCert = SECRETS, genSelfSignedCertWithKey = SECRETS, genSignedCert = SECRETS,
    genSignedCertWithKey = SECRETS, encryptAES = SECRETS, decryptAES = SECRETS,
    sha1sum = "use sha256sum", sha512sum = "use sha256sum", adler32sum = "use sha256sum",
    b32enc = "use b64enc", b32dec = "use b64dec",
    semver = "versions", semverCompare = "versions",
    camelcase = CASES, snakecase = CASES, kebabcase = CASES, wrap = CASES, wrapWith = CASES,
    abbrevboth = CASES,
    toDate = "texts are not read as times", mustToDate = "texts are not read as times",
    dateModify = "texts are not read as durations",
    date_modify = "texts are not read as durations",
    mustDateModify = "texts are not read as durations",
    must_date_modify = "texts are not read as durations",
    durationRound = "texts are not read as durations", htmlDateInZone = "use dateInZone",
    hello = "for testing", osBase = "use base", osClean = "use clean", osDir = "use dir",
    osExt = "use ext", osIsAbs = "use isAbs",
  },
}

-- Functions of sprig that need more than their arguments: there is no sprig_NAME of them.
rows.changing = { env = "use env", expandenv = "use env", now = "use timestamp",
  date = "use timestamp", dateInZone = "use timestamp", date_in_zone = "use timestamp",
  htmlDate = "use timestamp", ago = "use timestamp" }

return rows

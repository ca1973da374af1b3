---@meta
-- SPDX-License-Identifier: MIT
-- Types of policies, for editors that understand LuaCATS annotations. Nothing loads this file.

--- "50ms", "1.5s", "2m", "1h30m", "1d", or a number of seconds.
---@alias segue.Duration string|number

--- What reload.lua returns.
---@class segue.Policy
---@field name? string
---@field sources segue.Source[] later ones override earlier ones
---@field triggers? segue.Trigger[]
---@field debounce? { min?: segue.Duration, max?: segue.Duration }
---@field min_interval? segue.Duration
---@field timeouts? { collect?: segue.Duration, check?: segue.Duration, reload?: segue.Duration }
---@field schema? string|segue.Schema JSON Schema, draft 2020-12
---@field check? fun(next: segue.Config, prev?: segue.Config): boolean?, (string|table)?
---@field reload? fun(txn: segue.Transaction)
---@field strategy? fun(source: segue.SourceHealth): "pull"|"push"
---@field modules? table<string, segue.Module>
---@field plugins? string|string[] folders where plugins are looked for first
---@field confirm? segue.Confirm
---@field threads? integer that serve requests; default: one for each core but one
---@field history? segue.History how much is kept
---@field last_good? segue.LastGood how old what a start falls back to may be
---@field ready? "serving"|"strict" strict: what is stale is not ready; default: serving

---@class segue.Schema
---@field path string
---@field formats? "assert"|"ignore"
---@field with? table<integer|string, string> files that it refers to, and URI = file
---@field defaults? boolean fill them in before anything is judged

---@class segue.SourceHealth
---@field name string
---@field kind string
---@field failures integer in a row, of fetches and watches; 0: all is well
---@field healthy boolean
---@field can_push boolean
---@field error? string

---@class segue.Limits
---@field head? integer|string bytes of the head of a request; default: 16 KiB
---@field body? integer|string bytes of its body; default: 1 MiB
---@field connections? integer at once, all threads together; default: 10,000
---@field head_time? segue.Duration default: 10 s
---@field body_time? segue.Duration default: 30 s
---@field idle? segue.Duration between requests; default: 75 s
---@field write? segue.Duration of a client that does not read; default: 30 s

---@class segue.AccessLog
---@field file? string beside the policy unless it begins with /; without one: the current log
---@field format? "combined"|"json"
---@field query? boolean false: lines leave out what is behind "?"

---@class segue.ModuleTls
---@field cert string PEM: the certificate, then what leads to its CA
---@field key string PEM, for this user only
---@field client_ca? string PEM: who signs the certificates of clients
---@field client? "required"|"optional"

---@class segue.History
---@field reloads? integer
---@field generations? integer
---@field age? segue.Duration
---@field max_bytes? integer

---@class segue.LastGood
---@field max_age? segue.Duration since the sources said it last; by default any age will do

---@class segue.Confirm
---@field probe? segue.Probe|fun(): boolean?, string?
---@field by? "probe"|"operator" who confirms; operator: segue confirm
---@field hold? segue.Duration how long the probe must stay good
---@field within? segue.Duration else everything is undone
---@field failures? integer refusals of the probe in a row after which everything is undone at once

---@class segue.Module
---@field kind "c"|"lua"
---@field plugin? string what a host registered, or a shared object; default: the module's name
---@field replace? "swap"|"handover"|"restart"
---@field config? string the path of its part of the configuration
---@field needs? string[] names of modules that start before it
---@field prepare? segue.Duration
---@field start? segue.Duration
---@field drain? segue.Duration|segue.Drain a time alone: cut when it is over
---@field listen? string|string[] where it is reached: "http://HOST:PORT", "https://HOST:PORT"
---@field access_log? true|string|segue.AccessLog a line for each request; true: in the current log
---@field tls? segue.ModuleTls of its addresses that begin with https://
---@field generation_header? boolean answers name the generation that made them
---@field limits? segue.Limits of its listeners
---@field buffer? { items: integer?, bytes: integer?, age: segue.Duration? } of its gate
---@field on_failure? "refuse"|"wait" of calls while it has failed; default: refuse
---@field stop? segue.Duration
---@field code? string of the kind lua: its file; default: the module's name and ".lua"
---@field budget? segue.Duration of the kind lua: CPU time between two waits; default: 100 ms
---@field memory? integer|string of the kind lua: of each state; default: 64 MiB
---@field jit? boolean of the kind lua: compile it; what loops cannot be cut then, only told

--- What the code of a module in Lua returns. Each function may wait.
---@class segue.LuaModule
---@field start? fun(config: any) its part of the configuration
---@field handle? segue.Handler
---@field drain? fun() nobody comes in any more
---@field stop? fun()

--- status, headers, body; or status, body. A body is a text, or a list of texts.
---@alias segue.Handler fun(request: segue.Request): integer, (table|string)?, (string|string[])?

--- Good until it is answered.
---@class segue.Request
---@field method string "GET"
---@field path string decoded but for %2F and %25, without dot segments
---@field query string as it came, without "?"
---@field headers table<string, string> by name in small letters; pairs tells all
---@field body string
---@field peer string "127.0.0.1:53412"
---@field generation integer of the configuration that answers it
---@field gone boolean the client left
--- Waits until the client has left: true. nil, message, code: the answer ended before.
---@field wait_gone fun(self: segue.Request): boolean?, string?, string?
--- A parameter of the query, decoded.
---@field parameter fun(self: segue.Request, name: string): string?
--- Begins an answer in pieces.
---@field stream fun(self: segue.Request, status: integer, headers?: table)
--- Waits for a client that is slow. nil, message, code: it left.
---@field write fun(self: segue.Request, text: string): boolean?, string?, string?

--- How a module is emptied: everybody inside may take `within` (10s) to leave. Over: what becomes
--- of who does not. "cut": the module is stopped all the same, and who was inside is counted.
--- "wait": as long again, `again` times (3), with a warning each time, then cut. "undo": the reload
--- is, and the old instance goes on; in a policy only with replace = "restart".
---@class segue.Drain
---@field within? segue.Duration
---@field over? "cut"|"wait"|"undo"
---@field again? integer only with over = "wait"

--- A map or list of the configuration: a table that cannot be changed.
---@alias segue.Config table

---@class segue.Transaction
---@field id integer
---@field cause string who asked, and for what
---@field trigger string
---@field next segue.Config
---@field prev? segue.Config what was live at the start; nil for the first
---@field plan { module: string, action: string, why: string }[]
---@field module table<string, segue.ModuleHandle> modules one by one, before commit
--- Builds everything new beside what runs. Waits.
---@field prepare fun(self: segue.Transaction): boolean?, string?, string?
--- Puts it into service. Waits. Like the others: true, or nil, message, code.
---@field commit fun(self: segue.Transaction): boolean?, string?, string?
--- Asks the probe. Waits.
---@field confirm fun(self: segue.Transaction): boolean?, string?, string?
--- Ends the transaction before its commit: the outcome is `rejected`. `return nil, why` does too.
---@field reject fun(self: segue.Transaction, why: string)
--- Ends the transaction before its commit, for now; it runs again later.
---@field defer fun(self: segue.Transaction, time: segue.Duration, why: string)
--- The paths that changed; with a path: whether anything at, above or below it changed.
---@field changed fun(self: segue.Transaction, path?: string): string[]|boolean

--- A module in a reload hook. Each verb is taken back if the hook does not commit. All return true,
--- or nil, message, code.
---@class segue.ModuleHandle
--- Shuts its gate and waits until everybody inside has left; `within`: default its own. Who is
--- still inside then: without `over`: nil, message, "SEGUE_ETIMEOUT", and the gate stays shut;
--- "cut", and "wait" in the end: true, they are counted and not waited for again; "undo": the
--- reload is undone.
---@field drain fun(self: segue.ModuleHandle, options?: segue.Drain): boolean?, string?, string?
--- Stops the old instance, then starts the next, also where nothing of it has changed. Waits.
---@field restart fun(self: segue.ModuleHandle): boolean?, string?, string?
--- Does what the plan says now, not with the others in txn:commit(). Waits.
---@field replace fun(self: segue.ModuleHandle): boolean?, string?, string?
--- Who arrives waits, until open, commit or the end of the reload.
---@field shut fun(self: segue.ModuleHandle): boolean?, string?, string?
---@field open fun(self: segue.ModuleHandle): boolean?, string?, string?

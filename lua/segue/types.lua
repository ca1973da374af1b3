---@meta
-- SPDX-License-Identifier: MIT
-- Types of policies, for editors that understand LuaCATS annotations. Nothing loads this file.

--- "50ms", "1.5s", "2m", "1h30m", "1d", or a number of seconds.
---@alias segue.Duration string|number

--- The table that reload.lua returns.
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
---@field plugins? string|string[] folders that are searched for plugins first
---@field confirm? segue.Confirm
---@field threads? integer worker threads that serve requests; default: the cores less one
---@field history? segue.History limits of the history
---@field last_good? segue.LastGood limits of the fallback at a start
---@field ready? "serving"|"strict" strict: a stale generation is not ready; default: serving

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
---@field file? string relative to the policy's folder; without it: the current log
---@field format? "combined"|"json"
---@field query? boolean false: lines omit the query

---@class segue.ModuleTls
---@field cert string PEM: the certificate, then the chain to its CA
---@field key string PEM, readable by this user only
---@field client_ca? string PEM: the CA that signs the certificates of clients
---@field client? "required"|"optional"

---@class segue.History
---@field reloads? integer
---@field generations? integer
---@field age? segue.Duration
---@field max_bytes? integer

---@class segue.LastGood
---@field max_age? segue.Duration since the sources delivered it last; default: no limit

---@class segue.Confirm
---@field probe? segue.Probe|fun(): boolean?, string?
---@field by? "probe"|"operator" operator: `segue confirm` confirms
---@field hold? segue.Duration how long the probe must stay good
---@field within? segue.Duration time limit, after which the reload is undone
---@field failures? integer failures of the probe in a row after which the reload is undone at once

---@class segue.Module
---@field kind "c"|"lua"
---@field plugin? string a registered module of the host, or a shared object; default: its name
---@field replace? "swap"|"handover"|"restart"
---@field config? string the path of its part of the configuration
---@field needs? string[] names of modules that start before it
---@field prepare? segue.Duration
---@field start? segue.Duration
---@field drain? segue.Duration|segue.Drain a duration alone: cut after it
---@field listen? string|string[] its listeners: "http://HOST:PORT", "https://HOST:PORT"
---@field access_log? true|string|segue.AccessLog a line for each request; true: in the current log
---@field tls? segue.ModuleTls of its addresses that begin with https://
---@field generation_header? boolean answers name the generation that served them
---@field limits? segue.Limits of its listeners
---@field buffer? { items: integer?, bytes: integer?, age: segue.Duration? } of its gate
---@field on_failure? "refuse"|"wait" of calls while it has failed; default: refuse
---@field stop? segue.Duration
---@field code? string of the kind lua: its file; default: the module's name and ".lua"
---@field budget? segue.Duration of the kind lua: CPU time between two waits; default: 100 ms
---@field memory? integer|string of the kind lua: of each state; default: 64 MiB
---@field jit? boolean of the kind lua: compile it; a loop is then only logged, not stopped

--- The table that the code of a module in Lua returns. Each function may wait.
---@class segue.LuaModule
---@field start? fun(config: any) its part of the configuration
---@field handle? segue.Handler
---@field drain? fun() no further request enters
---@field stop? fun()

--- status, headers, body; or status, body. A body is a text, or a list of texts.
---@alias segue.Handler fun(request: segue.Request): integer, (table|string)?, (string|string[])?

--- Valid until it is answered.
---@class segue.Request
---@field method string "GET"
---@field path string decoded except %2F and %25, without dot segments
---@field query string unchanged, without "?"
---@field headers table<string, string> by lower-case name; pairs lists all
---@field body string
---@field peer string "127.0.0.1:53412"
---@field generation integer of the configuration that serves it
---@field gone boolean the client left
--- Waits until the client has left: true. nil, message, code: the answer ended before.
---@field wait_gone fun(self: segue.Request): boolean?, string?, string?
--- A parameter of the query, decoded.
---@field parameter fun(self: segue.Request, name: string): string?
--- Begins an answer in chunks.
---@field stream fun(self: segue.Request, status: integer, headers?: table)
--- Waits while the client is slow. nil, message, code: the client left.
---@field write fun(self: segue.Request, text: string): boolean?, string?, string?

--- How a module is drained: callers inside must leave within `within` (10s). over is the action if
--- some do not. "cut": the module is stopped although they are inside, and they are counted.
--- "wait": waits as long again, `again` times (3), with a warning each time, then cuts. "undo":
--- undoes the reload, and the old instance continues; in a policy only with replace = "restart".
---@class segue.Drain
---@field within? segue.Duration
---@field over? "cut"|"wait"|"undo"
---@field again? integer only with over = "wait"

--- A map or list of the configuration: a table that cannot be changed.
---@alias segue.Config table

---@class segue.Transaction
---@field id integer
---@field cause string the client or trigger, and its request
---@field trigger string
---@field next segue.Config
---@field prev? segue.Config the configuration that was live at the start; nil for the first
---@field plan { module: string, action: string, why: string }[]
---@field module table<string, segue.ModuleHandle> modules one by one, before commit
--- Builds the next instances beside the live ones. Waits.
---@field prepare fun(self: segue.Transaction): boolean?, string?, string?
--- Puts them into service. Waits. Like the others, returns true, or nil, message, code.
---@field commit fun(self: segue.Transaction): boolean?, string?, string?
--- Runs the probe. Waits.
---@field confirm fun(self: segue.Transaction): boolean?, string?, string?
--- Ends the transaction before its commit: the outcome is `rejected`. `return nil, why` does too.
---@field reject fun(self: segue.Transaction, why: string)
--- Ends the transaction before its commit, for now; it runs again later.
---@field defer fun(self: segue.Transaction, time: segue.Duration, why: string)
--- The paths that changed; with a path: whether anything at, above or below it changed.
---@field changed fun(self: segue.Transaction, path?: string): string[]|boolean

--- A module in a reload hook. Each step is undone if the hook does not commit. All return true, or
--- nil, message, code.
---@class segue.ModuleHandle
--- Shuts its gate and waits until all callers inside have left; `within`: default its own. If some
--- are still inside then: without `over`: nil, message, "SEGUE_ETIMEOUT", and the gate stays shut;
--- "cut", and "wait" in the end: true, they are counted and not waited for again; "undo": the
--- reload is undone.
---@field drain fun(self: segue.ModuleHandle, options?: segue.Drain): boolean?, string?, string?
--- Stops the old instance, then starts the next, even if nothing of it has changed. Waits.
---@field restart fun(self: segue.ModuleHandle): boolean?, string?, string?
--- Does the planned action now, instead of with the others in txn:commit(). Waits.
---@field replace fun(self: segue.ModuleHandle): boolean?, string?, string?
--- Shuts its gate: arrivals wait until open, commit or the end of the reload.
---@field shut fun(self: segue.ModuleHandle): boolean?, string?, string?
---@field open fun(self: segue.ModuleHandle): boolean?, string?, string?

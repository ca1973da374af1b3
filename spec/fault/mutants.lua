-- SPDX-License-Identifier: MIT
-- Are the specs worth anything? Each mutant takes one safeguard out of the code; the specs named
-- with it must turn red. Most are of the library, and the specs call it; what is seen from outside
-- only is taken out of the daemon, which a few specs of a file start. `make mutants` runs this; it
-- works on a copy and leaves the tree alone. MUTANT=pattern: only those whose name or file has it.
local build = assert(os.getenv("SEGUE_SPEC_BUILD"), "run this by `make mutants`")

local UNIT = { queue = "spec/unit/queue_spec.lua", txn = "spec/unit/txn_spec.lua",
               file = "spec/unit/os_file_spec.lua", watch = "spec/unit/watch_spec.lua",
               http = "spec/unit/http_parse_spec.lua", ends = "spec/unit/http_end_spec.lua",
               feed = "spec/unit/feed_spec.lua",
               guard = "spec/unit/guard_spec.lua", tls = "spec/unit/http_tls_spec.lua",
               door = "spec/unit/door_parts_spec.lua", mask = "spec/unit/mask_spec.lua",
               record = "spec/unit/record_spec.lua", history = "spec/unit/history_spec.lua",
               drain = "spec/unit/drain_spec.lua", byhand = "spec/unit/byhand_spec.lua",
               life = "spec/unit/life_spec.lua",
               gate = "spec/unit/gate_spec.lua", call = "spec/unit/call_spec.lua",
               limits = "spec/unit/http_limits_spec.lua",
               ingress = "spec/unit/ingress_spec.lua" }

-- Specs of a file that start the daemon: those with this in their name.
local function daemon(path, filter) return { path = path, filter = filter } end

local DAEMON = {
  disk = daemon("spec/fault/disk_spec.lua", "while the disk hangs"),
  pin = daemon("spec/daemon/rollback_spec.lua", "a rollback stays until what the sources say"),
  freeze = daemon("spec/daemon/freeze_spec.lua", "a freeze refuses who asks"),
  garbage = daemon("spec/daemon/lua_module_spec.lua", "is not what garbage leads to"),
  cut = daemon("spec/daemon/lua_module_spec.lua", "not as a whole where a stream fails"),
  unread = daemon("spec/daemon/lua_module_spec.lua", "stops waiting for a client that leaves"),
  ended = daemon("spec/daemon/lua_module_spec.lua", "still writes when the answer has ended"),
  numbered = daemon("spec/daemon/numbered_spec.lua", "are each answered once"),
  returns = daemon("spec/plugin/plugin_spec.lua", "is still in its code"),
  kept = daemon("spec/plugin/plugin_spec.lua", "keeps for good"),
  byhand = daemon("spec/plugin/byhand_spec.lua", "says what is wrong with local m") }

-- The same, with a plugin that is another one.
local LOG, STATS = "spec/plugin/log_spec.lua", "spec/plugin/stats_spec.lua"
local PLUGIN = {
  written = daemon("spec/plugin/services_spec.lua", "lose, double, tear and misplace nothing"),
  reopened = daemon(LOG, "opens its file anew"), kept = daemon(LOG, "keeps as many old files"),
  lost = daemon(LOG, "where a disk is full"), series = daemon(STATS, "refuse more series"),
  kinds = daemon(STATS, "a name that means two kinds"),
  values = daemon(STATS, "keep their values when") }

-- { what is taken out, file, code to replace (found exactly once), replacement, spec }
local mutants = {
  { "publishing the previous snapshot when undone", "core/reload/commit.c",
    "segue__publish(engine->options.publication, txn->was_live);", ";", UNIT.txn },
  { "pointing the gates back", "core/reload/commit.c",
    "segue__gate_unflip(step->module->gate);", ";", UNIT.txn },
  { "stopping what was started", "core/reload/commit.c",
    "waits = undo_started(txn, undo->step);", ";", UNIT.txn },
  { "the fresh instance after an undone restart", "core/reload/commit.c",
    "waits = undo_stopped(txn, undo->step);", ";", UNIT.txn },
  { "tearing down what was built", "core/reload/commit.c",
    "segue__instance_release(undo->step->next);", ";", UNIT.txn },
  { "discarding staged triggers", "core/reload/commit.c",
    "txn->engine->options.triggers.discard(txn->engine->options.triggers.data);", ";", UNIT.txn },
  { "the limits that a gate had before", "core/reload/commit.c",
    "limit(step, segue__policy_module(engine->policy, step->module->name));", ";", UNIT.gate },
  { "shutting the gate before a restart", "core/reload/commit.c",
    "segue__gate_shut(step->module->gate);\n  segue__undo_push(", "segue__undo_push(", UNIT.txn },
  { "reserving what undo needs", "core/reload/commit.c",
    "rc = segue__publication_reserve(engine->options.publication, 2);", "rc = 0;", UNIT.txn },
  { "the waiter rule: a run that begins after the request", "core/reload/engine.c",
    "segue__run **slot = request->plan_only ? &engine->pending_plan : &engine->pending;",
    "segue__run **slot = request->plan_only ? &engine->pending_plan : engine->txn ? "
    .. "&engine->txn->run : &engine->pending;", UNIT.queue },
  { "deferring by the rate limit", "core/reload/engine.c",
    "at = engine->last_start_ms + interval;", ";", UNIT.queue },
  { "If-Match", "core/reload/engine.c",
    "if (waiter->if_match && !matches(engine, waiter->if_match))",
    "if (waiter->if_match && !waiter->cb)", UNIT.queue },
  { "retrying what failed", "core/reload/engine.c",
    "if (last && last->outcome == SEGUE__FAILED)", "if (!last)", UNIT.queue },
  { "skipping what was refused", "core/reload/txn.c",
    "bool skip = automatic && engine->refused", "bool skip = 0 && engine->refused", UNIT.queue },
  { "believing a module that refuses its configuration", "core/reload/txn.c",
    "if (code == SEGUE_ECONFIG) return SEGUE__REJECTED;", "", UNIT.txn },
  { "believing a veto", "core/reload/txn.c",
    "segue__txn_fail(txn, error);\n    add_findings(txn);", "add_findings(txn);", UNIT.txn },
  { "undoing a hook that returned without commit", "core/reload/txn.c",
    "segue__txn_fail(txn, &lazy);", ";", UNIT.txn },
  { "reverting what was not confirmed", "core/reload/confirm.c",
    "txn->healthy = status == 0;", "txn->healthy = true;", UNIT.txn },
  { "looking until the time to confirm is over", "core/reload/confirm.c",
    "return left > PROBE_LAST_MS ? left - PROBE_LAST_MS : left;", "return pause;", UNIT.txn },
  { "the time limit of collect", "core/reload/txn.c",
    "segue__timer_start(txn->engine->loop, &txn->timer, txn->policy->collect_ms, collect_timeout);",
    ";", UNIT.txn },
  { "refusing only some connections at a time", "core/http/conn.c",
    "&& server->refused >= refusals_max(server);", "&& server->closing;", UNIT.limits },
  { "answering who comes past the number of connections", "core/http/conn.c",
    "if (r == 0 && conn->refused) refuse(conn);",
    "if (r == 0 && conn->refused) segue__http_conn_lost(conn);", UNIT.limits },
  { "waiting for an operation before destroying", "core/module/module.c",
    "if (segue__op_outstanding(&instance->op[verb])) return;", ";", UNIT.txn },
  { "the fsync of a written file", "core/os/file_write.c",
    "if (!rc && fsync(fd)) rc = -errno;", ";", UNIT.file },
  { "the fsync of its folder", "core/os/file_write.c",
    "return fsync(t->folder) && errno", "return 0 && errno", UNIT.file },
  { "holding what a source delivered while it is away", "core/reload/collect.c",
    "if (state->feed.has) {", "if (state->feed.has && !state->consecutive_failures) {", UNIT.feed },
  { "never watching twice", "core/reload/feed.c",
    "state->push && !feed->watch;", "state->push;", UNIT.feed },
  { "fetching once a watch stands", "core/reload/feed.c",
    "pull_soon(engine, state, 0); /* what changed before it began to watch */", ";", UNIT.feed },
  { "back-off by chance", "core/reload/feed.c",
    "return 1 + segue__engine_random(engine) % cap;", "return (void)engine, cap;", UNIT.feed },
  { "back-off that doubles", "core/reload/feed.c",
    "while (attempt-- && cap < most)\n    cap *= 2;", "if (attempt) cap = most;", UNIT.feed },
  { "trying a failed watch again", "core/reload/feed.c",
    "(void)segue__timer_start(engine->loop, &feed->watch_timer, ms, watch_due);", ";", UNIT.feed },
  { "keeping a trial's deliveries apart", "core/reload/sources.c",
    "return engine->policy && policy != engine->policy ? policy : NULL;", "return NULL;",
    UNIT.feed },
  { "holding what shrank", "core/reload/guard.c",
    "if (part <= guard->max_shrink) return;", "return;", UNIT.guard },
  { "an acceptance that stays with its waiter", "core/reload/engine.c",
    "if (!waiter) (*slot)->accept_shrink |= request->accept_shrink;",
    "(*slot)->accept_shrink |= request->accept_shrink;", UNIT.guard },
  { "the fdatasync of a slot", "core/reload/slots.c",
    "if (!rc && fdatasync(fd)) rc = -errno;", ";", UNIT.record },
  { "the second slot", "core/reload/slots.c",
    "slots->last = 1 - slots->last;", ";", UNIT.record },
  { "the checksum of a slot", "core/reload/slots.c",
    "return sum.lo == segue__get_number(file->data + len, 8) &&", "return sum.lo ||", UNIT.record },
  { "taking back a write that failed", "core/reload/slots.c",
    "if (rc && fd >= 0) take_back(fd);", ";", UNIT.record },
  { "numbers of reloads that go on without the history", "core/reload/record.c",
    "found->reload = good->reload + RELOAD_GAP;", ";", UNIT.record },
  { "the number of a reload that died while it waited to be confirmed", "core/reload/record.c",
    "record->found.reload = d->unconfirmed_reload;", ";", UNIT.record },
  { "telling of that reload", "core/reload/record.c",
    "if (!rc && record->history) rc = segue__history_add(record->history, &entry);", ";",
    UNIT.record },
  { "the bound of refusals", "core/reload/audit.c",
    '"DELETE FROM audit WHERE refused AND id <= ',
    '"DELETE FROM audit WHERE 0 AND refused AND id <= ', UNIT.history },
  { "refusals that take no place of others", "core/reload/audit.c",
    'DELETE FROM audit WHERE NOT refused AND id <= (SELECT id FROM audit WHERE NOT refused ',
    'DELETE FROM audit WHERE id <= (SELECT id FROM audit ', UNIT.history },
  { "the rows of what is above a changed value", "core/reload/history.c",
    "rc = add_change(h, path, len, generation, path);", ";", UNIT.history },
  { "keeping the newest generation", "core/reload/history.c",
    "if (generation >= newest) generation = newest - 1;", ";", UNIT.history },
  { "counting one done only", "core/module/op.c",
    "__atomic_add_fetch(&op->extra, 1, __ATOMIC_RELAXED);\n    return;",
    "__atomic_add_fetch(&op->extra, 1, __ATOMIC_RELAXED);", UNIT.txn },
  { "comparing tokens to their end", "core/admin/tokens.c",
    "for (size_t i = 0; i < SEGUE__TOKEN_MAX; i++)",
    "for (size_t i = 0; i < SEGUE__TOKEN_MIN; i++)", UNIT.door },
  { "the limit of a client", "core/admin/limiter.c", "if (level >= 1) {", "if (level >= 0) {",
    UNIT.door },
  { "a moment for who may be asking again when a server closes", "core/http/server.c",
    "conn->requests && now - conn->since_ms >= SEGUE__HTTP_SILENT_MS;", "true;", UNIT.ends },
  { "not waiting for who has been silent", "core/http/server.c",
    "conn->requests && now - conn->since_ms >= SEGUE__HTTP_SILENT_MS;", "false;", UNIT.ends },
  { "answering what was sent behind a request when a server closes", "core/http/respond.c",
    "(server->closing && !asks_more(conn))", "server->closing", UNIT.ends },
  { "a last call for who sends on and on", "core/http/respond.c",
    "return uv_now(conn->server->loop) < conn->server->last_call_ms &&", "return", UNIT.ends },
  { "telling who has sent half a request", "core/http/respond.c",
    "if (begun)", "if (0)", UNIT.ends },
  { "looking for a request where idle time ends", "core/http/conn.c",
    "if (segue__http_conn_pending(conn)) {", "if (0) {", UNIT.ends },
  { "dropping who would connect to a socket that closes", "core/http/listener.c",
    "if (deaf)", "if (0)", UNIT.ends },
  { "asking clients for a certificate", "core/http/tls.c",
    "(options->client_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT)", "0", UNIT.tls },
  { "the time limit of a handshake", "core/http/conn.c",
    "} else if (conn->queue != SEGUE__HTTP_HEAD) {", "} else if (0) {", UNIT.tls },
  { "a drain that waits for who is inside", "core/module/module.c",
    "if (verb == SEGUE__DRAIN && status == 0 && instance->pins && !instance->cut)", "if (0)",
    UNIT.gate },
  { "waiting longer for a drain", "core/module/module.c", "return all;", "return within;",
    UNIT.drain },
  { "the warnings of a drain that waits", "core/module/module.c", "if (--instance->laps)", "if (0)",
    UNIT.drain },
  { "counting who is cut", "core/reload/retire.c", "module->inside_cut += inside;", ";",
    UNIT.drain },
  { "waiting for the oldest of three", "core/reload/retire.c",
    "segue__instance_limits(module->old[0], &stop_ms)->over == SEGUE__OVER_WAIT;", "0 && stop_ms;",
    UNIT.drain },
  { "cutting the oldest of three", "core/reload/retire.c",
    "segue__instance_cancel(module->old[0], SEGUE__DRAIN);", ";", UNIT.drain },
  { "emptying before the old one hears of a restart that may be undone", "core/reload/commit.c",
    "if (step->spec->drain.over != SEGUE__OVER_UNDO) {", "if (1) {", UNIT.drain },
  { "undoing where the module's own drain runs over", "core/reload/commit.c",
    "if (status < 0 && step->spec->drain.over == SEGUE__OVER_UNDO) segue__txn_fail(txn, error);",
    ";", UNIT.drain },
  { "not waiting twice for who was cut by hand", "core/reload/byhand.c",
    "segue__instance_cut(step->old);", ";", UNIT.drain },
  { "undoing by a drain by hand", "core/reload/byhand.c", "segue__txn_fail(step->txn, &error);",
    ";", UNIT.drain },
  { "verbs before the commit only", "core/reload/byhand.c", "if (txn->flipped)", "if (0)",
    DAEMON.byhand },
  { "one verb of a module at a time", "core/reload/byhand.c",
    "return step->busy ? say(error, name, \"is still at another verb\") : 0;", "return 0;",
    UNIT.byhand },
  { "replacing a module once", "core/reload/byhand.c",
    "if (!rc && step->acted) rc = say(error, name, \"was replaced already\");", ";", UNIT.byhand },
  { "building before a restart by hand", "core/reload/byhand.c",
    "if (!rc && !txn->prepared) rc = say(", "if (0) rc = say(", UNIT.byhand },
  { "letting go of a verb when the hook is over", "core/reload/byhand.c",
    "segue__commit_hurry(txn);", ";", UNIT.byhand },
  { "a plan by the hash of a slice", "core/reload/plan.c",
    "if (!segue__hash_equal(slice_hash(engine->live, was->config),\n"
    .. "slice_hash(txn->next, spec->config)))", "if (1)", UNIT.life },
  { "modules in the order of needs", "core/reload/plan.c",
    "place(modules, count, j, mark, order, placed, at) < 0)", "0)", UNIT.life },
  { "stopping in the reverse order", "core/reload/retire.c",
    "for (size_t i = engine->module_count; i-- > 0 && !engine->retirees;) {",
    "for (size_t i = 0; i < engine->module_count && !engine->retirees; i++) {", UNIT.life },
  { "an instance that stays while its operation is outstanding", "core/module/module.c",
    "if (segue__op_outstanding(&instance->op[verb])) return;", ";", UNIT.life },
  { "giving up what is built when the daemon stops", "core/reload/txn.c",
    "segue__commit_give_up(txn);", ";", UNIT.life },
  { "writing everything before a log goes", "plugins/log/writer.c",
    "if (write_batch(writer)) continue;",
    "if (!is_over(writer) && !atomic_load(&writer->drain) && write_batch(writer)) continue;\n"
    .. "if (atomic_load(&writer->drain)) break;", PLUGIN.written },
  { "telling how many lines were lost", "plugins/log/writer.c",
    "if (dropped == writer->told_dropped) return dropped;", "return dropped;", PLUGIN.lost },
  { "opening a log anew", "plugins/log/writer.c",
    "if (atomic_exchange(&writer->reopen, false)) log_file_reopen(writer);", "", PLUGIN.reopened },
  { "the number of old files", "plugins/log/file.c", "for (unsigned i = keep; i > 1; i--) {",
    "for (unsigned i = keep + 2; i > 1; i--) {", PLUGIN.kept },
  { "figures that outlive a swap", "plugins/stats/module.c",
    "if (table->layout != STATS_LAYOUT) return;", "if (table) return;", PLUGIN.values },
  { "the limit of series", "plugins/stats/table.c",
    "if (atomic_fetch_add(&table->count, 1) >= max_series) {",
    "if (atomic_fetch_add(&table->count, 1) && 0) {", PLUGIN.series },
  { "one kind of figure by one name", "plugins/stats/table.c",
    "return family->figure == figure ? 0 : SEGUE_EUSAGE;", "return 0;", PLUGIN.kinds },
  { "an instance that stays for who is inside", "core/module/module.c",
    "if (!instance->released || instance->pins) return;", "if (!instance->released) return;",
    UNIT.gate },
  { "looking again whether a gate is still open", "core/module/pass.c",
    "if (__builtin_expect(open_now(gate) == tenure, 1)) {", "{", UNIT.gate },
  { "the order of one key", "core/module/buffer.c",
    "return count && __atomic_load_n(count, __ATOMIC_ACQUIRE);", "return 0 && count;", UNIT.gate },
  { "the limit of a gate's buffer", "core/module/buffer.c",
    "if (gate->waiting >= limits->items ||", "if (", UNIT.gate },
  { "waking whoever waits for the last one inside", "core/module/pass.c",
    "if (__builtin_expect(open_now(gate) != tenure, 0)) segue__gate_wake(gate);", "(void)tenure;",
    UNIT.gate },
  { "staying inside until the handler returns", "core/ingress/request.c",
    "lane->handled = request;", ";", DAEMON.returns },
  { "the descriptor of a plugin that is never unloaded", "core/module/plugin.c",
    "&& !(plugin->handle && stays(plugin))", "", DAEMON.kept },
  { "a reset where the end of a connection would make a body whole", "core/http/conn.c",
    "if (is_cut(conn))", "if (is_cut(conn) && 0)", UNIT.limits },
  { "telling a stream that failed from a whole one", "core/ingress/request.c",
    "if (request->cut)\n", "if (0)\n", DAEMON.cut },
  { "a stream in Lua: telling who waits that the client left", "core/ingress/request.c",
    "if (!tell_awaiting(request) && request->ready) flow(request);",
    "if (request->ready) flow(request);", DAEMON.unread },
  { "collecting garbage before it hits a limit", "core/bind/state.c",
    "  make_room(lua);\n", "", DAEMON.garbage },
  { "a stream in Lua: telling who still writes that the answer has ended", "core/bind/exchange.c",
    "  end_waiting(exchange);\n", "  exchange->waiting = NULL;\n", DAEMON.ended },
  { "keeping what callers of a generation may still call", "core/module/gate.c",
    "if (g != gate && may_call(g, gate->name, tenure->snapshot)) return true;",
    "(void)may_call(g, gate->name, tenure->snapshot);", UNIT.gate },
  { "looking for the generation of the caller", "core/module/pass.c",
    "if (!step_in_by(gate, from->snapshot, &by)) return inside;",
    "if (inside || !step_in_by(gate, from->snapshot, &by)) return inside;", UNIT.gate },
  { "the generation of a caller who had to wait", "core/module/buffer.c",
    "segue__gate_try_from(gate, request->from, &request->pass);",
    "segue__gate_try_from(gate, NULL, &request->pass);", UNIT.call },
  { "letting no caller in to what is stopped", "core/module/module.c",
    "if (verb == SEGUE__STOP && instance->gate) segue__gate_forsake(instance->gate, instance);",
    ";", UNIT.call },
  { "keeping the instance of a flip that may come back", "core/module/gate.c",
    "gate->kept = gate->open;\n  segue__tenure *next", "segue__tenure *next", UNIT.gate },
  { "closing the listeners of a reload that is undone", "core/ingress/ingress.c",
    "if (settled ? port->wanted : port->live) {", "if (1) {", UNIT.ingress },
  { "an address that leads to one module", "core/ingress/check.c",
    "if (other)\n", "if (0)\n", UNIT.ingress },
  { "binding while staging", "core/ingress/ingress.c",
    "rc = stage_url(ingress, spec, listen->urls[i], log, err);",
    "(void)stage_url(ingress, spec, listen->urls[i], log, err);", UNIT.ingress },
  { "leaving connections alone when a reload is settled", "core/ingress/ingress.c",
    "if (settled ? port->wanted : port->live) {", "if (settled ? 0 : port->live) {",
    DAEMON.numbered },
  { "leading new arrivals to the next instance", "core/module/gate.c",
    "set_open(gate, next, SEGUE__GATE_REFUSING, SEGUE_EMODULE);",
    "set_open(gate, gate->open && next ? gate->open : next, SEGUE__GATE_REFUSING, SEGUE_EMODULE);",
    DAEMON.numbered },
  { "keeping who arrives at a shut gate", "core/module/buffer.c",
    "if (gate->waiting >= limits->items ||", "if (gate->waiting < limits->items ||",
    DAEMON.numbered },
  { "a request that was posted again while it was looked at", "core/ingress/request.c",
    "request->ending && !request->posted &&", "request->ending &&", DAEMON.numbered },
  { "hiding what is secret", "core/config/json_write.c", "if (seen == SEGUE__SEEN_SECRET)",
    "if (0)", UNIT.mask },
  { "waiting until what is told as applied is on the disk", "core/reload/txn.c",
    "segue__txn_record(txn, segue__record_good(record, &good, &txn->call), keep);",
    "(void)segue__record_good(record, &good, NULL);\n    keep(txn, NULL);", DAEMON.disk },
  { "the pin of a rollback", "core/reload/hold.c",
    "d->pinned = !segue__hash_equal(engine->last_raw, unknown) &&\n"
    .. "!segue__hash_equal(engine->last_raw, txn->raw);", "d->pinned = false;", DAEMON.pin },
  { "holding back what a rollback left", "core/reload/hold.c",
    "if (d->pinned && segue__hash_equal(d->pinned_raw, txn->raw)) {", "if (0) {", DAEMON.pin },
  { "the freeze of what is triggered", "core/reload/engine.c",
    "if (engine->durable.frozen && !start_of_daemon(engine)) {", "if (0) {", DAEMON.freeze },
  { "the freeze of who asks", "core/reload/hold.c",
    "return engine->durable.frozen && asks && !request->plan_only ? SEGUE_EFROZEN : 0;",
    "return 0 && asks;", DAEMON.freeze },
  { "the freeze of a rollback", "core/reload/hold.c",
    "if (engine->durable.frozen && !takes_back(engine, generation)) return SEGUE_EFROZEN;", ";",
    DAEMON.freeze },
}

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function squeeze(text)
  return (text:gsub("%s+", " "))
end

-- White space between the words of the pattern may differ: the layout is clang-format's.
local function replace(text, from, to, path)
  local pattern = squeeze(from):gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0"):gsub(" ", "%%s+")
  local first, last = text:find(pattern)
  assert(first, path .. ": this code is no longer there, mend the list of mutants: " .. from)
  assert(not text:find(pattern, last + 1), path .. ": this code is there twice: " .. from)
  return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

local function run(command)
  return os.execute(command) == 0
end

local function name_of(spec)
  return type(spec) == "string" and spec or ("%s, %q"):format(spec.path, spec.filter)
end

local of_plugin = {}
for _, spec in pairs(PLUGIN) do of_plugin[spec] = true end

local function green(folder, spec, log)
  local filter = type(spec) == "table" and ("--filter='%s'"):format(spec.filter) or ""
  local own = of_plugin[spec] and "SEGUE_BUILD=" .. folder or ""
  return run(("%s SEGUE_SPEC_BUILD=%s timeout -k 1 60 luajit /usr/bin/busted "
    .. "--helper=spec/support/helper.lua --pattern=_spec -o spec.support.output %s %s > %s "
    .. "2>&1"):format(own, folder, filter, spec.path or spec, log))
end

local dir = build .. "/mutant"

-- The folder of a build with `text` in place of a file: of a plugin or of the daemon, beside the
-- library as it is for what the specs themselves need of it, or of the library.
local function build_mutant(what, path, text, spec)
  local of_daemon, target = type(spec) == "table", "mutant-built"
  if of_plugin[spec] then target = "mutant-plugin" end
  assert(run(("rm -rf %s && mkdir -p %s && cp %s/cdef.h %s/"):format(dir, dir, build, dir)))
  if of_daemon then
    assert(run(("cp -R %s/libsegue-spec.so %s/../plugins %s/"):format(build, build, dir)))
  end
  local file = assert(io.open(dir .. "/mutant.c", "w"))
  file:write(text)
  file:close()
  local ok = run(("make --no-print-directory %s FILE=%s SOURCE=%s/mutant.c DIR=%s "
    .. "DAEMON=%s > %s/make.log 2>&1"):format(target, path, dir, dir, of_daemon and 1 or "", dir))
  assert(ok, what .. ": the mutant does not compile:\n" .. read(dir .. "/make.log"))
end

-- What the list says of the code is judged at once, not after half of it has run.
for _, mutant in ipairs(mutants) do replace(read(mutant[2]), mutant[3], mutant[4], mutant[2]) end

-- A spec that is red anyway, or in any build of this kind, notices everything.
local wanted = os.getenv "MUTANT" or ""
local function is_wanted(mutant) return (mutant[1] .. " " .. mutant[2]):find(wanted) end
local used = {}
for _, mutant in ipairs(mutants) do used[mutant[5]] = used[mutant[5]] or is_wanted(mutant) end
for _, list in ipairs { UNIT, DAEMON, PLUGIN } do
  local path = list == PLUGIN and "plugins/log/queue.c" or "core/reload/hold.c"
  build_mutant("nothing taken out", path, read(path), select(2, next(list)))
  for _, spec in pairs(list) do
    if used[spec] then
      assert(green(dir, spec, dir .. "/spec.log"), name_of(spec) .. " fails without any mutant")
    end
  end
end

local passed, failed = 0, 0
for _, mutant in ipairs(mutants) do
  local what, path, from, to, spec = unpack(mutant)
  if is_wanted(mutant) then
    build_mutant(what, path, replace(read(path), from, to, path), spec)
    local missed = green(dir, spec, dir .. "/spec.log")
    if missed then failed = failed + 1 else passed = passed + 1 end
    print((missed and "NOT NOTICED  " or "noticed      ") .. what .. " (" .. name_of(spec) .. ")")
  end
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1)

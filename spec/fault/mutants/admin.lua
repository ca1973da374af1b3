-- SPDX-License-Identifier: MIT
-- Mutants of core/admin. See ../mutants.lua for the fields of a row.
local specs = require "spec.fault.mutants.specs"
local UNIT, DAEMON = specs.unit, specs.in_daemon

return {
  { "cleaning the page of metrics", "core/admin/prometheus.c",
    "clean_page(admin->engine, &body);", "", DAEMON.labels },
  { "cleaning the names of documents", "core/admin/history_query.c",
    'segue__render_clean(out, engine, "file", file);', 'segue__render_member(out, "file", file);',
    DAEMON.doc_names },
  { "comparing tokens to their end", "core/admin/tokens.c",
    "for (size_t i = 0; i < SEGUE__TOKEN_MAX; i++)",
    "for (size_t i = 0; i < SEGUE__TOKEN_MIN; i++)", UNIT.auth },
  { "the limit of a client", "core/admin/limiter.c", "if (level >= 1) {", "if (level >= 0) {",
    UNIT.auth },
  { "an allowance of health probes alone", "core/admin/authorize.c",
    "auth->salt + (uint64_t)probe * PROBE_SALT", "auth->salt", DAEMON.probes },
  { "the kind of a client's name", "core/admin/auth.c",
    "if (!(client->kinds & 1u << name->kind)) return false;", ";", DAEMON.clients },
  { "a '*' that is one label", "core/admin/auth.c",
    "while (isalnum((unsigned char)s[n]) || s[n] == '-' || s[n] == '_')",
    "while (s[n] && s[n] != '.')", DAEMON.clients },
  { "hiding secrets in a change that is open", "core/admin/status.c",
    "if (does) segue__engine_scrub_text(engine, does);", ";", DAEMON.journal },
  { "a removal that segue why may claim", "core/admin/history_query.c",
    "size_t min_len = missing_from(segue_snapshot_root(live), q->path);", "size_t min_len = 0;",
    DAEMON.why },
  { "the reason of the first freeze", "core/admin/freeze.c",
    "if (frozen && hold.frozen) {", "if (0) {", DAEMON.refreeze },
  { "secrets in the message of a failed apply", "core/admin/files.c",
    'segue__render_clean(out, engine, "message", rows->apply_failed);',
    'segue__render_member(out, "message", rows->apply_failed);', DAEMON.files_listed },
}

-- SPDX-License-Identifier: MIT
-- Mutants of plugins. See ../mutants.lua for the fields of a row.
local specs = require "spec.fault.mutants.specs"
local PLUGIN, daemon = specs.plugin, specs.daemon

return {
  { "writing everything before a log goes", "plugins/log/writer.c",
    "if (write_batch(writer)) return SEGUE__LINES_TAKEN;",
    "segue_op *op = atomic_load(&writer->drain);\n"
    .. "if (op) { segue_op_done(op, 0, NULL); return SEGUE__LINES_END; }\n"
    .. "if (write_batch(writer)) return SEGUE__LINES_TAKEN;", PLUGIN.written },
  { "reporting the lines of a drain that was cut", "plugins/log/writer.c",
    "if (rc) atomic_fetch_add(&counts->unreported, lost + (unreported ? writer->batch_lost : 0));",
    "", PLUGIN.lost },
  { "leaving that report to the next instance", "plugins/log/writer.c", "&& !is_abandoned(writer)",
    "", PLUGIN.lost },
  { "counting a line without room", "plugins/log/module.c",
    "segue__line_queue_lost(&writer->lines);", "", PLUGIN.in_place },
  { "leaving a log that was deleted", "plugins/log/file.c",
    "if (segue__line_file_is_deleted(&writer->file)) return true;", "", PLUGIN.deleted },
  { "opening a log again", "plugins/log/writer.c",
    "if (atomic_exchange(&writer->reopen, false)) log_file_reopen(writer);", "", PLUGIN.reopened },
  { "the number of old files", "plugins/log/file.c", "for (unsigned i = keep; i > 1; i--) {",
    "for (unsigned i = keep + 2; i > 1; i--) {", PLUGIN.kept },
  { "metrics that outlive a swap", "plugins/stats/module.c",
    "if (table->layout != STATS_LAYOUT) return;", "if (table) return;", PLUGIN.values },
  { "the limit of series", "plugins/stats/table.c",
    "if (atomic_fetch_add(&table->count, 1) >= max_series) {",
    "if (atomic_fetch_add(&table->count, 1) && 0) {", PLUGIN.series },
  { "one kind of metric by one name", "plugins/stats/table.c",
    "return family->metric == metric ? 0 : SEGUE_EUSAGE;", "return 0;", PLUGIN.kinds },
  { "the next page of a range", "plugins/etcd/init.lua",
    "if not read.more or read.count == 0 then", "if true then", daemon("spec/plugin/etcd_spec.lua",
    "many keys in pages") },
  { "a store without keys", "plugins/etcd/init.lua",
    "source.guard = source.guard or { min_items = 1 }", "", daemon("spec/plugin/etcd_spec.lua",
    "empties nothing when") },
  { "the right that a user lacks", "plugins/etcd/client.lua",
    "if grpc == permission_denied then", "if grpc == -1 then", daemon("spec/plugin/etcd_spec.lua",
    "logs in, again") },
}

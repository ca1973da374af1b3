-- SPDX-License-Identifier: MIT
-- Mutants of plugins. See ../mutants.lua for the fields of a row.
local specs = require "spec.fault.mutants.specs"
local PLUGIN = specs.plugin

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
}

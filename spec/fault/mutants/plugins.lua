-- SPDX-License-Identifier: MIT
-- Mutants of plugins. See ../mutants.lua for the fields of a row.
local specs = require "spec.fault.mutants.specs"
local PLUGIN = specs.plugin

return {
  { "writing everything before a log goes", "plugins/log/writer.c",
    "if (write_batch(writer)) {",
    "if (atomic_load(&writer->drain)) break;\n    if (write_batch(writer)) {", PLUGIN.written },
  { "reporting how many lines were lost", "plugins/log/writer.c",
    "if (dropped == writer->told_dropped) return dropped;", "return dropped;", PLUGIN.lost },
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

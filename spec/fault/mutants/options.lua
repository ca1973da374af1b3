-- SPDX-License-Identifier: MIT
-- Mutants of core/options. See ../mutants.lua for the fields of a row.
local specs = require "spec.fault.mutants.specs"
local UNIT, DAEMON = specs.unit, specs.in_daemon

return {
  { "keys that are not known", "core/options/options.c",
    "    unknown_key(j, tables, m);\n", "    (void)unknown_key;\n", UNIT.options },
  { "options that are missing", "core/options/options.c",
    "if (!node && w->node && row->flags & SEGUE_OPTION_REQUIRED)", "if (0)", UNIT.options },
  { "the range of an option", "core/options/scalar.c",
    "if (value >= min && value <= max) return true;",
    "if (value >= min || value <= max) return true;", UNIT.options },
  { "no check of a table whose rows are wrong", "core/options/options.c",
    "if (node && j->count == errors) run_checks(", "if (node) run_checks(", UNIT.options },
  { "no rows of a kind whose struct was not allocated", "core/options/options.c",
    "kind->table && (kind->options || !kind->table->struct_size);", "kind->table;", UNIT.options },
  { "no struct that is half filled", "core/options/options.c",
    "if (j.rc) segue__options_clear(table, out);", ";", UNIT.options },
  { "secret values in messages", "core/options/fill.c",
    "j->env->hide || (row && row->flags & SEGUE_OPTION_SECRET)", "j->env->hide", UNIT.options },
  { "whole numbers", "core/options/scalar.c",
    "if (!node_number(node, &value) || (whole && value != floor(value)))",
    "if (!node_number(node, &value))", UNIT.options },
  { "kinds in the JSON Schema", "core/options/describe.c",
    "if (topic->name && !strcmp(topic->family, table->name) && !index--) return topic;",
    "if (topic->name && !strcmp(topic->family, table->name) && index-- == 1) return topic;",
    UNIT.rows },
  { "plain data for plugins", "core/options/values.c",
    "  if (node->flags & SEGUE__NODE_OPAQUE)\n    segue__fill_wrong(",
    "  if (0)\n    segue__fill_wrong(", DAEMON.plain },
  { "options inside the struct", "core/options/values.c",
    "if (stored && (row->offset > struct_size || bytes > struct_size - row->offset))", "if (0)",
    DAEMON.outside },
  { "rows of the size of segue.h", "core/options/values.c",
    "table->row_size < sizeof *table->rows ||", "", DAEMON.older_rows },
  { "names of headers that no request can have", "core/options/http_rows.c",
    "if (!is_token(headers[i].key))", "if (!*headers[i].key)", DAEMON.http_rows },
}

/* SPDX-License-Identifier: MIT
 *
 * The metrics as a module of segue: its configuration, life cycle and interface.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"

enum { PREFIX_MAX = 64, SERIES_MAX = 1000000 };
#define PREFIX_RULE                                                                                \
  "must be a text of letters, digits, _ and :, such as app_, that does not begin like the "        \
  "metrics "                                                                                       \
  "of segue"

typedef struct stats {
  stats_table *table;
  stats_bounds *bounds;
  uint64_t max_series;
  char prefix[PREFIX_MAX + 1];
  const segue_node *help; /* borrowed from the slice */
} stats;

static const double default_bounds[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

static int module_wrong(segue_error *error, const segue_slice *slice, const segue_node *node,
                        const char *key, const char *what) {
  return segue_error_at(error, SEGUE_ECONFIG, slice->snapshot, node, "%s %s", key, what);
}

static bool is_prefix(const char *text, size_t len) {
  if (len > PREFIX_MAX || strlen(text) != len || !strncmp(text, "segue", 5) ||
      !strncmp(text, "process", 7))
    return false;
  return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:") == len &&
         !(*text >= '0' && *text <= '9');
}

/* ---- Options of the policy ---- */

typedef struct module_options {
  char *prefix;
  uint64_t max_series;
} module_options;

static const segue_option option_rows[] = {
    {.name = "prefix",
     .type = SEGUE_OPTION_TEXT,
     .offset = offsetof(module_options, prefix),
     .absent = "none",
     .doc = "text before every name, where the configuration has no prefix"},
    {.name = "max_series",
     .type = SEGUE_OPTION_COUNT,
     .offset = offsetof(module_options, max_series),
     .max = SERIES_MAX,
     .fallback = "10000",
     .doc = "limit of series, where the configuration has no max_series"},
};

static void module_check_options(void *options, segue_option_report *report) {
  const module_options *given = options;
  if (given->prefix && !is_prefix(given->prefix, strlen(given->prefix)))
    segue_option_wrong(report, "prefix", PREFIX_RULE);
}

static const segue_option_table option_table = {SEGUE_OPTION_ROWS(module_options, option_rows),
                                                .name = "stats", .check = module_check_options,
                                                .doc = "Counters, gauges and histograms."};

/* ---- Configuration ---- */

static int read_prefix(stats *s, const segue_slice *slice, const segue_node *node,
                       segue_error *error) {
  const char *text;
  size_t len;
  if (segue_node_string(node, &text, &len) || !is_prefix(text, len))
    return module_wrong(error, slice, node, "prefix", PREFIX_RULE);
  memcpy(s->prefix, text, len + 1);
  return 0;
}

static int read_max_series(stats *s, const segue_slice *slice, const segue_node *node,
                           segue_error *error) {
  if (segue_node_uint(node, &s->max_series) || !s->max_series || s->max_series > SERIES_MAX)
    return module_wrong(error, slice, node, "max_series", "must be a number from 1 to 1000000");
  return 0;
}

static int read_buckets(stats *s, const segue_slice *slice, const segue_node *node,
                        segue_error *error) {
  double at[STATS_BUCKETS_MAX];
  size_t count = segue_node_type(node) == SEGUE_LIST ? segue_node_count(node) : 0;
  if (!count || count > STATS_BUCKETS_MAX)
    return module_wrong(error, slice, node, "buckets", "must be a list of 1 to 64 numbers");
  for (size_t i = 0; i < count; i++) {
    const segue_node *item = segue_node_at(node, i, NULL);
    if (segue_node_double(item, &at[i]) || at[i] != at[i] || (i && at[i] <= at[i - 1]))
      return module_wrong(error, slice, item, "buckets",
                          "must be numbers, each above the one before");
  }
  stats_bounds_unref(s->bounds);
  s->bounds = stats_bounds_new(at, count);
  return s->bounds ? 0 : segue_error_set(error, -ENOMEM, "out of memory");
}

static int read_help(stats *s, const segue_slice *slice, const segue_node *node,
                     segue_error *error) {
  if (segue_node_type(node) != SEGUE_MAP)
    return module_wrong(error, slice, node, "help", "must be a map of texts by name");
  for (size_t i = 0; i < segue_node_count(node); i++) {
    const segue_node *item = segue_node_at(node, i, NULL);
    if (segue_node_type(item) != SEGUE_STRING)
      return module_wrong(error, slice, item, "help", "must be a map of texts by name");
  }
  s->help = node;
  return 0;
}

static int module_read_key(stats *s, const segue_slice *slice, const char *key,
                           const segue_node *value, segue_error *error) {
  if (!strcmp(key, "prefix")) return read_prefix(s, slice, value, error);
  if (!strcmp(key, "max_series")) return read_max_series(s, slice, value, error);
  if (!strcmp(key, "buckets")) return read_buckets(s, slice, value, error);
  if (!strcmp(key, "help")) return read_help(s, slice, value, error);
  return module_wrong(
      error, slice, value, key,
      "is not a key of the metrics: the keys are prefix, max_series, buckets and help");
}

static int read_config(stats *s, const segue_slice *slice, segue_error *error) {
  const char *key;
  int rc = 0;
  if (slice->config && segue_node_type(slice->config) != SEGUE_MAP)
    return module_wrong(error, slice, slice->config, "the configuration", "must be a map");
  for (size_t i = 0; i < segue_node_count(slice->config) && !rc; i++) {
    const segue_node *value = segue_node_at(slice->config, i, &key);
    rc = module_read_key(s, slice, key, value, error);
  }
  return rc;
}

/* ---- Life ---- */

static void stats_module_destroy(void *instance) {
  stats *s = instance;
  stats_table_unref(s->table);
  stats_bounds_unref(s->bounds);
  free(s);
}

static void stats_module_prepare(void *userdata, segue_op *op, const segue_slice *next,
                                 const segue_slice *prev, void **instance) {
  (void)userdata, (void)prev;
  segue_error error;
  stats *s = calloc(1, sizeof *s);
  *instance = s;
  const module_options *options = next->options;
  if (s) {
    s->max_series = options->max_series;
    if (options->prefix) strcpy(s->prefix, options->prefix); /* is_prefix has limited its length */
    s->table = stats_table_new();
    s->bounds = stats_bounds_new(default_bounds, sizeof default_bounds / sizeof *default_bounds);
  }
  int rc = s && s->table && s->bounds ? read_config(s, next, &error)
                                      : segue_error_set(&error, -ENOMEM, "out of memory");
  segue_op_done(op, rc, rc ? &error : NULL);
}

/* The new instance takes the table of the previous one. Both add to it while they are exchanged, so
 * no value is lost, whichever of them stays. A table of another layout comes from another build of
 * the plugin, which this code could not read. */
static void stats_module_inherit(void *instance, void *prev) {
  stats *s = instance;
  stats_table *table = ((stats *)prev)->table;
  if (table->layout != STATS_LAYOUT) return;
  stats_table_unref(s->table);
  s->table = stats_table_ref(table);
}

static void stats_module_metrics(void *instance, stats_add add, void *sink) {
  const stats *s = instance;
  stats_expose(s->table, s->prefix, s->help, add, sink);
}

static int module_record(void *instance, segue_metric metric, const char *series, double value) {
  const stats *s = instance;
  return series ? stats_record(s->table, metric, series, value, s->bounds, s->max_series)
                : SEGUE_EUSAGE;
}

static const segue_stats_ops stats_ops = {.size = sizeof stats_ops, .record = module_record};

static const segue_module_ops module_ops = {.size = sizeof module_ops,
                                            .prepare = stats_module_prepare,
                                            .destroy = stats_module_destroy,
                                            .inherit = stats_module_inherit,
                                            .metrics = stats_module_metrics,
                                            .stats = &stats_ops};

SEGUE_API const segue_module_descriptor segue_module = {.magic = SEGUE_MODULE_MAGIC,
                                                        .abi = SEGUE_MODULE_ABI,
                                                        .size = sizeof(segue_module_descriptor),
                                                        .name = "stats",
                                                        .version = SEGUE_VERSION,
                                                        .ops = &module_ops,
                                                        .options = &option_table};

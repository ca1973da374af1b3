/* SPDX-License-Identifier: MIT
 *
 * Prints the metrics in the text format of Prometheus: families in the order of their names, and
 * the series of each together.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"

typedef struct page {
  const char *prefix;
  const segue_node *help;
  stats_add add;
  void *sink;
} page;

static void exposition_addf(const page *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void exposition_addf(const page *p, const char *format, ...) {
  char text[2 * STATS_NAME_MAX + 256];
  va_list args;
  va_start(args, format);
  int len = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (len > 0) p->add(p->sink, text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

static void exposition_add_value(const page *p, double value) {
  if (isinf(value))
    exposition_addf(p, " %sInf\n", value < 0 ? "-" : "+");
  else
    exposition_addf(p, " %.17g\n", value);
}

static int exposition_by_text(const void *a, const void *b) {
  const stats_series *x = *(stats_series *const *)a, *y = *(stats_series *const *)b;
  size_t len = x->name_len < y->name_len ? x->name_len : y->name_len;
  int order = memcmp(x->text, y->text, len);
  if (!order && x->name_len != y->name_len) order = x->name_len < y->name_len ? -1 : 1;
  return order ? order : strcmp(x->text, y->text);
}

/* A help text may have line breaks, which the format of Prometheus escapes. */
static void add_help(const page *p, const stats_series *series) {
  char name[STATS_NAME_MAX + 1];
  const char *text;
  size_t len;
  snprintf(name, sizeof name, "%.*s", (int)series->name_len, series->text);
  if (segue_node_string(segue_node_member(p->help, name), &text, &len)) return;
  exposition_addf(p, "# HELP %s%s ", p->prefix, name);
  for (size_t i = 0; i < len; i++) {
    if (text[i] == '\n' || text[i] == '\\')
      p->add(p->sink, text[i] == '\n' ? "\\n" : "\\\\", 2);
    else
      p->add(p->sink, &text[i], 1);
  }
  p->add(p->sink, "\n", 1);
}

static void exposition_add_head(const page *p, const stats_series *series) {
  static const char *const kinds[] = {"counter", "gauge", "histogram"};
  add_help(p, series);
  exposition_addf(p, "# TYPE %s%.*s %s\n", p->prefix, (int)series->name_len, series->text,
                  kinds[series->metric]);
}

/* name_bucket{labels,le="0.1"} */
static void add_bucket(const page *p, const stats_series *series, const char *bound,
                       unsigned long long count) {
  const char *labels = series->text + series->name_len;
  size_t len = *labels ? strlen(labels) - 2 : 0;
  exposition_addf(p, "%s%.*s_bucket{%.*s%sle=\"%s\"} %llu\n", p->prefix, (int)series->name_len,
                  series->text, (int)len, *labels ? labels + 1 : "", len ? "," : "", bound, count);
}

static void add_histogram(const page *p, const stats_series *series) {
  const stats_bounds *bounds = series->bounds;
  const char *labels = series->text + series->name_len;
  unsigned long long count = 0;
  char bound[32];
  for (size_t i = 0; i <= bounds->count; i++) {
    count += atomic_load_explicit(&series->buckets[i], memory_order_relaxed);
    if (i < bounds->count)
      snprintf(bound, sizeof bound, "%.17g", bounds->at[i]);
    else
      snprintf(bound, sizeof bound, "+Inf");
    add_bucket(p, series, bound, count);
  }
  exposition_addf(p, "%s%.*s_sum%s", p->prefix, (int)series->name_len, series->text, labels);
  exposition_add_value(p, stats_sum(series));
  exposition_addf(p, "%s%.*s_count%s %llu\n", p->prefix, (int)series->name_len, series->text,
                  labels, count);
}

static void add_series(const page *p, const stats_series *series) {
  if (series->metric == SEGUE_HISTOGRAM) {
    add_histogram(p, series);
    return;
  }
  exposition_addf(p, "%s%s", p->prefix, series->text);
  if (series->metric == SEGUE_COUNTER)
    exposition_addf(p, " %llu\n", stats_count(series));
  else
    exposition_add_value(p, atomic_load_explicit(&series->gauge, memory_order_relaxed));
}

static bool same_family(const stats_series *a, const stats_series *b) {
  return a->name_len == b->name_len && !memcmp(a->text, b->text, a->name_len);
}

void stats_expose(stats_table *table, const char *prefix, const segue_node *help, stats_add add,
                  void *sink) {
  page p = {prefix, help, add, sink};
  size_t room = atomic_load(&table->count), n = 0;
  stats_series **all = malloc((room + 1) * sizeof(stats_series *));
  if (!all) return;
  /* `room` was read before the lists: a series that is added meanwhile is shown the next time. */
  for (size_t i = 0; i < STATS_CHAINS; i++)
    for (stats_series *s = atomic_load(&table->chains[i]); s && n < room; s = s->next)
      all[n++] = s;
  qsort(all, n, sizeof(stats_series *), exposition_by_text);
  for (size_t i = 0; i < n; i++) {
    if (!i || !same_family(all[i - 1], all[i])) exposition_add_head(&p, all[i]);
    add_series(&p, all[i]);
  }
  free(all);
}

/* SPDX-License-Identifier: MIT
 *
 * stats.h: declarations that the files of this plugin share. The table of series outlives the
 * instances: the next instance takes it over, so that no count is lost, and both may count while
 * they are exchanged.
 */
#ifndef STATS_H
#define STATS_H

#include <segue.h>
#include <stdatomic.h>

enum { STATS_SHARDS = 8, STATS_BUCKETS_MAX = 64, STATS_CHAINS = 4096, STATS_NAME_MAX = 1024 };
/* Tables of another layout are not taken over. */
enum { STATS_LAYOUT = 1 };

typedef struct stats_shard {
  _Alignas(64) atomic_ullong count; /* a counter's value; of a histogram, how many there were */
  _Atomic double sum;
} stats_shard;

/* The bounds with which a histogram was created. The histogram keeps them when the configuration
 * changes. Counted references. */
typedef struct stats_bounds {
  atomic_int refs;
  size_t count;
  double at[STATS_BUCKETS_MAX];
} stats_bounds;

typedef struct stats_series stats_series;
struct stats_series {
  stats_series *next; /* in its chain; never changes */
  uint64_t hash;
  segue_metric metric;
  size_t name_len; /* of the name before the labels */
  stats_shard shards[STATS_SHARDS];
  _Atomic double gauge;
  stats_bounds *bounds;   /* a reference; NULL: no histogram */
  atomic_ullong *buckets; /* one for each bound, and what is above */
  char text[];
};

typedef struct stats_table {
  int layout;
  atomic_int refs;
  atomic_size_t count;
  _Atomic(stats_series *) chains[STATS_CHAINS];   /* by the whole text */
  _Atomic(stats_series *) families[STATS_CHAINS]; /* by name: of which kind it is */
} stats_table;

/* table.c */
stats_table *stats_table_new(void);
stats_table *stats_table_ref(stats_table *table);
void stats_table_unref(stats_table *table);
stats_bounds *stats_bounds_new(const double *at, size_t count);
void stats_bounds_unref(stats_bounds *bounds);
/* [any thread] */
int stats_record(stats_table *table, segue_metric metric, const char *series, double value,
                 stats_bounds *bounds, size_t max_series);
unsigned long long stats_count(const stats_series *series);
double stats_sum(const stats_series *series);

/* exposition.c */
typedef void (*stats_add)(void *sink, const char *text, size_t len);
/* help: a map of texts by name, or NULL. */
void stats_expose(stats_table *table, const char *prefix, const segue_node *help, stats_add add,
                  void *sink);

#endif

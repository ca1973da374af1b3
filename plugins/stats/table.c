/* SPDX-License-Identifier: MIT
 *
 * Series by name: lists to which series are only added, at their head, so that a search needs no
 * lock and writes nothing. The values of a series are spread over shards by processor, because
 * threads that add to one cache line would wait for each other.
 */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "stats.h"

stats_table *stats_table_new(void) {
  stats_table *table = calloc(1, sizeof *table);
  if (!table) return NULL;
  table->layout = STATS_LAYOUT;
  atomic_store(&table->refs, 1);
  return table;
}

stats_table *stats_table_ref(stats_table *table) {
  atomic_fetch_add(&table->refs, 1);
  return table;
}

stats_bounds *stats_bounds_new(const double *at, size_t count) {
  stats_bounds *bounds = calloc(1, sizeof *bounds);
  if (!bounds) return NULL;
  atomic_store(&bounds->refs, 1);
  bounds->count = count;
  memcpy(bounds->at, at, count * sizeof *at);
  return bounds;
}

void stats_bounds_unref(stats_bounds *bounds) {
  if (bounds && atomic_fetch_sub(&bounds->refs, 1) == 1) free(bounds);
}

static void series_free(stats_series *series) {
  if (!series) return;
  stats_bounds_unref(series->bounds);
  free(series->buckets);
  free(series);
}

void stats_table_unref(stats_table *table) {
  if (!table || atomic_fetch_sub(&table->refs, 1) != 1) return;
  for (size_t i = 0; i < STATS_CHAINS; i++) {
    stats_series *next;
    for (stats_series *s = atomic_load(&table->chains[i]); s; s = next) {
      next = s->next;
      series_free(s);
    }
    for (stats_series *s = atomic_load(&table->families[i]); s; s = next) {
      next = s->next;
      series_free(s);
    }
  }
  free(table);
}

/* ---- What a series is called ---- */

static bool table_is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool table_is_digit(char c) {
  return c >= '0' && c <= '9';
}

static const char *skip_name(const char *s, bool colon) {
  if (!table_is_letter(*s) && !(colon && *s == ':')) return NULL;
  while (table_is_letter(*s) || table_is_digit(*s) || (colon && *s == ':'))
    s++;
  return s;
}

/* Skips "value", in which \\, \" and \n are escaped. NULL if it is malformed. */
static const char *skip_value(const char *s) {
  if (*s++ != '"') return NULL;
  for (; *s != '"'; s++) {
    if ((unsigned char)*s < 32) return NULL;
    if (*s == '\\' && !strchr("\\\"n", s[1])) return NULL;
    if (*s == '\\' && !*++s) return NULL;
  }
  return s + 1;
}

/* Returns whether the text is {a="b",c="d"}. A histogram must not have the label le, which the
 * exposition adds to its buckets. */
static bool labels_are_good(const char *s, segue_metric metric) {
  do {
    const char *key = ++s;
    s = skip_name(s, false);
    if (!s || *s != '=') return false;
    if (metric == SEGUE_HISTOGRAM && s - key == 2 && !memcmp(key, "le", 2)) return false;
    s = skip_value(s + 1);
  } while (s && *s == ',');
  return s && *s == '}' && !s[1];
}

/* Returns the length of the name, or 0 for an invalid series. Names that segue uses itself are
 * refused, so that one name does not appear twice in the metrics. */
static size_t validate_series(const char *text, segue_metric metric) {
  const char *end = skip_name(text, true);
  if (!end || strlen(text) > STATS_NAME_MAX || !strncmp(text, "segue_", 6) ||
      !strncmp(text, "process_", 8))
    return 0;
  return !*end || (*end == '{' && labels_are_good(end, metric)) ? (size_t)(end - text) : 0;
}

/* ---- Finding and adding ---- */

static uint64_t table_hash_of(const char *text, size_t len) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < len; i++)
    hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
  return hash ^ hash >> 32;
}

static stats_series *table_find(stats_series *first, const stats_series *end, uint64_t hash,
                                const char *text, size_t len) {
  for (stats_series *s = first; s != end; s = s->next)
    if (s->hash == hash && !strncmp(s->text, text, len) && !s->text[len]) return s;
  return NULL;
}

static stats_series *series_new(segue_metric metric, uint64_t hash, const char *text, size_t len) {
  size_t size = (sizeof(stats_series) + len + 1 + 63) / 64 * 64;
  stats_series *series = aligned_alloc(_Alignof(stats_series), size);
  if (!series) return NULL;
  memset(series, 0, size);
  series->metric = metric;
  series->hash = hash;
  memcpy(series->text, text, len);
  return series;
}

/* Returns the series in the list: the new one, or the equal one that another thread has added
 * first; then the new one is freed. After a failed exchange only the part of the list that is new
 * since the last look (up to `seen`) has to be searched. */
static stats_series *table_add(_Atomic(stats_series *) *chain, stats_series *made, size_t len,
                               bool *added) {
  stats_series *seen = NULL, *first = atomic_load(chain);
  *added = false;
  for (;;) {
    stats_series *other = table_find(first, seen, made->hash, made->text, len);
    if (other) {
      series_free(made);
      return other;
    }
    seen = first;
    made->next = first;
    if (atomic_compare_exchange_weak(chain, &first, made)) break;
  }
  *added = true;
  return made;
}

/* Returns 0, or SEGUE_EUSAGE if the name belongs to a metric of another kind. */
static int enter_family(stats_table *table, segue_metric metric, const char *text, size_t len) {
  uint64_t hash = table_hash_of(text, len);
  bool added;
  _Atomic(stats_series *) *chain = &table->families[hash % STATS_CHAINS];
  stats_series *family = table_find(atomic_load(chain), NULL, hash, text, len);
  if (!family) {
    family = series_new(metric, hash, text, len);
    if (!family) return -ENOMEM;
    family->name_len = len;
    family = table_add(chain, family, len, &added);
  }
  return family->metric == metric ? 0 : SEGUE_EUSAGE;
}

static int give_buckets(stats_series *series, stats_bounds *bounds) {
  series->buckets = calloc(bounds->count + 1, sizeof *series->buckets);
  if (!series->buckets) return -ENOMEM;
  atomic_fetch_add(&bounds->refs, 1);
  series->bounds = bounds;
  return 0;
}

/* The count is increased before the series exists: so threads that add series at the same time
 * cannot exceed max_series together. */
static int table_make(stats_table *table, segue_metric metric, uint64_t hash, const char *text,
                      stats_bounds *bounds, size_t max_series, stats_series **out) {
  size_t name_len = validate_series(text, metric), len = strlen(text);
  bool added = false;
  if (!name_len) return SEGUE_EUSAGE;
  int rc = enter_family(table, metric, text, name_len);
  if (rc) return rc;
  if (atomic_fetch_add(&table->count, 1) >= max_series) {
    atomic_fetch_sub(&table->count, 1);
    return SEGUE_ELIMIT;
  }
  stats_series *series = series_new(metric, hash, text, len);
  if (series && metric == SEGUE_HISTOGRAM && give_buckets(series, bounds)) {
    series_free(series);
    series = NULL;
  }
  if (series) {
    series->name_len = name_len;
    *out = table_add(&table->chains[hash % STATS_CHAINS], series, len, &added);
  }
  if (!added) atomic_fetch_sub(&table->count, 1);
  return series ? 0 : -ENOMEM;
}

/* ---- Counting ---- */

/* C has no atomic addition for double, so the sum is exchanged in a loop. */
static void add_double(_Atomic double *to, double value) {
  double now = atomic_load_explicit(to, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(to, &now, now + value, memory_order_relaxed,
                                                memory_order_relaxed))
    ;
}

static void table_observe(stats_series *series, stats_shard *shard, double value) {
  size_t low = 0, high = series->bounds->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (value <= series->bounds->at[middle])
      high = middle;
    else
      low = middle + 1;
  }
  atomic_fetch_add_explicit(&series->buckets[low], 1, memory_order_relaxed);
  add_double(&shard->sum, value);
}

/* Counters are integers up to 2^53, the limit up to which a double holds every integer. */
static int table_count(stats_series *series, stats_shard *shard, double value) {
  if (!(value >= 0 && value <= 9007199254740992.0)) return SEGUE_EUSAGE;
  (void)series;
  atomic_fetch_add_explicit(&shard->count, (unsigned long long)value, memory_order_relaxed);
  return 0;
}

/* The list is loaded with acquire order: a series that another thread has just added is complete
 * when it is found. All values are relaxed, because no other memory depends on them. */
int stats_record(stats_table *table, segue_metric metric, const char *text, double value,
                 stats_bounds *bounds, size_t max_series) {
  size_t len = strlen(text);
  uint64_t hash = table_hash_of(text, len);
  stats_series *series =
      table_find(atomic_load_explicit(&table->chains[hash % STATS_CHAINS], memory_order_acquire),
                 NULL, hash, text, len);
  int rc = series ? 0 : table_make(table, metric, hash, text, bounds, max_series, &series);
  if (rc) return rc;
  if (series->metric != metric || isnan(value)) return SEGUE_EUSAGE;
  int cpu = sched_getcpu();
  stats_shard *shard = &series->shards[(unsigned)(cpu < 0 ? 0 : cpu) % STATS_SHARDS];
  if (metric == SEGUE_COUNTER) return table_count(series, shard, value);
  if (metric == SEGUE_GAUGE)
    atomic_store_explicit(&series->gauge, value, memory_order_relaxed);
  else
    table_observe(series, shard, value);
  return 0;
}

unsigned long long stats_count(const stats_series *series) {
  unsigned long long sum = 0;
  for (size_t i = 0; i < STATS_SHARDS; i++)
    sum += atomic_load_explicit(&series->shards[i].count, memory_order_relaxed);
  return sum;
}

double stats_sum(const stats_series *series) {
  double sum = 0;
  for (size_t i = 0; i < STATS_SHARDS; i++)
    sum += atomic_load_explicit(&series->shards[i].sum, memory_order_relaxed);
  return sum;
}

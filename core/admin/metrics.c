/* SPDX-License-Identifier: MIT
 *
 * Prometheus text exposition (version 0.0.4): the histograms of phases, and the process as the
 * kernel sees it.
 */
#include "metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const uint64_t bounds_us[SEGUE__BUCKETS] = {
    100,   250,    500,    1000,   2500,    5000,    10000,    25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 10000000, 30000000};

static void histogram_add(segue__histogram *h, uint64_t us) {
  size_t i = 0;
  while (i < SEGUE__BUCKETS && us > bounds_us[i])
    i++;
  h->counts[i]++;
  h->count++;
  h->sum_us += us;
}

/* Phases that the run did not reach have no sample: a 0 would pull down the mean of that phase. */
void segue__metrics_add(segue__metrics *metrics, const segue__result *result) {
  if (result->plan_only || result->skipped) return;
  uint64_t total = 0;
  for (int i = 0; i < SEGUE__PHASE_COUNT && i <= (int)result->phase; i++) {
    histogram_add(&metrics->phases[i], result->phase_us[i]);
    total += result->phase_us[i];
  }
  histogram_add(&metrics->total, total);
}

void segue__metrics_head(segue__buf *out, const char *name, const char *type, const char *help) {
  segue__buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* The text format requires these three escapes inside a label. */
void segue__metrics_label(segue__buf *out, const char *value) {
  segue__buf_addc(out, '"');
  for (; value && *value; value++) {
    if (*value == '"' || *value == '\\') segue__buf_addc(out, '\\');
    if (*value == '\n')
      segue__buf_adds(out, "\\n");
    else
      segue__buf_addc(out, *value);
  }
  segue__buf_addc(out, '"');
}

static void histogram_write(segue__buf *out, const char *phase, const segue__histogram *h) {
  static const char name[] = "segue_reload_duration_seconds";
  uint64_t sum = 0;
  for (size_t i = 0; i < SEGUE__BUCKETS; i++) {
    sum += h->counts[i];
    segue__buf_addf(out, "%s_bucket{phase=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, phase,
                    (double)bounds_us[i] / 1e6, sum);
  }
  segue__buf_addf(out, "%s_bucket{phase=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, phase, h->count);
  segue__buf_addf(out, "%s_sum{phase=\"%s\"} %.6f\n", name, phase, (double)h->sum_us / 1e6);
  segue__buf_addf(out, "%s_count{phase=\"%s\"} %" PRIu64 "\n", name, phase, h->count);
}

void segue__metrics_write(segue__buf *out, const segue__metrics *metrics) {
  segue__metrics_head(out, "segue_reload_duration_seconds", "histogram",
                      "Time spent in each phase of a reload; phase total is the whole of it.");
  for (int i = 0; i < SEGUE__PHASE_COUNT; i++)
    histogram_write(out, segue__phase_name((segue__phase)i), &metrics->phases[i]);
  histogram_write(out, "total", &metrics->total);
}

static size_t read_proc(const char *path, char *buf, size_t size) {
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  size_t n = fread(buf, 1, size - 1, f);
  fclose(f);
  buf[n] = 0;
  return n;
}

static size_t open_files(void) {
  DIR *dir = opendir("/proc/self/fd");
  if (!dir) return 0;
  size_t n = 0;
  for (struct dirent *entry; (entry = readdir(dir));)
    n += entry->d_name[0] != '.';
  closedir(dir);
  return n ? n - 1 : 0; /* the directory itself */
}

/* Returns the time of the boot, from which /proc/self/stat counts the start of the process, in
 * seconds since 1970. The kernel computes btime of /proc/stat in the same way, but there it follows
 * a line with a number for each interrupt, which is longer than any buffer on large machines. */
static double boot_time(void) {
  struct timespec wall, since_boot;
  clock_gettime(CLOCK_REALTIME, &wall);
  clock_gettime(CLOCK_BOOTTIME, &since_boot);
  return (double)(wall.tv_sec - since_boot.tv_sec) +
         (double)(wall.tv_nsec - since_boot.tv_nsec) / 1e9;
}

static void metrics_gauge(segue__buf *out, const char *name, const char *help, double value) {
  segue__metrics_head(out, name, "gauge", help);
  segue__buf_addf(out, "%s %.17g\n", name, value);
}

static void stat_write(segue__buf *out) {
  char buf[1024];
  unsigned long utime, stime, vsize;
  unsigned long long start;
  long threads, rss;
  read_proc("/proc/self/stat", buf, sizeof buf);
  const char *fields = strrchr(buf, ')'); /* the name before it may contain anything */
  if (!fields || sscanf(fields,
                        ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d "
                        "%ld %*d %llu %lu %ld",
                        &utime, &stime, &threads, &start, &vsize, &rss) != 6)
    return;
  double tick = (double)sysconf(_SC_CLK_TCK);
  segue__metrics_head(out, "process_cpu_seconds_total", "counter",
                      "User and system CPU time spent.");
  segue__buf_addf(out, "process_cpu_seconds_total %.2f\n", (double)(utime + stime) / tick);
  metrics_gauge(out, "process_resident_memory_bytes", "Resident memory.",
                (double)rss * (double)sysconf(_SC_PAGESIZE));
  metrics_gauge(out, "process_virtual_memory_bytes", "Virtual memory.", (double)vsize);
  metrics_gauge(out, "process_threads", "Threads.", (double)threads);
  segue__metrics_head(out, "process_start_time_seconds", "gauge",
                      "When the process started, in seconds since 1970.");
  segue__buf_addf(out, "process_start_time_seconds %.2f\n", boot_time() + (double)start / tick);
}

void segue__metrics_process(segue__buf *out) {
  struct rlimit limit;
  stat_write(out);
  metrics_gauge(out, "process_open_fds", "Open file descriptors.", (double)open_files());
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
    metrics_gauge(out, "process_max_fds", "Most file descriptors that may be open.",
                  (double)limit.rlim_cur);
}

/* SPDX-License-Identifier: MIT
 *
 * The inventory: one entry for each module that has or had a set. A report is made from copies: the
 * worker compares the files with what was written last, and reads a file only if it may have
 * changed since it was read for an earlier report.
 */
#include "inventory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <uv.h>

#include "../reload/engine.h"
#include "internal.h"
#include "preview.h"

/* The attributes of a file that was equal to the wanted version. */
typedef struct inventory_stamp {
  dev_t device;
  ino_t inode;
  off_t size;
  struct timespec modified, changed;
} inventory_stamp;

typedef struct inventory_file {
  segue__file_version wanted;
  inventory_stamp stamp;
  bool stamped;
  bool folder; /* the link to a folder of generations: listed only where it has drifted */
} inventory_file;

typedef struct inventory_entry {
  segue__file_rows rows;
  inventory_file *files; /* beside rows.files */
  const segue__file_instance *live;
  bool changing;
  uint64_t apply_since_ms;
  /* For metrics: since the module has files. */
  uint64_t written, unchanged, good[SEGUE__FILE_STEPS], failed[SEGUE__FILE_STEPS],
      ran_ms[SEGUE__FILE_STEPS];
} inventory_entry;

struct segue__inventory {
  inventory_entry *entries;
  size_t count;
};

static void entry_deinit(inventory_entry *entry) {
  segue__file_rows_deinit(&entry->rows);
  segue__free(entry->files);
}

void segue__inventory_deinit(segue__inventory *inventory) {
  if (!inventory) return;
  for (size_t i = 0; i < inventory->count; i++)
    entry_deinit(&inventory->entries[i]);
  segue__free(inventory->entries);
  segue__free(inventory);
}

/* ---- Entries ---- */

static inventory_entry *inventory_find(const segue__inventory *inventory, const char *module) {
  for (size_t i = 0; inventory && i < inventory->count; i++)
    if (!strcmp(inventory->entries[i].rows.module, module)) return &inventory->entries[i];
  return NULL;
}

/* NULL: a rehearsal, which has no inventory, or no memory. */
static inventory_entry *inventory_get(const segue__file_instance *instance) {
  segue__file_world *world = instance->module->world;
  if (!world->book || instance->planned) return NULL;
  if (!world->inventory) world->inventory = segue__calloc(1, sizeof *world->inventory);
  segue__inventory *inventory = world->inventory;
  inventory_entry *entry = inventory_find(inventory, instance->module->name);
  if (entry || !inventory) return entry;
  inventory_entry *entries =
      segue__realloc(inventory->entries, (inventory->count + 1) * sizeof *entries);
  if (!entries) return NULL;
  inventory->entries = entries;
  entry = &entries[inventory->count];
  *entry = (inventory_entry){.rows.module = segue__strdup(instance->module->name)};
  if (!entry->rows.module) return NULL;
  inventory->count++;
  return entry;
}

void segue__inventory_changing(segue__file_instance *instance, bool changing) {
  inventory_entry *entry = inventory_get(instance);
  if (entry) entry->changing = changing;
}

/* A file that did not change keeps the generation that wrote it. */
static void entry_since(segue__file_row *row, const segue__file_rows *before,
                        const segue__path_index *index) {
  size_t at = segue__path_index_find(index, row->path, strlen(row->path));
  if (at == SEGUE__PATH_NONE) return;
  row->generation = before->files[at].generation;
  row->since_wall_ms = before->files[at].since_wall_ms;
}

static int entry_add(segue__file_rows *rows, inventory_file *files, const segue__set_file *file,
                     const segue__file_row *usual, const segue__file_rows *before,
                     const segue__path_index *index) {
  if (file->dropped || file->next.kind == SEGUE__FILE_NONE) return 0;
  segue__file_row *row = &rows->files[rows->count];
  *row = *usual;
  row->path = segue__strdup(file->path);
  if (!row->path) return UV_ENOMEM;
  segue__file_side_of(&row->wanted, &file->next);
  if (!file->staged) entry_since(row, before, index);
  files[rows->count].folder = file->part == SEGUE__PART_LINK;
  files[rows->count++].wanted = file->next;
  return 0;
}

/* usual: the generation and the time of the files that have changed. */
static int entry_fill(segue__file_rows *rows, inventory_file *files, const segue__file_set *set,
                      const segue__file_row *usual, const segue__file_rows *before) {
  segue__path_index index = {0};
  int rc = 0;
  for (size_t i = 0; i < before->count && !rc; i++)
    rc = segue__path_index_add(&index, before->files[i].path, strlen(before->files[i].path), i);
  /* The link to a folder is the first file of its set, and the last row, which a report may leave
   * out. */
  size_t link = set->count && set->files[0].part == SEGUE__PART_LINK;
  for (size_t i = link; i < set->count && !rc; i++)
    rc = entry_add(rows, files, &set->files[i], usual, before, &index);
  if (link && !rc) rc = entry_add(rows, files, &set->files[0], usual, before, &index);
  segue__path_index_deinit(&index);
  return rc;
}

static void entry_count(inventory_entry *entry, const segue__file_set *set) {
  for (size_t i = 0; i < set->count; i++) {
    if (set->files[i].part == SEGUE__PART_LINK) continue;
    entry->written += set->files[i].staged && set->files[i].next.kind != SEGUE__FILE_NONE;
    entry->unchanged += !set->files[i].staged;
  }
}

void segue__inventory_settled(segue__file_instance *instance, uint64_t generation) {
  inventory_entry *entry = inventory_get(instance);
  const segue__file_set *set = instance->shared->set;
  if (!entry) return;
  entry_count(entry, set);
  entry->changing = false;
  entry->live = instance;
  segue__file_rows rows = {.files = segue__calloc(set->count + 1, sizeof *rows.files)};
  inventory_file *files = segue__calloc(set->count + 1, sizeof *files);
  const segue__file_row usual = {.generation = generation,
                                 .since_wall_ms =
                                     segue__loop_wall_ms(instance->module->world->loop)};
  int rc = rows.files && files ? entry_fill(&rows, files, set, &usual, &entry->rows) : UV_ENOMEM;
  if (rc) {
    segue__file_rows_deinit(&rows);
    segue__free(files);
    return;
  }
  for (size_t i = 0; i < entry->rows.count; i++)
    segue__free(entry->rows.files[i].path);
  segue__free(entry->rows.files);
  segue__free(entry->files);
  entry->rows.files = rows.files;
  entry->rows.count = rows.count;
  entry->files = files;
}

void segue__inventory_prepared(segue__file_instance *instance, const segue_error *error) {
  inventory_entry *entry = inventory_get(instance);
  if (!entry || (error && error->code == SEGUE_ECANCELLED)) return;
  segue__free(entry->rows.refused);
  entry->rows.refused = error ? segue__strdup(error->message) : NULL;
}

void segue__inventory_apply_begin(segue__file_instance *instance) {
  inventory_entry *entry = inventory_get(instance);
  if (entry) entry->apply_since_ms = segue__loop_now_ms(instance->module->world->loop);
}

void segue__inventory_apply_end(segue__file_instance *instance, const segue__effect *effect,
                                bool undo, const segue_error *error) {
  inventory_entry *entry = inventory_get(instance);
  segue__loop *loop = instance->module->world->loop;
  segue__buf by;
  if (!entry) return;
  segue__buf_init(&by);
  segue__effect_shown(effect, &by);
  segue__free(entry->rows.applied_by);
  segue__free(entry->rows.apply_failed);
  entry->rows.applied_by = by.failed ? NULL : segue__strdup(by.data);
  entry->rows.apply_failed = error ? segue__strdup(error->message) : NULL;
  segue__buf_deinit(&by);
  entry->rows.applied = true;
  entry->rows.applied_ms = segue__loop_now_ms(loop) - entry->apply_since_ms;
  segue__inventory_notify_ran(instance, undo ? "undo" : "apply", effect, entry->rows.applied_ms,
                              error);
  segue__inventory_ran(instance, undo ? SEGUE__FILE_UNDO : SEGUE__FILE_APPLY, !error,
                       entry->rows.applied_ms);
  entry->rows.applied_wall_ms = segue__loop_wall_ms(loop);
}

void segue__inventory_ran(segue__file_instance *instance, segue__file_step step, bool good,
                          uint64_t ms) {
  inventory_entry *entry = inventory_get(instance);
  if (!entry) return;
  entry->good[step] += good;
  entry->failed[step] += !good;
  entry->ran_ms[step] += ms;
}

/* Of each module: /metrics has the lines of all modules by families. */
static void metric_family(segue__buf *out, const char *name, const char *help) {
  segue__buf_addf(out, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
}

static void metric_count(segue__buf *out, const char *name, const char *help, const char *module,
                         uint64_t value) {
  metric_family(out, name, help);
  segue__buf_addf(out, "%s{module=\"%s\"} %" PRIu64 "\n", name, module, value);
}

static void metric_commands(const inventory_entry *entry, const char *module, segue__buf *out) {
  static const char *const steps[] = {"check", "apply", "undo"};
  static const char count[] = "segue_files_commands_total",
                    seconds[] = "segue_files_command_seconds_total";
  metric_family(out, count, "Checks, applies and undos of rendered files that have ended.");
  for (size_t i = 0; i < SEGUE__FILE_STEPS; i++)
    segue__buf_addf(out,
                    "%s{module=\"%s\",step=\"%s\",result=\"good\"} %" PRIu64 "\n"
                    "%s{module=\"%s\",step=\"%s\",result=\"failed\"} %" PRIu64 "\n",
                    count, module, steps[i], entry->good[i], count, module, steps[i],
                    entry->failed[i]);
  metric_family(out, seconds, "Time that checks, applies and undos of rendered files took.");
  for (size_t i = 0; i < SEGUE__FILE_STEPS; i++)
    segue__buf_addf(out, "%s{module=\"%s\",step=\"%s\"} %.3f\n", seconds, module, steps[i],
                    (double)entry->ran_ms[i] / 1e3);
}

void segue__inventory_metrics(const segue__file_instance *instance, segue__buf *out) {
  const char *module = instance->module->name;
  const inventory_entry *entry = inventory_find(instance->module->world->inventory, module);
  metric_count(out, "segue_templates_rendered_total", "Templates that were rendered.", module,
               instance->renders);
  metric_count(
      out, "segue_templates_unchanged_total",
      "Templates that were not rendered again, because nothing that they read has changed.", module,
      instance->reuses);
  if (!entry) return;
  metric_count(out, "segue_files_written_total", "Rendered files that were put in place.", module,
               entry->written);
  metric_count(out, "segue_files_unchanged_total",
               "Rendered files that were in place already when their module changed.", module,
               entry->unchanged);
  metric_commands(entry, module, out);
}

void segue__inventory_remove(segue__file_instance *instance) {
  segue__inventory *inventory = instance->module->world->inventory;
  inventory_entry *entry = inventory_find(inventory, instance->module->name);
  if (!entry || entry->live != instance) return;
  entry->live = NULL;
  if (entry->rows.apply_failed)
    return; /* an undo has failed too, so the report of these files stays */
  entry_deinit(entry);
  *entry = inventory->entries[--inventory->count];
}

/* ---- Observers ---- */

/* The paths of a set of 5,000 files would be a megabyte in each of the events that are kept for
 * clients that come back: a report has the first ones, and the number of all. */
enum { NOTIFIED_PATHS = 20 };

void segue__inventory_notify_written(const segue__file_instance *instance, uint64_t generation) {
  segue__engine *engine = instance->module->world->engine;
  const segue__file_set *set = instance->shared->set;
  const char *paths[NOTIFIED_PATHS];
  segue__file_status file;
  segue__written_report report = {
      .module = instance->module->name, .generation = generation, .paths = paths};
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (!file.changed || file.part == SEGUE__PART_LINK) continue;
    if (file.next.kind == SEGUE__FILE_NONE)
      report.removed++;
    else
      report.written++;
    if (report.path_count < NOTIFIED_PATHS) paths[report.path_count++] = file.path;
  }
  if (engine && report.path_count) segue__engine_notify_written(engine, &report);
}

void segue__inventory_notify_ran(const segue__file_instance *instance, const char *step,
                                 const segue__effect *effect, uint64_t ms,
                                 const segue_error *error) {
  segue__engine *engine = instance->module->world->engine;
  segue__buf shown;
  if (!engine || instance->planned) return;
  segue__buf_init(&shown);
  segue__effect_shown(effect, &shown);
  const segue__effect_report report = {.module = instance->module->name,
                                       .step = step,
                                       .shown = shown.failed ? NULL : shown.data,
                                       .ms = ms,
                                       .error = error ? error->message : NULL};
  segue__engine_notify_effect(engine, &report);
  segue__buf_deinit(&shown);
}

/* ---- The report ---- */

typedef struct report_job {
  segue__job job;
  segue__file_world *world; /* a reference */
  segue__file_report *report;
  inventory_file **files; /* copies, one list for each module */
  bool *changing;
  void (*done)(void *data, segue__file_report *report);
  void *data;
  bool ran;
} report_job;

static bool stamp_read(const char *path, inventory_stamp *out) {
  struct stat st;
  if (lstat(path, &st)) return false;
  *out = (inventory_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
  return true;
}

static bool stamp_equal(const inventory_stamp *a, const inventory_stamp *b) {
  return a->device == b->device && a->inode == b->inode && a->size == b->size &&
         a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
         a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* A write within the same tick of the clock has the same stamp: one that is younger than a second
 * is not relied on. */
static bool stamp_lasts(const inventory_stamp *stamp) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec - stamp->changed.tv_sec > 1 || stamp->changed.tv_sec > now.tv_sec;
}

static void report_file(segue__file_book *book, segue__file_row *row, inventory_file *file,
                        bool changing) {
  inventory_stamp stamp;
  segue__file_version found;
  bool there = stamp_read(row->path, &stamp);
  if (file->folder && !segue__file_book_folder_fits(book, row->path)) {
    row->state = SEGUE__FILE_DRIFTED;
    row->found = row->wanted;
    return;
  }
  if (there && file->stamped && stamp_equal(&stamp, &file->stamp)) return;
  file->stamped = false;
  if (segue__file_version_read(row->path, &found, NULL, NULL)) {
    row->state = SEGUE__FILE_UNREADABLE;
  } else if (segue__file_version_equal(&found, &file->wanted)) {
    file->stamp = stamp;
    file->stamped = there && stamp_lasts(&stamp);
  } else {
    bool adopted = segue__file_book_adopted(book, row->path, &found);
    row->state = changing  ? SEGUE__FILE_CHANGING
                 : adopted ? SEGUE__FILE_ADOPTED
                           : SEGUE__FILE_DRIFTED;
    segue__file_side_of(&row->found, &found);
  }
}

/* The members of a folder are listed; the folder itself only where it is not as it was written. */
static void report_hide_folder(segue__file_rows *rows, const inventory_file *files) {
  size_t last = rows->count - 1;
  if (!rows->count || !files[last].folder) return;
  if (rows->files[last].state == SEGUE__FILE_DRIFTED) return;
  segue__free(rows->files[last].path);
  rows->count = last;
}

static void report_run(segue__job *base) {
  report_job *job = (report_job *)base;
  for (size_t i = 0; i < job->report->count; i++) {
    segue__file_rows *rows = &job->report->modules[i];
    for (size_t k = 0; k < rows->count; k++)
      report_file(job->world->book, &rows->files[k], &job->files[i][k], job->changing[i]);
    report_hide_folder(rows, job->files[i]);
  }
  job->ran = true;
}

/* The inventory may have changed meanwhile: a stamp counts only for the version that it is of. */
static void report_keep_stamps(const report_job *job) {
  for (size_t i = 0; i < job->report->count; i++) {
    const segue__file_rows *rows = &job->report->modules[i];
    inventory_entry *entry = inventory_find(job->world->inventory, rows->module);
    for (size_t k = 0; entry && k < rows->count && k < entry->rows.count; k++)
      if (!strcmp(entry->rows.files[k].path, rows->files[k].path) &&
          segue__file_version_equal(&entry->files[k].wanted, &job->files[i][k].wanted))
        entry->files[k] = job->files[i][k];
  }
}

static void report_free(report_job *job) {
  for (size_t i = 0; job->files && job->report && i < job->report->count; i++)
    segue__free(job->files[i]);
  segue__free(job->files);
  segue__free(job->changing);
  segue__file_report_free(job->report);
  segue__file_world_unref(job->world);
  segue__free(job);
}

static void report_done(segue__job *base) {
  report_job *job = (report_job *)base;
  if (job->ran) report_keep_stamps(job);
  job->done(job->data, job->ran ? job->report : NULL);
  report_free(job);
}

static int report_copy(report_job *job, const segue__inventory *inventory) {
  size_t count = inventory ? inventory->count : 0;
  job->report = segue__calloc(1, sizeof *job->report);
  job->files = segue__calloc(count + 1, sizeof *job->files);
  job->changing = segue__calloc(count + 1, sizeof *job->changing);
  if (!job->report || !job->files || !job->changing) return UV_ENOMEM;
  job->report->modules = segue__calloc(count + 1, sizeof *job->report->modules);
  if (!job->report->modules) return UV_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    const inventory_entry *entry = &inventory->entries[i];
    size_t size = (entry->rows.count + 1) * sizeof **job->files;
    int rc = segue__file_rows_copy(&job->report->modules[i], &entry->rows);
    if (rc) return rc;
    job->report->count++;
    job->changing[i] = entry->changing;
    job->files[i] = segue__calloc(1, size);
    if (!job->files[i]) return UV_ENOMEM;
    if (entry->files) memcpy(job->files[i], entry->files, size - sizeof **job->files);
  }
  return 0;
}

int segue__file_world_report(segue__file_world *world,
                             void (*done)(void *data, segue__file_report *report), void *data) {
  report_job *job = segue__calloc(1, sizeof *job);
  if (!job) return UV_ENOMEM;
  *job = (report_job){.job = {.run = report_run, .done = report_done, .abandoned = report_done},
                      .world = world,
                      .done = done,
                      .data = data};
  world->refs++;
  int rc = report_copy(job, world->inventory);
  if (!rc) rc = segue__job_submit(world->loop, SEGUE__QUEUE_FILES, &job->job);
  if (rc) report_free(job);
  return rc;
}

void segue__file_world_totals(const segue__file_world *world, size_t *modules, size_t *files) {
  const segue__inventory *inventory = world->inventory;
  *modules = *files = 0;
  for (size_t i = 0; inventory && i < inventory->count; i++) {
    *modules += inventory->entries[i].rows.count > 0;
    size_t count = inventory->entries[i].rows.count;
    *files += count && inventory->entries[i].files[count - 1].folder ? count - 1 : count;
  }
}

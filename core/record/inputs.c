/* SPDX-License-Identifier: MIT
 *
 * The input of a run: copies of all files that it reads, or, in a replay, the files that it reads
 * instead.
 */
#include "inputs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/glob.h"
#include "../os/mem.h"

typedef struct copies {
  segue__file *items; /* in the order of reading; a file that is read twice is there twice */
  size_t count, capacity;
  bool incomplete; /* memory has run out: the copies must not become a generation */
} copies;

struct segue__inputs {
  long refs;    /* atomic: the owner and every job that reads through it */
  segue__os os; /* ours */
  const segue__os *real;
  char *pass;
  pthread_mutex_t lock;
  copies now;
  bool taken; /* the run has its copies: later reads are not copied */
  segue__files *replay;
  segue__names asked; /* variables of the environment, each once */
};

/* ---- Files ---- */

int segue__file_bytes(const segue__file *file, const char **data, size_t *len) {
  if (file->lazy) return segue__lazy_bytes_get(file->lazy, data, len);
  *data = file->data;
  *len = file->len;
  return 0;
}

static void file_free(segue__file *file) {
  segue__free(file->path);
  segue__free(file->data);
  segue__lazy_bytes_unref(file->lazy);
}

static int inputs_by_path(const void *a, const void *b) {
  return strcmp(((const segue__file *)a)->path, ((const segue__file *)b)->path);
}

/* A stable insertion sort. It is fast for a list that is nearly sorted, and the few files of a
 * policy are read in almost the same order in each run. */
static void inputs_sort(segue__file *items, size_t count) {
  for (size_t i = 1; i < count; i++) {
    segue__file item = items[i];
    size_t at = i;
    while (at > 0 && inputs_by_path(&items[at - 1], &item) > 0) {
      items[at] = items[at - 1];
      at--;
    }
    items[at] = item;
  }
}

typedef struct numbered {
  segue__file file;
  size_t order;
} numbered;

static int by_path_then_order(const void *a, const void *b) {
  const numbered *x = a, *y = b;
  int order = strcmp(x->file.path, y->file.path);
  return order ? order : x->order < y->order ? -1 : 1;
}

/* For thousands of files: qsort is not stable, so the position of each file is a part of its key.
 */
static int sort_many(segue__file *items, size_t count) {
  numbered *all = segue__malloc(count * sizeof *all);
  if (!all) return UV_ENOMEM;
  for (size_t i = 0; i < count; i++)
    all[i] = (numbered){items[i], i};
  qsort(all, count, sizeof *all, by_path_then_order);
  for (size_t i = 0; i < count; i++)
    items[i] = all[i].file;
  segue__free(all);
  return 0;
}

/* A file that was read twice is kept once, with the bytes of the later read. */
int segue__files_new(segue__files **out, segue__file *items, size_t count) {
  enum { FEW = 64 };
  *out = NULL;
  segue__files *files = segue__calloc(1, sizeof *files);
  if (!files) return UV_ENOMEM;
  if (count <= FEW) {
    inputs_sort(items, count);
  } else if (sort_many(items, count) < 0) {
    segue__free(files);
    return UV_ENOMEM;
  }
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (kept && !strcmp(items[kept - 1].path, items[i].path)) file_free(&items[--kept]);
    items[kept++] = items[i];
  }
  files->refs = 1;
  files->items = items;
  files->count = kept;
  *out = files;
  return 0;
}

segue__files *segue__files_ref(segue__files *files) {
  if (files) __atomic_add_fetch(&files->refs, 1, __ATOMIC_RELAXED);
  return files;
}

void segue__files_unref(segue__files *files) {
  if (!files || __atomic_sub_fetch(&files->refs, 1, __ATOMIC_ACQ_REL)) return;
  for (size_t i = 0; i < files->count; i++)
    file_free(&files->items[i]);
  segue__free(files->items);
  segue__free(files);
}

const segue__file *segue__files_find(const segue__files *files, const char *path) {
  segue__file key = {.path = (char *)path};
  return files->count ? bsearch(&key, files->items, files->count, sizeof key, inputs_by_path)
                      : NULL;
}

/* ---- Copying ---- */

static void copies_clear(copies *list) {
  for (size_t i = 0; i < list->count; i++)
    file_free(&list->items[i]);
  segue__free(list->items);
  memset(list, 0, sizeof *list);
}

/* Takes what the item owns. */
static void copies_add_item(copies *list, segue__file *item) {
  bool whole = item->path && (item->data || item->lazy);
  if (whole && list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 8;
    segue__file *items = segue__realloc(list->items, capacity * sizeof *items);
    if (items) {
      list->items = items;
      list->capacity = capacity;
    }
    whole = items != NULL;
  }
  if (whole) {
    list->items[list->count++] = *item;
    return;
  }
  file_free(item);
  list->incomplete = true;
}

static void copies_add(copies *list, const char *path, const void *data, size_t len) {
  segue__file item = {segue__strdup(path), segue__strndup(data, len), len, NULL};
  copies_add_item(list, &item);
}

static bool inputs_passed(const segue__inputs *inputs, const char *path) {
  return inputs->pass && !strncmp(path, inputs->pass, strlen(inputs->pass));
}

void segue__inputs_keep(segue__inputs *inputs, const char *key, const void *data, size_t len) {
  pthread_mutex_lock(&inputs->lock);
  if (!inputs->taken && !inputs->replay) copies_add(&inputs->now, key, data, len);
  pthread_mutex_unlock(&inputs->lock);
}

void segue__inputs_keep_lazy(segue__inputs *inputs, const char *key, segue__lazy_bytes *lazy) {
  pthread_mutex_lock(&inputs->lock);
  bool takes = !inputs->taken && !inputs->replay;
  segue__file item = {takes ? segue__strdup(key) : NULL, NULL, 0, lazy};
  if (takes) copies_add_item(&inputs->now, &item);
  pthread_mutex_unlock(&inputs->lock);
  if (!takes) segue__lazy_bytes_unref(lazy);
}

/* ---- The os in between ---- */

static int replay_read(const segue__files *files, const char *path, segue__bytes *out,
                       segue_error *err) {
  const segue__file *file = segue__files_find(files, path);
  if (!file)
    return segue__errorf(err, UV_ENOENT, "%s was not part of the generation that is brought back",
                         path);
  const char *data;
  size_t len;
  int rc = segue__file_bytes(file, &data, &len);
  if (rc) return segue__errorf(err, rc, "%s cannot be read: %s", path, segue_strerror(rc));
  out->data = segue__strndup(data, len);
  out->len = len;
  return out->data ? 0 : segue__errorf(err, UV_ENOMEM, "out of memory while reading %s", path);
}

int segue__inputs_kept(segue__inputs *inputs, const char *key, segue__bytes *out) {
  pthread_mutex_lock(&inputs->lock);
  int rc = inputs->replay ? replay_read(inputs->replay, key, out, NULL) : UV_ENOENT;
  pthread_mutex_unlock(&inputs->lock);
  return rc;
}

/* The lock is not held while the file is read, because a network file system may hang. `pass` is
 * the folder of segue's own Lua files, which belong to no generation: a replay reads the present
 * ones. */
static int read_by(segue__inputs *inputs, const char *path, size_t max, bool whole,
                   segue__bytes *out, segue_error *err) {
  pthread_mutex_lock(&inputs->lock);
  const segue__files *replay = inputs_passed(inputs, path) ? NULL : inputs->replay;
  int rc = replay ? replay_read(replay, path, out, err) : 0;
  pthread_mutex_unlock(&inputs->lock);
  if (replay) return rc;
  rc = whole ? segue__read_whole(inputs->real, path, max, out, err)
             : inputs->real->read_file(inputs->real->data, path, max, out, err);
  if (!rc && !inputs_passed(inputs, path)) segue__inputs_keep(inputs, path, out->data, out->len);
  return rc;
}

static int inputs_read_file(void *data, const char *path, size_t max, segue__bytes *out,
                            segue_error *err) {
  return read_by(data, path, max, false, out, err);
}

static int read_whole(void *data, const char *path, size_t max, segue__bytes *out,
                      segue_error *err) {
  return read_by(data, path, max, true, out, err);
}

static int read_credential(void *data, const char *path, size_t max, segue__bytes *out,
                           segue_error *err) {
  segue__inputs *inputs = data;
  return segue__read_credential(inputs->real, path, max, out, err);
}

static int replay_list(const segue__files *files, const char *pattern, segue__names *out,
                       segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < files->count && !rc; i++)
    if (segue__glob_match_path(pattern, files->items[i].path))
      rc = segue__names_add(out, "", 0, files->items[i].path);
  if (rc) {
    segue__names_deinit(out);
    segue__errorf(err, rc, "out of memory while listing %s", pattern);
  }
  return rc;
}

static int inputs_list_files(void *data, const char *pattern, segue__names *out, segue_error *err) {
  segue__inputs *inputs = data;
  pthread_mutex_lock(&inputs->lock);
  const segue__files *replay = inputs->replay;
  int rc = replay ? replay_list(replay, pattern, out, err) : 0;
  pthread_mutex_unlock(&inputs->lock);
  return replay ? rc : inputs->real->list_files(inputs->real->data, pattern, out, err);
}

static int inputs_write_file(void *data, const segue__write *w, segue_error *err) {
  segue__inputs *inputs = data;
  return inputs->real->write_file(inputs->real->data, w, err);
}

static bool was_asked(const segue__inputs *inputs, const char *name, size_t len) {
  for (size_t i = 0; i < inputs->asked.count; i++)
    if (!strncmp(inputs->asked.items[i], name, len) && !inputs->asked.items[i][len]) return true;
  return false;
}

bool segue__inputs_asked(segue__inputs *inputs, const char *name, size_t len) {
  pthread_mutex_lock(&inputs->lock);
  bool asked = was_asked(inputs, name, len);
  pthread_mutex_unlock(&inputs->lock);
  return asked;
}

/* The number of names is limited, because a policy may compute names. If memory for a name is
 * missing, the name is not recorded, and the reload continues. */
static const char *inputs_get_variable(void *data, const char *name) {
  enum { NAMES_MAX = 1024 };
  segue__inputs *inputs = data;
  pthread_mutex_lock(&inputs->lock);
  if (inputs->asked.count < NAMES_MAX && !was_asked(inputs, name, strlen(name)))
    (void)segue__names_add(&inputs->asked, "", 0, name);
  pthread_mutex_unlock(&inputs->lock);
  return inputs->real->getenv(inputs->real->data, name);
}

static char **all_variables(void *data) {
  segue__inputs *inputs = data;
  return inputs->real->environ(inputs->real->data);
}

/* Called only for credentials, which a replay reads from the present files. */
static int inputs_file_mode(void *data, const char *path, unsigned *mode) {
  segue__inputs *inputs = data;
  if (!inputs->real->file_mode) return UV_ENOTSUP;
  return inputs->real->file_mode(inputs->real->data, path, mode);
}

/* ---- Life ---- */

/* Every job that reads holds a reference: a job that hangs is abandoned and may still read when the
 * owner has gone. */
static void inputs_hold(void *data) {
  segue__inputs *inputs = data;
  __atomic_add_fetch(&inputs->refs, 1, __ATOMIC_RELAXED);
}

static void inputs_release(void *data) {
  segue__inputs *inputs = data;
  if (__atomic_sub_fetch(&inputs->refs, 1, __ATOMIC_ACQ_REL)) return;
  copies_clear(&inputs->now);
  segue__files_unref(inputs->replay);
  segue__free(inputs->pass);
  segue__names_deinit(&inputs->asked);
  pthread_mutex_destroy(&inputs->lock);
  segue__free(inputs);
}

int segue__inputs_new(segue__inputs **out, const segue__os *os, const char *pass) {
  *out = NULL;
  segue__inputs *inputs = segue__calloc(1, sizeof *inputs);
  if (!inputs) return UV_ENOMEM;
  inputs->pass = segue__strdup(pass);
  if (pass && !inputs->pass) {
    segue__free(inputs);
    return UV_ENOMEM;
  }
  inputs->refs = 1;
  inputs->real = os;
  inputs->taken = true;
  inputs->os = (segue__os){.data = inputs,
                           .hold = inputs_hold,
                           .release = inputs_release,
                           .read_file = inputs_read_file,
                           .read_whole = read_whole,
                           .list_files = inputs_list_files,
                           .write_file = inputs_write_file,
                           .getenv = inputs_get_variable,
                           .environ = all_variables,
                           .file_mode = inputs_file_mode,
                           .read_credential = read_credential,
                           .spawn = os->spawn};
  pthread_mutex_init(&inputs->lock, NULL);
  *out = inputs;
  return 0;
}

void segue__inputs_free(segue__inputs *inputs) {
  if (inputs) inputs_release(inputs);
}

const segue__os *segue__inputs_os(const segue__inputs *inputs) {
  return &inputs->os;
}

/* ---- Runs ---- */

static void inputs_set(segue__inputs *inputs, segue__files *files, bool taken) {
  pthread_mutex_lock(&inputs->lock);
  segue__files *before = inputs->replay;
  copies old = inputs->now;
  memset(&inputs->now, 0, sizeof inputs->now);
  inputs->replay = segue__files_ref(files);
  inputs->taken = taken;
  pthread_mutex_unlock(&inputs->lock);
  copies_clear(&old);
  segue__files_unref(before);
}

void segue__inputs_begin(segue__inputs *inputs, segue__files *files) {
  inputs_set(inputs, files, false);
}

void segue__inputs_end(segue__inputs *inputs) {
  inputs_set(inputs, NULL, true);
}

int segue__inputs_take(segue__inputs *inputs, segue__files **out) {
  copies list = {0};
  *out = NULL;
  pthread_mutex_lock(&inputs->lock);
  if (inputs->replay) {
    *out = segue__files_ref(inputs->replay);
  } else {
    list = inputs->now;
    memset(&inputs->now, 0, sizeof inputs->now);
    inputs->taken = true;
  }
  pthread_mutex_unlock(&inputs->lock);
  if (*out) return 0;
  int rc = list.incomplete ? UV_ENOMEM : segue__files_new(out, list.items, list.count);
  if (rc) copies_clear(&list);
  return rc;
}

bool segue__inputs_replaying(segue__inputs *inputs) {
  pthread_mutex_lock(&inputs->lock);
  bool replaying = inputs->replay != NULL;
  pthread_mutex_unlock(&inputs->lock);
  return replaying;
}

/* SPDX-License-Identifier: MIT
 *
 * The last good generation: what a run reads is copied as it passes by and held until the run is
 * over; if it was good, the copies go to the thread that writes. So what is written is what was
 * judged, whatever has become of the files since, and nothing waits for the disk.
 */
#include "last_good.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/tree.h"
#include "../os/fault.h"
#include "../os/mem.h"

static const char MAGIC[8] = "SEGUELG1";
enum { HEADER = 8 + 8 + 8 + 8 + 32 + 4, CHECKSUM = 16 };

typedef struct seen {
  char *path, *data;
  size_t len, order;
} seen;

typedef struct seen_list {
  seen *items;
  size_t count, capacity;
  bool incomplete; /* out of memory: not to be saved */
} seen_list;

typedef struct task {
  seen_list files;
  segue__last_good_info info;
  bool waits;
} task;

/* A slot as it was read back: entries point into bytes. */
typedef struct entry {
  char *path; /* owned: terminated */
  const char *data;
  size_t len;
} entry;

typedef struct archive {
  segue__bytes bytes;
  entry *entries;
  size_t count;
  uint64_t sequence;
  segue__last_good_info info;
} archive;

struct segue__last_good {
  long refs;    /* atomic: the owner and every job that reads through it */
  segue__os os; /* ours: watches or replays */
  const segue__os *real;
  const segue__log *log;
  char *slots[2];
  char *pass;
  pthread_mutex_t lock;
  pthread_cond_t wake, idle;
  pthread_t thread;
  bool started, stopping, writing;
  seen_list now; /* copies of what the run that goes on has read */
  task next;     /* waits to be written */
  uint64_t sequence;
  int last_slot, status;
  archive *replay;
};

/* ---- Remembering ---- */

static void list_clear(seen_list *list) {
  for (size_t i = 0; i < list->count; i++) {
    segue__free(list->items[i].path);
    segue__free(list->items[i].data);
  }
  segue__free(list->items);
  memset(list, 0, sizeof *list);
}

/* In the order of reading, twice what is read twice: looking for it would cost more. */
static void list_add(seen_list *list, const char *path, const segue__bytes *bytes) {
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 8;
    seen *items = segue__realloc(list->items, capacity * sizeof *items);
    if (!items) {
      list->incomplete = true;
      return;
    }
    list->items = items;
    list->capacity = capacity;
  }
  seen item = {.path = segue__strdup(path),
               .data = segue__strndup(bytes->data, bytes->len),
               .len = bytes->len,
               .order = list->count};
  if (item.path && item.data) {
    list->items[list->count++] = item;
    return;
  }
  segue__free(item.path);
  segue__free(item.data);
  list->incomplete = true;
}

static bool passed(const segue__last_good *lg, const char *path) {
  return lg->pass && !strncmp(path, lg->pass, strlen(lg->pass));
}

/* ---- The os in between ---- */

static int replay_read(const archive *a, const char *path, segue__bytes *out, segue_error *err) {
  for (size_t i = 0; i < a->count; i++) {
    if (strcmp(a->entries[i].path, path) != 0) continue;
    out->data = segue__strndup(a->entries[i].data, a->entries[i].len);
    out->len = a->entries[i].len;
    return out->data ? 0 : segue__error_set(err, UV_ENOMEM, "out of memory while reading %s", path);
  }
  return segue__error_set(err, UV_ENOENT, "%s was not part of the last good generation", path);
}

static int read_file(void *data, const char *path, size_t max, segue__bytes *out,
                     segue_error *err) {
  segue__last_good *lg = data;
  pthread_mutex_lock(&lg->lock);
  const archive *replay = passed(lg, path) ? NULL : lg->replay;
  int rc = replay ? replay_read(replay, path, out, err) : 0;
  pthread_mutex_unlock(&lg->lock);
  if (replay) return rc;
  rc = lg->real->read_file(lg->real->data, path, max, out, err);
  if (rc || passed(lg, path)) return rc;
  pthread_mutex_lock(&lg->lock);
  list_add(&lg->now, path, out);
  pthread_mutex_unlock(&lg->lock);
  return 0;
}

/* Entries are sorted by path, as listings are. */
static int replay_list(const archive *a, const char *pattern, segue__names *out, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < a->count && !rc; i++)
    if (!fnmatch(pattern, a->entries[i].path, FNM_PATHNAME | FNM_PERIOD))
      rc = segue__names_add(out, "", 0, a->entries[i].path);
  if (rc) {
    segue__names_deinit(out);
    segue__error_set(err, rc, "out of memory while listing %s", pattern);
  }
  return rc;
}

static int list_files(void *data, const char *pattern, segue__names *out, segue_error *err) {
  segue__last_good *lg = data;
  pthread_mutex_lock(&lg->lock);
  const archive *replay = lg->replay;
  int rc = replay ? replay_list(replay, pattern, out, err) : 0;
  pthread_mutex_unlock(&lg->lock);
  return replay ? rc : lg->real->list_files(lg->real->data, pattern, out, err);
}

static int write_file(void *data, const segue__write *w, segue_error *err) {
  segue__last_good *lg = data;
  return lg->real->write_file(lg->real->data, w, err);
}

static const char *get_variable(void *data, const char *name) {
  segue__last_good *lg = data;
  return lg->real->getenv(lg->real->data, name);
}

static char **all_variables(void *data) {
  segue__last_good *lg = data;
  return lg->real->environ(lg->real->data);
}

static void hold(void *data);
static void release(void *data);

/* ---- Writing ---- */

static void put_number(segue__buf *b, uint64_t n, int bytes) {
  for (int i = 0; i < bytes; i++)
    segue__buf_addc(b, (char)(n >> (8 * i)));
}

/* By path, and what was read last comes first: that is what counted. */
static int by_path(const void *a, const void *b) {
  const seen *x = a, *y = b;
  int order = strcmp(x->path, y->path);
  return order ? order : x->order < y->order ? 1 : -1;
}

/* Sorted, each path once. */
static void settle_list(seen_list *list) {
  size_t kept = 0;
  if (list->count) qsort(list->items, list->count, sizeof *list->items, by_path);
  for (size_t i = 0; i < list->count; i++) {
    seen *item = &list->items[i];
    if (kept && !strcmp(list->items[kept - 1].path, item->path)) {
      segue__free(item->path);
      segue__free(item->data);
    } else {
      list->items[kept++] = *item;
    }
  }
  list->count = kept;
}

static void add_file(segue__buf *b, const seen *file) {
  size_t len = strlen(file->path);
  put_number(b, len, 4);
  put_number(b, file->len, 8);
  segue__buf_add(b, file->path, len);
  segue__buf_add(b, file->data, file->len);
}

static int compose(const segue__last_good *lg, task *t, segue__buf *b) {
  settle_list(&t->files);
  segue__buf_add(b, MAGIC, sizeof MAGIC);
  put_number(b, lg->sequence + 1, 8);
  put_number(b, t->info.generation, 8);
  put_number(b, (uint64_t)t->info.wall_ms, 8);
  segue__buf_add(b, t->info.hash, 32);
  put_number(b, t->files.count, 4);
  for (size_t i = 0; i < t->files.count; i++)
    add_file(b, &t->files.items[i]);
  if (b->failed) return UV_ENOMEM;
  segue__hash sum = segue__hash_bytes(b->data, b->len, (segue__hash){0, 0});
  put_number(b, sum.lo, 8);
  put_number(b, sum.hi, 8);
  return b->failed ? UV_ENOMEM : 0;
}

static int write_all(int fd, const char *data, size_t len) {
  for (size_t at = 0; at < len;) {
    ssize_t n = pwrite(fd, data + at, len - at, (off_t)at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    at += (size_t)n;
  }
  return 0;
}

static int sync_folder(const char *slot) {
  char *folder = segue__strdup(slot);
  if (!folder) return UV_ENOMEM;
  *strrchr(folder, '/') = 0;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int rc = fd < 0 || fsync(fd) ? -errno : 0;
  if (fd >= 0) close(fd);
  segue__free(folder);
  return rc;
}

static int write_slot(const char *path, const segue__buf *b) {
  struct stat st;
  bool is_new = stat(path, &st) != 0;
  int rc = SEGUE_FAULT("last_good.open");
  int fd = rc ? -1 : open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (!rc && fd < 0) rc = -errno;
  if (!rc) rc = SEGUE_FAULT("last_good.write");
  if (!rc) rc = write_all(fd, b->data, b->len);
  if (!rc && ftruncate(fd, (off_t)b->len)) rc = -errno;
  if (!rc) rc = SEGUE_FAULT("last_good.sync");
  if (!rc && fdatasync(fd)) rc = -errno;
  if (fd >= 0) close(fd);
  return rc || !is_new ? rc : sync_folder(path);
}

static int write_task(segue__last_good *lg, task *t) {
  segue__buf b;
  segue__buf_init(&b);
  int slot = 1 - lg->last_slot;
  int rc = compose(lg, t, &b);
  if (!rc) rc = write_slot(lg->slots[slot], &b);
  segue__buf_deinit(&b);
  if (rc == 0) {
    lg->sequence++;
    lg->last_slot = slot;
  }
  return rc;
}

static void tell(const segue__last_good *lg, const task *t, int status) {
  if (status == 0)
    segue__log(lg->log, SEGUE__DEBUG, "reload", "the last good generation is on disk", "generation",
               'u', t->info.generation, NULL);
  else
    segue__log(lg->log, SEGUE__ERROR, "reload",
               "this generation cannot be kept for a start without its files: the one before stays",
               "generation", 'u', t->info.generation, "file", 's', lg->slots[1 - lg->last_slot],
               "error", 's', segue_strerror(status), NULL);
}

static void *writer(void *data) {
  segue__last_good *lg = data;
  pthread_mutex_lock(&lg->lock);
  for (;;) {
    while (!lg->next.waits && !lg->stopping)
      pthread_cond_wait(&lg->wake, &lg->lock);
    if (!lg->next.waits) break;
    task t = lg->next;
    memset(&lg->next, 0, sizeof lg->next);
    lg->writing = true;
    pthread_mutex_unlock(&lg->lock);
    int status = write_task(lg, &t);
    tell(lg, &t, status);
    list_clear(&t.files);
    pthread_mutex_lock(&lg->lock);
    lg->writing = false;
    lg->status = status;
    pthread_cond_broadcast(&lg->idle);
  }
  pthread_mutex_unlock(&lg->lock);
  return NULL;
}

/* The thread takes no signals: they are the host's. */
static int start_thread(segue__last_good *lg) {
  sigset_t all, before;
  if (lg->started) return 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(&lg->thread, NULL, writer, lg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!rc) pthread_setname_np(lg->thread, "segue-lastgood");
  lg->started = !rc;
  return -rc;
}

/* ---- Reading back ---- */

static uint64_t get_number(const char *at, int bytes) {
  uint64_t n = 0;
  for (int i = bytes; i-- > 0;)
    n = n << 8 | (unsigned char)at[i];
  return n;
}

static void archive_free(archive *a) {
  if (!a) return;
  for (size_t i = 0; i < a->count; i++)
    segue__free(a->entries[i].path);
  segue__free(a->entries);
  segue__free(a->bytes.data);
  segue__free(a);
}

static bool sum_is_right(const segue__bytes *bytes) {
  if (bytes->len < HEADER + CHECKSUM || memcmp(bytes->data, MAGIC, sizeof MAGIC) != 0) return false;
  size_t len = bytes->len - CHECKSUM;
  segue__hash sum = segue__hash_bytes(bytes->data, len, (segue__hash){0, 0});
  return sum.lo == get_number(bytes->data + len, 8) &&
         sum.hi == get_number(bytes->data + len + 8, 8);
}

/* The checksum has held, so lengths are believed, but not past the end. */
static int parse_entries(archive *a, size_t count) {
  const char *at = a->bytes.data + HEADER, *end = a->bytes.data + a->bytes.len - CHECKSUM;
  a->entries = segue__calloc(count, sizeof *a->entries);
  if (!a->entries) return UV_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    if (end - at < 12) return UV_EINVAL;
    size_t path_len = get_number(at, 4), len = get_number(at + 4, 8);
    at += 12;
    if ((size_t)(end - at) < path_len || (size_t)(end - at) - path_len < len) return UV_EINVAL;
    a->entries[i].path = segue__strndup(at, path_len);
    if (!a->entries[i].path) return UV_ENOMEM;
    a->count = i + 1;
    a->entries[i].data = at + path_len;
    a->entries[i].len = len;
    at += path_len + len;
  }
  return 0;
}

/* UV_ENOENT: no such slot; UV_EINVAL: damaged. */
static int archive_read(const segue__last_good *lg, const char *path, archive **out) {
  segue_error ignored;
  archive *a = segue__calloc(1, sizeof *a);
  *out = NULL;
  if (!a) return UV_ENOMEM;
  int rc = lg->real->read_file(lg->real->data, path, SIZE_MAX / 4, &a->bytes, &ignored);
  if (!rc && !sum_is_right(&a->bytes)) rc = UV_EINVAL;
  if (!rc) {
    a->sequence = get_number(a->bytes.data + 8, 8);
    a->info.generation = get_number(a->bytes.data + 16, 8);
    a->info.wall_ms = (int64_t)get_number(a->bytes.data + 24, 8);
    memcpy(a->info.hash, a->bytes.data + 32, 32);
    rc = parse_entries(a, get_number(a->bytes.data + 64, 4));
  }
  if (rc) {
    archive_free(a);
    return rc;
  }
  *out = a;
  return 0;
}

static archive *newest(segue__last_good *lg, int *slot) {
  archive *best = NULL;
  for (int i = 0; i < 2; i++) {
    archive *a;
    int rc = archive_read(lg, lg->slots[i], &a);
    if (rc && rc != UV_ENOENT)
      segue__log(lg->log, SEGUE__WARN, "reload",
                 "a slot of the last good generation is damaged: the other one counts", "file", 's',
                 lg->slots[i], NULL);
    if (a && (!best || a->sequence > best->sequence)) {
      archive_free(best);
      best = a;
      *slot = i;
    } else {
      archive_free(a);
    }
  }
  return best;
}

/* What is replayed has no mode of its own: it was judged when it was read. */
static int file_mode(void *data, const char *path, unsigned *mode) {
  segue__last_good *lg = data;
  pthread_mutex_lock(&lg->lock);
  bool replays = lg->replay != NULL;
  pthread_mutex_unlock(&lg->lock);
  if (replays || !lg->real->file_mode) return UV_ENOTSUP;
  return lg->real->file_mode(lg->real->data, path, mode);
}

/* ---- Life ---- */

int segue__last_good_new(segue__last_good **out, const segue__os *os, const segue__log *log,
                         const char *folder, const char *pass) {
  *out = NULL;
  segue__last_good *lg = segue__calloc(1, sizeof *lg);
  if (!lg) return UV_ENOMEM;
  lg->real = os;
  lg->log = log;
  lg->refs = 1;
  lg->os = (segue__os){.data = lg,
                       .hold = hold,
                       .release = release,
                       .read_file = read_file,
                       .list_files = list_files,
                       .write_file = write_file,
                       .getenv = get_variable,
                       .environ = all_variables,
                       .file_mode = file_mode,
                       .spawn = os->spawn};
  pthread_mutex_init(&lg->lock, NULL);
  pthread_cond_init(&lg->wake, NULL);
  pthread_cond_init(&lg->idle, NULL);
  lg->pass = segue__strdup(pass);
  bool good = !pass || lg->pass;
  for (int i = 0; i < 2; i++) {
    segue__buf path;
    segue__buf_init(&path);
    segue__buf_addf(&path, "%s/last-good.%c", folder, 'a' + i);
    lg->slots[i] = path.failed ? NULL : segue__strdup(path.data);
    good = good && lg->slots[i];
    segue__buf_deinit(&path);
  }
  if (!good) {
    segue__last_good_free(lg);
    return UV_ENOMEM;
  }
  int slot = 1;
  archive *a = newest(lg, &slot); /* the next write goes over the older one */
  if (a) lg->sequence = a->sequence;
  lg->last_slot = slot;
  archive_free(a);
  *out = lg;
  return 0;
}

static void hold(void *data) {
  segue__last_good *lg = data;
  __atomic_add_fetch(&lg->refs, 1, __ATOMIC_RELAXED);
}

static void release(void *data) {
  segue__last_good *lg = data;
  if (__atomic_sub_fetch(&lg->refs, 1, __ATOMIC_ACQ_REL)) return;
  list_clear(&lg->now);
  list_clear(&lg->next.files);
  archive_free(lg->replay);
  segue__free(lg->slots[0]);
  segue__free(lg->slots[1]);
  segue__free(lg->pass);
  pthread_cond_destroy(&lg->wake);
  pthread_cond_destroy(&lg->idle);
  pthread_mutex_destroy(&lg->lock);
  segue__free(lg);
}

void segue__last_good_free(segue__last_good *lg) {
  if (!lg) return;
  if (lg->started) {
    pthread_mutex_lock(&lg->lock);
    lg->stopping = true;
    pthread_cond_signal(&lg->wake);
    pthread_mutex_unlock(&lg->lock);
    pthread_join(lg->thread, NULL);
  }
  release(lg);
}

const segue__os *segue__last_good_os(const segue__last_good *lg) {
  return &lg->os;
}

void segue__last_good_forget(segue__last_good *lg) {
  pthread_mutex_lock(&lg->lock);
  list_clear(&lg->now);
  pthread_mutex_unlock(&lg->lock);
}

void segue__last_good_save(segue__last_good *lg, uint64_t generation, const char hash[33],
                           int64_t wall_ms) {
  pthread_mutex_lock(&lg->lock);
  int rc = lg->now.incomplete ? UV_ENOMEM : start_thread(lg);
  if (rc) {
    segue__log(lg->log, SEGUE__ERROR, "reload", "the last good generation cannot be kept", "error",
               's', segue_strerror(rc), NULL);
  } else {
    list_clear(&lg->next.files);
    lg->next = (task){.files = lg->now, .waits = true};
    lg->next.info.generation = generation;
    lg->next.info.wall_ms = wall_ms;
    memcpy(lg->next.info.hash, hash, sizeof lg->next.info.hash);
    memset(&lg->now, 0, sizeof lg->now);
    pthread_cond_signal(&lg->wake);
  }
  pthread_mutex_unlock(&lg->lock);
}

int segue__last_good_flush(segue__last_good *lg) {
  pthread_mutex_lock(&lg->lock);
  while (lg->next.waits || lg->writing)
    pthread_cond_wait(&lg->idle, &lg->lock);
  int status = lg->status;
  pthread_mutex_unlock(&lg->lock);
  return status;
}

int segue__last_good_replay(segue__last_good *lg, segue__last_good_info *info) {
  int slot = 0;
  archive *a = newest(lg, &slot);
  if (!a) return UV_ENOENT;
  *info = a->info;
  pthread_mutex_lock(&lg->lock);
  archive_free(lg->replay);
  lg->replay = a;
  pthread_mutex_unlock(&lg->lock);
  return 0;
}

void segue__last_good_replay_stop(segue__last_good *lg) {
  pthread_mutex_lock(&lg->lock);
  archive_free(lg->replay);
  lg->replay = NULL;
  pthread_mutex_unlock(&lg->lock);
}

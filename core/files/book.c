/* SPDX-License-Identifier: MIT
 *
 * The book of destinations. An entry stays when its locks are released, because its version is
 * still the one that was written last.
 */
#include "book.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/explain.h"
#include "../os/fault.h"
#include "../os/file.h"
#include "book_internal.h"
#include "internal.h"

enum { BOOK_TRIES = 8 };

/* ---- Entries; the mutex is held ---- */

book_entry *segue__book_find(segue__file_book *book, const char *path) {
  size_t at = segue__path_index_find(&book->index, path, strlen(path));
  return at == SEGUE__PATH_NONE ? NULL : &book->entries[at];
}

static book_entry *book_get(segue__file_book *book, const char *path) {
  book_entry *entry = segue__book_find(book, path);
  if (entry) return entry;
  if (book->count == book->capacity) {
    size_t capacity = book->capacity ? book->capacity * 2 : 16;
    book_entry *entries = segue__realloc(book->entries, capacity * sizeof *entries);
    if (!entries) return NULL;
    book->entries = entries;
    book->capacity = capacity;
  }
  char *copy = segue__strdup(path);
  if (!copy) return NULL;
  if (segue__path_index_add(&book->index, copy, strlen(copy), book->count)) {
    segue__free(copy);
    return NULL;
  }
  entry = &book->entries[book->count++];
  *entry = (book_entry){.path = copy};
  return entry;
}

/* ---- Locks; the mutex is held ---- */

static book_folder *book_folder_find(segue__file_book *book, const char *path) {
  size_t len = segue__file_folder_len(path);
  for (size_t i = 0; i < book->folder_count; i++)
    if (!strncmp(book->folders[i].path, path, len) && !book->folders[i].path[len])
      return &book->folders[i];
  return NULL;
}

static int book_folder_open(segue__file_book *book, const char *path, book_folder **out,
                            segue_error *err) {
  *out = book_folder_find(book, path);
  if (*out) return 0;
  if (book->folder_count == book->folder_capacity) {
    size_t capacity = book->folder_capacity ? book->folder_capacity * 2 : 4;
    book_folder *folders = segue__realloc(book->folders, capacity * sizeof *folders);
    if (!folders) return UV_ENOMEM;
    book->folders = folders;
    book->folder_capacity = capacity;
  }
  segue__buf name;
  segue__buf_init(&name);
  char *folder = segue__strndup(path, segue__file_folder_len(path));
  segue__buf_addf(&name, "%s" SEGUE__FILE_LOCK, folder ? folder : "");
  int rc = folder && !name.failed ? 0 : UV_ENOMEM;
  int fd = rc ? -1 : open(name.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (!rc && fd < 0) rc = segue__explain(err, -errno, "write", name.data);
  segue__buf_deinit(&name);
  if (rc) {
    segue__free(folder);
    return rc;
  }
  *out = &book->folders[book->folder_count++];
  **out = (book_folder){folder, fd, 0};
  return 0;
}

static void book_folder_close(segue__file_book *book, book_folder *folder) {
  if (folder->locks) return;
  (void)close(folder->fd);
  segue__free(folder->path);
  *folder = book->folders[--book->folder_count];
}

/* The lock belongs to the open file, not to the process (F_OFD_SETLK): a classic lock would be lost
 * when any part of the process closes the lock file. */
static int book_lock(const book_folder *folder, const char *path, short type) {
  const char *name = path + segue__file_folder_len(path);
  segue__hash hash = segue__hash_bytes(name, strlen(name), (segue__hash){0, 0});
  struct flock lock = {.l_type = type,
                       .l_whence = SEEK_SET,
                       .l_start = (off_t)(hash.lo & INT64_MAX) >> 1,
                       .l_len = 1};
  if (!fcntl(folder->fd, F_OFD_SETLK, &lock)) return 0;
  return errno == EACCES || errno == EAGAIN ? UV_EBUSY : -errno;
}

/* A process that undoes the making of a folder removes the lock file in it. A lock on the removed
 * file holds nothing, because the next process makes a new file: so it is opened again. */
static int book_lock_open(segue__file_book *book, const char *path, book_folder **folder,
                          segue_error *err) {
  struct stat st;
  for (int tries = 0;; tries++) {
    int rc = book_folder_open(book, path, folder, err);
    if (rc) return rc;
    rc = book_lock(*folder, path, F_WRLCK);
    if (rc || (*folder)->locks || tries == BOOK_TRIES || fstat((*folder)->fd, &st) || st.st_nlink)
      return rc;
    book_folder_close(book, *folder);
  }
}

/* The module of the entry, without a lock. */
static int book_set_module(book_entry *entry, const char *module) {
  char *copy = segue__strdup(module);
  if (!copy) return UV_ENOMEM;
  segue__free(entry->module);
  entry->module = copy;
  return 0;
}

static int book_take_first(segue__file_book *book, book_entry *entry, const char *module,
                           segue_error *err) {
  book_folder *folder;
  char shown[SEGUE__SHOWN_MAX];
  const char *path = entry->path;
  int rc = book_lock_open(book, path, &folder, err);
  if (rc && !folder) return rc;
  if (rc == UV_EBUSY)
    segue__errorf(err, rc,
                  "%s is written by another segue: stop that one, or give the file to one of them",
                  segue__shown(path, shown));
  else if (rc)
    segue__explain(err, rc, "lock", path);
  entry->module = rc ? NULL : segue__strdup(module);
  if (!rc && !entry->module) {
    (void)book_lock(folder, path, F_UNLCK);
    rc = UV_ENOMEM;
  }
  if (!rc) folder->locks++;
  book_folder_close(book, folder);
  return rc;
}

static void book_untake(segue__file_book *book, book_entry *entry) {
  book_folder *folder = book_folder_find(book, entry->path);
  segue__free(entry->module);
  entry->module = NULL;
  entry->taken = 0;
  if (!folder) return;
  (void)book_lock(folder, entry->path, F_UNLCK);
  folder->locks--;
  book_folder_close(book, folder);
}

int segue__file_book_take(segue__file_book *book, const char *path, const char *module,
                          segue__file_part part, segue_error *err) {
  char shown[SEGUE__SHOWN_MAX];
  if (book->rehearses) return 0;
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = book_get(book, path);
  int rc = 0;
  if (err) memset(err, 0, sizeof *err);
  if (!entry)
    rc = UV_ENOMEM;
  else if (!entry->module && part == SEGUE__PART_MEMBER)
    rc = book_set_module(entry, module);
  else if (!entry->module)
    rc = book_take_first(book, entry, module, err);
  else if (strcmp(entry->module, module) != 0 && segue__book_leaves(book, entry))
    rc = book_set_module(entry, module); /* renamed; the lock stays: the old one is still live */
  else if (strcmp(entry->module, module) != 0)
    rc = segue__errorf(err, UV_EBUSY, "%s is written by module '%s' too: give it to one of them",
                       segue__shown(path, shown), entry->module);
  if (!rc) entry->taken++;
  if (rc && err && !err->code) segue__errorf(err, rc, "cannot lock %s: out of memory", path);
  pthread_mutex_unlock(&book->mutex);
  return rc;
}

void segue__file_book_release(segue__file_book *book, const char *path) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry && entry->module && !--entry->taken)
    book_untake(book, entry);
  else if (entry && entry->module && entry->owner && strcmp(entry->module, entry->owner) != 0)
    (void)book_set_module(
        entry, entry->owner); /* the reload that passed it to another module has failed */
  pthread_mutex_unlock(&book->mutex);
}

/* ---- Versions ---- */

bool segue__file_book_known(segue__file_book *book, const char *path, segue__file_version *out) {
  pthread_mutex_lock(&book->mutex);
  const book_entry *entry = segue__book_find(book, path);
  bool known = entry && entry->known;
  if (known) *out = entry->version;
  pthread_mutex_unlock(&book->mutex);
  return known;
}

bool segue__file_book_adopted(segue__file_book *book, const char *path,
                              const segue__file_version *version) {
  pthread_mutex_lock(&book->mutex);
  const book_entry *entry = segue__book_find(book, path);
  bool adopted = entry && entry->accepts && segue__file_version_equal(&entry->accepted, version);
  pthread_mutex_unlock(&book->mutex);
  return adopted;
}

int segue__file_book_note(segue__file_book *book, const char *path,
                          const segue__file_version *version) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = book_get(book, path);
  if (entry &&
      (entry->accepts || !entry->known || !segue__file_version_equal(&entry->version, version))) {
    entry->known = true;
    entry->accepts = false;
    entry->version = *version;
    segue__book_forget_folder(entry);
    book->changed = true;
  }
  if (entry) entry->sure = entry->drifted = false;
  pthread_mutex_unlock(&book->mutex);
  return entry ? 0 : UV_ENOMEM;
}

/* The accepted version and the owner are members of the version that was written last. */
static void book_write_version(const book_entry *entry, segue__buf *json) {
  segue__file_version_write(&entry->version, json);
  if (json->failed) return;
  json->len--; /* "}" */
  segue__book_write_owner(entry, json);
  if (entry->accepts) segue__buf_adds(json, ",\"accepted\":");
  if (entry->accepts) segue__file_version_write(&entry->accepted, json);
  segue__buf_adds(json, "}");
}

static void book_write(segue__file_book *book, segue__buf *json) {
  bool any = false;
  segue__buf_adds(json, "{");
  for (size_t i = 0; i < book->count; i++) {
    const book_entry *entry = &book->entries[i];
    if (!entry->known) continue;
    segue__buf_adds(json, any ? ",\n" : "\n");
    segue__json_string(json, entry->path, strlen(entry->path));
    segue__buf_adds(json, ":");
    book_write_version(entry, json);
    any = true;
  }
  segue__buf_adds(json, "\n}\n");
}

/* The mutex is not held while the disk is waited for: the control thread may take it. */
int segue__file_book_save(segue__file_book *book, segue_error *err) {
  segue__buf json;
  segue__buf_init(&json);
  pthread_mutex_lock(&book->mutex);
  bool due = book->changed && segue__file_book_record(book);
  if (due) book_write(book, &json);
  book->changed = false;
  pthread_mutex_unlock(&book->mutex);
  int rc = 0;
  if (due && json.failed)
    rc = segue__errorf(err, UV_ENOMEM, "cannot write %s: out of memory", book->record);
  if (due && !rc) {
    segue__write write = {.path = book->record, .data = json.data, .len = json.len, .mode = 0600};
    rc = segue__file_write(NULL, &write, err);
  }
  segue__buf_deinit(&json);
  if (rc) {
    pthread_mutex_lock(&book->mutex);
    book->changed = true;
    pthread_mutex_unlock(&book->mutex);
  }
  return rc;
}

static bool book_read_accepted(const segue_node *node, segue__file_version *out) {
  const segue_node *accepted = segue_node_get(node, "accepted");
  return accepted && segue__file_version_parse(accepted, out);
}

static int book_read_entries(segue__file_book *book, const segue_node *root) {
  for (size_t i = 0; i < segue_node_count(root); i++) {
    const char *path;
    segue__file_version version;
    const segue_node *node = segue_node_at(root, i, &path);
    if (*path != '/' || !segue__file_version_parse(node, &version)) continue;
    int rc = segue__file_book_note(book, path, &version);
    if (rc) return rc;
    book_entry *entry = segue__book_find(book, path);
    entry->accepts = book_read_accepted(node, &entry->accepted);
    rc = segue__book_read_owner(node, entry);
    if (rc) return rc;
  }
  return 0;
}

/* A start without memory fails. With an empty book every live file would count as one of another
 * program, and the first reload would leave a copy of each. */
static int book_read(segue__file_book *book) {
  segue__bytes bytes;
  segue__document *doc = NULL;
  int rc = segue__file_read(NULL, book->record, SEGUE__FILE_MAX, &bytes, NULL);
  if (rc) return segue__file_read_failed(rc) ? rc : 0;
  rc = segue__document_new(&doc, 1, "files", book->record, SEGUE__JSON, bytes.data, bytes.len);
  if (rc) return rc;
  rc = segue__document_parse(doc, NULL, NULL, NULL, NULL);
  if (!rc) rc = book_read_entries(book, &doc->root);
  book->changed = false;
  segue__document_unref(doc);
  return rc == UV_ENOMEM ? rc : 0;
}

const char *segue__file_book_record(const segue__file_book *book) {
  return book->rehearses ? NULL : book->record;
}

void segue__file_book_rehearse(segue__file_book *book) {
  book->rehearses = true;
}

bool segue__file_book_rehearses(const segue__file_book *book) {
  return book->rehearses;
}

int segue__file_book_new(segue__file_book **out, const char *record) {
  segue__file_book *book = segue__calloc(1, sizeof *book);
  *out = NULL;
  if (!book) return UV_ENOMEM;
  book->record = segue__strdup(record);
  if (record && !book->record) {
    segue__free(book);
    return UV_ENOMEM;
  }
  pthread_mutex_init(&book->mutex, NULL);
  int rc = record ? book_read(book) : 0;
  if (rc)
    segue__file_book_free(book);
  else
    *out = book;
  return rc;
}

void segue__file_book_free(segue__file_book *book) {
  if (!book) return;
  for (size_t i = 0; i < book->count; i++) {
    if (book->entries[i].module) book_untake(book, &book->entries[i]);
    segue__book_disown(&book->entries[i]);
    segue__free(book->entries[i].path);
  }
  segue__free(book->entries);
  segue__path_index_deinit(&book->index);
  segue__free(book->folders);
  segue__free(book->record);
  segue__names_deinit(&book->staying);
  pthread_mutex_destroy(&book->mutex);
  segue__free(book);
}

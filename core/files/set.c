/* SPDX-License-Identifier: MIT
 *
 * A set of files until it is staged. The staged file of each destination lies in the same folder,
 * and is complete (bytes, owner, mode, on disk) before the set is committed: what can fail because
 * of missing room, rights or features of the file system fails here, before anything has changed.
 * The exception is a mount point, whose previous version is copied at the commit.
 *
 * The cost in syncs is one for each staged file, and one for each folder after the commit. The
 * folder needs none after staging. A staged name that a power loss removes was not committed yet,
 * so the destination has the previous version, which is the one that the recovery then wants: the
 * next version is only wanted after the commit was synced.
 */
#include "set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/fault.h"
#include "../os/user.h"
#include "../os/write.h"
#include "internal.h"

#ifndef STATX_ATTR_MOUNT_ROOT /* older headers than the kernel */
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif

/* ---- Making a set ---- */

static void set_new_id(segue__file_set *set) {
  uint32_t random = 0;
  if (set->simulation)
    random = segue__simulation_next_set(set->simulation);
  else if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
    random = (uint32_t)uv_hrtime();
  snprintf(set->id, sizeof set->id, "%08x", random);
}

/* The link of a folder is the first file of its set. */
static int set_add_link(segue__file_set *set, const segue__file_folder *folder) {
  segue__set_file *link = segue__file_set_grow(set);
  if (!link) return UV_ENOMEM;
  *link = (segue__set_file){.part = SEGUE__PART_LINK,
                            .mode = folder->mode,
                            .backups = folder->backups,
                            .replace_link = true};
  link->to = segue__strdup(folder->path);
  link->owner = segue__strdup(folder->owner);
  return link->to && (link->owner || !folder->owner) ? 0 : UV_ENOMEM;
}

int segue__file_set_new(segue__file_set **out, const segue__file_set_options *options) {
  segue__file_set *set = segue__calloc(1, sizeof *set);
  *out = NULL;
  if (!set) return UV_ENOMEM;
  set->book = options->book;
  set->simulation = options->simulation;
  set->drift = options->drift;
  set->removed = options->removed;
  set->plan = options->plan;
  set->module = segue__strdup(options->module);
  set->folder = segue__strdup(options->folder);
  set->root = segue__strdup(options->root);
  if (!set->module || !set->folder || (options->root && !set->root)) {
    segue__file_set_free(set);
    return UV_ENOMEM;
  }
  set_new_id(set);
  if (options->members.path && !set->simulation && set_add_link(set, &options->members)) {
    segue__file_set_free(set);
    return UV_ENOMEM;
  }
  *out = set;
  return 0;
}

segue__set_file *segue__file_set_grow(segue__file_set *set) {
  if (set->count == set->capacity) {
    size_t capacity = set->capacity ? set->capacity * 2 : 8;
    segue__set_file *files = segue__realloc(set->files, capacity * sizeof *files);
    if (!files) return NULL;
    set->files = files;
    set->capacity = capacity;
  }
  segue__set_file *file = &set->files[set->count++];
  *file = (segue__set_file){0};
  return file;
}

int segue__file_set_add(segue__file_set *set, const segue__file_want *want, segue_error *err) {
  segue__set_file *file = segue__file_set_grow(set);
  if (!file) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", want->to);
  *file = (segue__set_file){.len = want->len,
                            .mode = want->mode,
                            .backups = want->backups,
                            .replace_link = want->replace_link,
                            .part = want->member ? SEGUE__PART_MEMBER : SEGUE__PART_FILE};
  file->to = segue__strdup(want->to);
  file->owner = segue__strdup(want->owner);
  file->data = segue__strndup(want->len ? want->data : "", want->len);
  if (!file->to || !file->data || (want->owner && !file->owner))
    return segue__errorf(err, UV_ENOMEM, "%s: out of memory", want->to);
  if (want->len > SEGUE__FILE_MAX)
    return segue__errorf(err, SEGUE_ELIMIT, "%s would have %zu bytes; the limit is %zu MiB",
                         want->to, want->len, SEGUE__FILE_MAX >> 20);
  return 0;
}

static void set_remove_staged(const segue__set_file *file) {
  char *spare = segue__file_beside(file->staged, "old");
  (void)unlink(file->staged);
  if (spare) (void)unlink(spare);
  segue__free(spare);
}

void segue__file_set_unbusy(const segue__file_set *set, segue__set_file *file) {
  if (file->busy) segue__file_book_end(set->book, file->path);
  file->busy = false;
}

/* A file that was moved and neither settled nor undone keeps its other version: its intent is open,
 * and the recovery needs it. */
void segue__file_set_discard(segue__file_set *set) {
  if (set->simulation) {
    segue__simulated_discard(set);
    return;
  }
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    bool drops = file->staged && !file->moved;
    if (drops && file->part != SEGUE__PART_MEMBER) set_remove_staged(file);
    if (drops && file->part == SEGUE__PART_LINK) segue__folder_discard(set, file);
    segue__file_set_unbusy(set, file);
    if (file->taken) segue__file_book_release(set->book, file->path);
    segue__free(file->staged);
    file->staged = NULL;
    file->taken = false;
  }
  segue__file_unmake(set);
  if (!set->begun) segue__file_side_drop(set);
}

void segue__file_set_free(segue__file_set *set) {
  if (!set) return;
  segue__file_set_discard(set);
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    segue__free(file->to);
    segue__free(file->owner);
    segue__free(file->data);
    segue__free(file->path);
    segue__free(file->kept);
    segue__free(file->second);
    segue__free(file->before);
    segue__free(file->generation);
  }
  segue__free(set->files);
  segue__path_index_deinit(&set->paths);
  segue__free(set->side);
  segue__free(set->module);
  segue__free(set->folder);
  segue__free(set->root);
  segue__free(set);
}

/* ---- Staging ---- */

/* Two destinations may be the same file by "..", links or a relative path: so the index has the
 * resolved ones. */
static int stage_unique(segue__file_set *set, size_t index, segue_error *err) {
  const segue__set_file *file = &set->files[index];
  size_t len = strlen(file->path), other = segue__path_index_find(&set->paths, file->path, len);
  if (other != SEGUE__PATH_NONE)
    return segue__errorf(err, SEGUE_EUSAGE, "%.200s and %.200s are the same file: remove one",
                         set->files[other].to, file->to);
  int rc = segue__path_index_add(&set->paths, file->path, len, index);
  return rc ? segue__errorf(err, rc, "%s: out of memory", file->to) : 0;
}

static int stage_take(segue__file_set *set, size_t index, segue_error *err) {
  segue__set_file *file = &set->files[index];
  bool member = file->part == SEGUE__PART_MEMBER;
  int rc = file->dropped ? 0
           : member      ? segue__folder_place(set, file, err)
                         : segue__file_place(set, file, err);
  if (!rc && !file->dropped) rc = stage_unique(set, index, err);
  if (!rc && set->book)
    rc = segue__file_book_take(set->book, file->path, set->module, file->part, err);
  file->taken = !rc && set->book;
  return file->dropped ? segue__file_dropped_stays(file, rc) : rc;
}

/* Attributes that would make the commit fail: nothing can rename a file that is immutable, and
 * nothing can rename over a mount point. */
static int stage_attributes(segue__set_file *file, segue_error *err) {
  struct statx stx;
  if (statx(AT_FDCWD, file->path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx))
    return errno == ENOENT ? 0 : segue__explain(err, -errno, "read", file->path);
  file->in_place = (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  if (!(stx.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND))) return 0;
  return segue__errorf(
      err, UV_EPERM, "cannot write %s: it is marked as %s; remove the mark with chattr -%c",
      file->path, stx.stx_attributes & STATX_ATTR_IMMUTABLE ? "immutable" : "append-only",
      stx.stx_attributes & STATX_ATTR_IMMUTABLE ? 'i' : 'a');
}

int segue__file_set_owner(const segue__set_file *file, unsigned *uid, unsigned *gid,
                          segue_error *err) {
  segue__user_entry entry;
  segue_error reason;
  const char *colon = strchr(file->owner, ':');
  char *name =
      segue__strndup(file->owner, colon ? (size_t)(colon - file->owner) : strlen(file->owner));
  if (!name) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  int rc = segue__user_find(name, colon && colon[1] ? colon + 1 : NULL, &entry, &reason);
  segue__free(name);
  if (rc) return segue__errorf(err, rc, "owner of %s: %s", file->to, reason.message);
  *uid = entry.user.uid;
  *gid = entry.user.gid;
  segue__user_entry_deinit(&entry);
  return 0;
}

/* known: the version that was written last, NULL: none. A mode or owner that the policy leaves open
 * is that of the live file, so a mode that an operator has set stays; a set that restores its files
 * restores it too. */
static int stage_want(const segue__file_set *set, segue__set_file *file,
                      const segue__file_version *known, segue_error *err) {
  bool simulated = set->simulation != NULL;
  bool restores = set->drift == SEGUE__DRIFT_RESTORE && known;
  const segue__file_version *previous = restores ? known : &file->previous;
  bool regular = previous->kind == SEGUE__FILE_REGULAR;
  segue__file_version *next = &file->next;
  next->kind = SEGUE__FILE_REGULAR;
  next->mode = file->mode ? file->mode : regular ? previous->mode : 0644;
  next->uid = regular ? previous->uid : simulated ? 0 : geteuid();
  next->gid = regular ? previous->gid : simulated ? 0 : getegid();
  next->size = file->len;
  next->hash = segue__hash_bytes(file->data, file->len, (segue__hash){0, 0});
  if (!file->owner) return 0;
  if (!simulated) return segue__file_set_owner(file, &next->uid, &next->gid, err);
  int rc = segue__simulation_owner(set->simulation, file->owner, &next->uid);
  return rc ? segue__errorf(err, rc, "%s: out of memory", file->to) : 0;
}

/* The version of another program stays until the rendered content, or the policy's mode or owner,
 * is another one than was written last. A file that was removed is written again: a volume that is
 * new and empty looks the same. */
static bool stage_adopts(const segue__file_set *set, const segue__set_file *file,
                         const segue__file_version *known) {
  const segue__file_version *next = &file->next;
  if (set->drift != SEGUE__DRIFT_ADOPT || !known || file->previous.kind == SEGUE__FILE_NONE)
    return false;
  if (segue__file_version_equal(known, &file->previous)) return false;
  return next->kind == known->kind && next->size == known->size &&
         segue__hash_equal(next->hash, known->hash) && (!file->mode || next->mode == known->mode) &&
         (!file->owner || (next->uid == known->uid && next->gid == known->gid));
}

bool segue__file_set_known(const segue__file_set *set, const char *path, segue__file_version *out) {
  if (set->simulation) return segue__simulation_known(set->simulation, path, out);
  return set->book && segue__file_book_known(set->book, path, out);
}

int segue__file_set_second(const segue__file_set *set, segue__set_file *file, segue_error *err) {
  if (set->simulation) {
    file->second = segue__simulated_kept_name(set->simulation, file->path);
    return file->second ? 0 : segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  }
  int rc = segue__file_kept_name(file->path, &file->second);
  if (rc != UV_EEXIST) return rc ? segue__errorf(err, rc, "%s: out of memory", file->to) : 0;
  return segue__errorf(err, rc,
                       "%s was written by another program, and that version cannot be kept: all "
                       "names for copies of it are in use; remove some of them",
                       file->path);
}

int segue__file_set_differs(segue__file_set *set, segue__set_file *file,
                            const segue__file_version *known, segue_error *err) {
  file->foreign = file->previous.kind != SEGUE__FILE_NONE &&
                  !(known && segue__file_version_equal(known, &file->previous));
  file->number = set->numbers++;
  file->staged = segue__file_staged_name(file->path, set->id, file->number);
  if (!file->staged) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  set->changed++;
  set->moves++;
  return file->foreign ? segue__file_set_second(set, file, err) : 0;
}

int segue__file_set_decide(segue__file_set *set, segue__set_file *file, segue_error *err) {
  segue__file_version version;
  bool found = segue__file_set_known(set, file->path, &version);
  const segue__file_version *known = found ? &version : NULL;
  int rc = stage_want(set, file, known, err);
  if (rc || (file->left = stage_adopts(set, file, known))) return rc;
  if (segue__file_version_equal(&file->previous, &file->next)) return 0;
  if (file->part == SEGUE__PART_MEMBER && !set->simulation) return 0;
  return segue__file_set_differs(set, file, known, err);
}

static int stage_file(segue__file_set *set, segue__set_file *file, segue_error *err) {
  segue__file_version version;
  int rc = stage_attributes(file, err);
  if (!rc) rc = segue__file_version_read(file->path, &file->previous, NULL, err);
  if (file->dropped) {
    bool found = segue__file_set_known(set, file->path, &version);
    rc = segue__file_dropped_stays(file, rc);
    return rc ? rc : segue__file_dropped_stage(set, file, found ? &version : NULL, err);
  }
  if (!rc) rc = segue__file_set_decide(set, file, err);
  return rc;
}

/* The content is on disk now, or equal to what is there: a live instance needs no copy of it. */
static void stage_forget_data(segue__file_set *set) {
  for (size_t i = 0; i < set->count; i++) {
    segue__free(set->files[i].data);
    set->files[i].data = NULL;
  }
}

int segue__file_set_stage(segue__file_set *set, segue_error *err) {
  int rc = 0;
  if (set->simulation) return segue__simulated_stage(set, err);
  for (size_t i = 0; i < set->count && !rc; i++)
    rc = stage_take(set, i, err);
  size_t wanted = set->count;
  if (!rc) rc = segue__file_dropped_add(set, err);
  for (size_t i = wanted; i < set->count && !rc; i++)
    rc = stage_take(set, i, err);
  if (!rc && set->book && !segue__file_book_rehearses(set->book)) segue__file_sweep(set);
  for (size_t i = 0; i < set->count && !rc; i++)
    if (set->files[i].part == SEGUE__PART_FILE) rc = stage_file(set, &set->files[i], err);
  if (!rc) rc = segue__file_stage_write(set, err);
  if (!rc) rc = segue__folder_stage(set, err);
  if (!rc) stage_forget_data(set);
  return rc ? rc : segue__file_side_stage(set, err);
}

int segue__file_set_read(const segue__file_set *set, const char *path, segue__file_version *version,
                         segue__bytes *bytes, segue_error *err) {
  if (set->simulation) return segue__simulated_read(set->simulation, path, version, bytes, err);
  return segue__file_version_read(path, version, bytes, err);
}

/* ---- For answers ---- */

size_t segue__file_set_count(const segue__file_set *set) {
  return set->count;
}

size_t segue__file_set_changed(const segue__file_set *set) {
  return set->changed;
}

void segue__file_set_get(const segue__file_set *set, size_t index, segue__file_status *out) {
  const segue__set_file *file = &set->files[index];
  bool link = file->part == SEGUE__PART_LINK;
  *out = (segue__file_status){.to = file->to,
                              .path = file->path,
                              .source = file->generation ? file->generation
                                        : file->staged   ? file->staged
                                                         : file->path,
                              .part = file->part,
                              .changed = file->staged != NULL,
                              .previous = file->previous,
                              .next = file->next,
                              .kept = file->kept,
                              .dropped = file->dropped,
                              .added = file->added,
                              .why = file->why,
                              .shown = !link || set->changed == set->moves};
}

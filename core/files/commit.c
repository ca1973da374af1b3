/* SPDX-License-Identifier: MIT
 *
 * Committing a staged set, and its end: undone, or settled.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/fault.h"
#include "folder_sync.h"
#include "internal.h"

/* ---- Commit ---- */

static int commit_failed(const segue__set_file *file, int rc, segue_error *err) {
  if (rc != UV_ENOENT) return segue__explain(err, rc, "write", file->path);
  return segue__errorf(err, rc, "%s was removed by another program during the reload: reload again",
                       file->path);
}

/* Another program may have changed the file after it was staged. The replaced version is in the
 * file `from`, so that change is not lost; undo brings it back. */
static int commit_check_replaced(segue__set_file *file, const char *from, segue_error *err) {
  segue__file_version replaced;
  int rc = segue__file_version_read(from, &replaced, NULL, err);
  bool no_file = rc == UV_EISDIR || rc == UV_EFTYPE; /* a folder or a device: undo moves it back */
  if (!no_file && (rc || segue__file_version_equal(&replaced, &file->previous))) return rc;
  if (!no_file) file->previous = replaced;
  return segue__errorf(err, SEGUE_EMODULE,
                       "%s was changed by another program during the reload: that change stays; "
                       "reload again",
                       file->path);
}

/* The replaced version of another program gets its lasting name now: settle runs after the intent
 * is removed, and a process that is killed before it leaves only staged names, which the next set
 * removes. Where a link is impossible (another owner, a file system without links) it is a copy. */
static int commit_keep(segue__set_file *file, const char *from, segue_error *err) {
  if (!file->foreign) return 0;
  int rc = SEGUE_FAULT("files.keep.link");
  if (!rc && link(from, file->second)) rc = -errno;
  if (rc) rc = segue__file_copy(from, file->second, NULL);
  file->linked = !rc;
  return rc ? segue__explain(err, rc, "keep the version of another program of", file->path) : 0;
}

/* The copy is made here, not while staging: it has to have what other programs wrote until now. A
 * program that writes between the copy and the first byte is noticed by the state of the file; one
 * that writes at the same time, by the bytes that are in the file afterwards. Then the commit
 * fails, and the undo keeps these bytes as a copy. */
static int commit_in_place(segue__set_file *file, const char *spare, segue_error *err) {
  segue__file_stamp copied;
  file->in_place = true;
  int rc = segue__file_copy(file->path, spare, &copied);
  if (rc) return commit_failed(file, rc, err);
  rc = commit_check_replaced(file, spare, err);
  if (!rc) rc = commit_keep(file, spare, err);
  if (rc) return rc;
  rc = segue__file_overwrite(file->path, file->staged, &copied);
  if (rc == UV_EAGAIN) { /* the undo leaves that version where it is */
    segue_error unread;
    (void)segue__file_version_read(file->path, &file->previous, NULL, &unread);
  }
  if (rc == UV_EAGAIN || rc == SEGUE_ECONFLICT)
    return segue__errorf(err, SEGUE_EMODULE,
                         "%s was written by another program at the same time: reload again",
                         file->path);
  return rc ? commit_failed(file, rc, err) : 0;
}

/* The previous version has the staged name. */
static int commit_replaced(segue__set_file *file, segue_error *err) {
  int rc = commit_check_replaced(file, file->staged, err);
  return rc ? rc : commit_keep(file, file->staged, err);
}

static int commit_replace(segue__set_file *file, segue_error *err) {
  char *spare = segue__file_beside(file->staged, "old");
  if (!spare) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  int rc = file->in_place ? UV_EBUSY : segue__file_exchange(file->path, file->staged, spare);
  if ((rc == UV_EBUSY || rc == UV_EXDEV) && file->part != SEGUE__PART_LINK)
    rc = commit_in_place(file, spare, err);
  else if (rc)
    rc = commit_failed(file, rc, err);
  else
    rc = commit_replaced(file, err);
  segue__free(spare);
  return rc;
}

/* The file moves to the staged name, where an undo and a recovery look for its version. */
static int commit_remove(segue__set_file *file, segue_error *err) {
  int rc = segue__file_move_new(file->path, file->staged);
  return rc ? commit_failed(file, rc, err) : commit_replaced(file, err);
}

static int commit_file(segue__file_set *set, segue__set_file *file, segue_error *err) {
  int rc = SEGUE_FAULT("files.commit");
  if (rc) return segue__explain(err, rc, "write", file->path);
  rc = file->part == SEGUE__PART_LINK ? segue__folder_begin(set, file, err) : 0;
  if (rc) return rc;
  segue__file_book_begin(set->book, file->path);
  file->busy = true;
  file->moved = true;
  if (file->next.kind == SEGUE__FILE_NONE) return commit_remove(file, err);
  if (file->previous.kind != SEGUE__FILE_NONE) return commit_replace(file, err);
  rc = segue__file_move_new(file->staged, file->path);
  if (rc == UV_EEXIST)
    return segue__errorf(err, rc,
                         "%s was made by another program during the reload: it stays; reload again",
                         file->path);
  return rc ? segue__explain(err, rc, "write", file->path) : 0;
}

/* Each folder once, for all that was renamed in it. */
static int commit_sync(const segue__file_set *set, segue_error *err) {
  segue__folders folders = {0};
  int rc = 0;
  for (size_t i = 0; i < set->count && !rc; i++)
    if (set->files[i].moved) rc = segue__folders_add(&folders, set->files[i].path);
  rc = rc ? segue__errorf(err, rc, "module '%s': out of memory", set->module)
          : segue__folders_sync(&folders, err);
  segue__folders_deinit(&folders);
  return rc;
}

int segue__file_set_commit(segue__file_set *set, segue_error *err) {
  int rc = 0;
  if (set->simulation) return segue__simulated_commit(set, err);
  set->begun = true;
  segue__file_side_sweep(set);
  for (size_t i = 0; i < set->count && !rc; i++)
    if (set->files[i].staged && set->files[i].part != SEGUE__PART_MEMBER)
      rc = commit_file(set, &set->files[i], err);
  return rc ? rc : commit_sync(set, err);
}

/* ---- Undo ---- */

static void undo_begin(const segue__set_file *file, segue__file_restore *out) {
  *out = (segue__file_restore){.path = file->path,
                               .staged = file->staged,
                               .wanted = &file->previous,
                               .other = &file->next,
                               .back = true};
}

static void undo_end(segue__file_set *set, segue__set_file *file,
                     const segue__file_restore *restore) {
  if (restore->kept) {
    segue__free(file->kept);
    file->kept = restore->kept;
  }
  if (restore->rc) return;
  file->moved = false;
  if (file->linked && !restore->left) (void)unlink(file->second);
  segue__file_set_unbusy(set, file);
  if (file->part == SEGUE__PART_LINK) segue__folder_end(set, file);
}

/* In the reverse order of the commit. *at: the number of files that are left to look at. */
static int undo_some(segue__file_set *set, segue__file_restore *list, size_t room, size_t *at,
                     segue_error *err) {
  size_t count = 0, from = *at;
  for (; *at > 0 && count < room; --*at)
    if (set->files[*at - 1].moved) undo_begin(&set->files[*at - 1], &list[count++]);
  int rc = segue__file_restore_all(list, count, err);
  for (size_t i = from, k = 0; i-- > *at;)
    if (set->files[i].moved) undo_end(set, &set->files[i], &list[k++]);
  return rc;
}

int segue__file_set_undo(segue__file_set *set, segue_error *err) {
  segue__file_restore one, *list;
  segue_error error;
  int rc = 0;
  if (set->simulation) return segue__simulated_undo(set, err);
  list = segue__calloc(set->count + 1, sizeof *list);
  for (size_t at = set->count; at > 0;) { /* without memory one by one */
    int failed = undo_some(set, list ? list : &one, list ? set->count : 1, &at, &error);
    if (failed && !rc && err) *err = error;
    if (failed && !rc) rc = failed;
  }
  segue__free(list);
  return rc;
}

/* ---- Settle ---- */

/* Moves the older backups on by one, then the replaced version becomes the newest. */
static int settle_backup(const segue__set_file *file, const char *replaced) {
  char number[16];
  int rc = 0;
  for (unsigned n = file->backups; n > 0 && !rc; n--) {
    snprintf(number, sizeof number, "%u", n);
    char *to = segue__file_hidden(file->path, "backup", number);
    snprintf(number, sizeof number, "%u", n - 1);
    char *from = n > 1 ? segue__file_hidden(file->path, "backup", number) : NULL;
    if (!to || (n > 1 && !from))
      rc = UV_ENOMEM;
    else if (rename(from ? from : replaced, to) && !(from && errno == ENOENT))
      rc = -errno;
    segue__free(from);
    segue__free(to);
  }
  return rc;
}

/* Backups past the number that is wanted, as when it was lowered. */
static void settle_drop_old(const segue__set_file *file) {
  for (unsigned n = file->backups + 1;; n++) {
    char number[16];
    snprintf(number, sizeof number, "%u", n);
    char *name = segue__file_hidden(file->path, "backup", number);
    bool removed = name && !unlink(name);
    segue__free(name);
    if (!removed) return;
  }
}

static int settle_replaced(segue__set_file *file, const char *replaced, segue_error *err) {
  int rc = 0;
  if (file->previous.kind == SEGUE__FILE_NONE) return 0;
  if (file->foreign) {
    segue__free(file->kept);
    file->kept = file->second;
    file->second = NULL;
    return 0;
  }
  if (file->dropped) return 0; /* its backups stay */
  rc = settle_backup(file, replaced);
  if (rc) segue__explain(err, rc, "back up", file->path);
  settle_drop_old(file);
  return rc;
}

static void settle_member(segue__set_file *file) {
  segue__free(file->staged);
  file->staged = NULL;
}

/* Removes the folders that no link leads to any more; link->kept gets the name under which one
 * stays that another program has changed. */
static void settle_folders(const segue__file_set *set, segue__set_file *link) {
  char *kept = link->taken ? segue__folder_collect(set, link) : NULL;
  segue__free(link->generation);
  link->generation = NULL;
  if (!kept) return;
  segue__free(link->kept);
  link->kept = kept;
}

static int settle_file(segue__set_file *file, segue_error *err) {
  char *spare = segue__file_beside(file->staged, "old");
  if (!spare) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  int rc = SEGUE_FAULT("files.settle");
  if (rc) segue__explain(err, rc, "settle", file->path);
  if (!rc) rc = settle_replaced(file, file->in_place ? spare : file->staged, err);
  /* A version that could not be kept is not removed. */
  if (!rc || !(file->foreign || file->backups)) {
    (void)unlink(file->staged);
    (void)unlink(spare);
  }
  segue__free(spare);
  segue__free(file->staged);
  file->staged = NULL;
  file->moved = false;
  return rc;
}

/* The book learns the version, the module and what was there before the first write. */
static void settle_note(const segue__file_set *set, const segue__set_file *file, bool replaced) {
  const char *before = NULL;
  if (file->kept)
    before = segue__file_hidden_number(file->kept, "changed");
  else if (replaced && file->previous.kind == SEGUE__FILE_NONE)
    before = "";
  segue__file_book_own(set->book, file->path, set->module, file->part, set->removed, before);
  if (!file->left) (void)segue__file_book_note(set->book, file->path, &file->next);
  if (file->part == SEGUE__PART_LINK)
    segue__file_book_note_folder(set->book, file->path, &file->attributes);
  segue__file_book_guard(set->book, file->path, set->drift);
}

int segue__file_set_settle(segue__file_set *set, segue_error *err) {
  segue_error error;
  int rc = 0;
  if (set->simulation) return segue__simulated_settle(set, err);
  while (set->made_count)
    segue__free(set->made[--set->made_count]); /* they stay */
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    bool replaced = file->staged != NULL, member = file->part == SEGUE__PART_MEMBER;
    int failed = replaced && !member ? settle_file(file, &error) : 0;
    if (member) settle_member(file);
    if (!file->dropped) settle_note(set, file, replaced);
    if (file->part == SEGUE__PART_LINK && !failed) settle_folders(set, file);
    int dropped = file->dropped ? segue__file_dropped_settle(set, file, &error) : 0;
    if (!failed) failed = dropped;
    segue__file_set_unbusy(set, file);
    if (failed && !rc && err) *err = error;
    if (failed && !rc) rc = failed;
  }
  segue__file_side_drop(set);
  int saved = segue__file_book_save(set->book, &error);
  if (saved && !rc && err) *err = error;
  return rc ? rc : saved;
}

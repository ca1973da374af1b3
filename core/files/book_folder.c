/* SPDX-License-Identifier: MIT
 *
 * Drift of folders of generations: files that another program has added to the live one, and its
 * mode and owner. The names are compared with the entries of the book, so no file is read.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "book_internal.h"
#include "folder_internal.h"

static bool look_same(const segue__folder_attributes *a, const segue__folder_attributes *b) {
  return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

void segue__book_forget_folder(book_entry *entry) {
  entry->folder_sure = false;
  entry->folder_found = entry->folder_adopted = (segue__hash){0, 0};
}

void segue__file_book_note_folder(segue__file_book *book, const char *path,
                                  const segue__folder_attributes *attributes) {
  pthread_mutex_lock(&book->mutex);
  book_entry *entry = segue__book_find(book, path);
  if (entry && !(entry->folder_known && look_same(&entry->folder, attributes))) {
    entry->folder_known = true;
    entry->folder = *attributes;
    segue__book_forget_folder(entry);
  }
  pthread_mutex_unlock(&book->mutex);
}

/* ---- Reading ---- */

static bool look_is_member(segue__file_book *book, const char *folder, const char *name) {
  char *path = segue__folder_inside(folder, name);
  pthread_mutex_lock(&book->mutex);
  const book_entry *entry = path ? segue__book_find(book, path) : NULL;
  bool member = entry && entry->known && entry->part == SEGUE__PART_MEMBER;
  pthread_mutex_unlock(&book->mutex);
  segue__free(path);
  return member || !path; /* without memory nothing is reported */
}

/* The sum over the names does not depend on their order, which readdir may change. */
static void look_add(book_folder_look *out, size_t *added, char first[NAME_MAX + 1],
                     const char *name) {
  segue__hash hash = segue__hash_bytes(name, strlen(name), (segue__hash){0, 0});
  out->state.hi += hash.hi;
  out->state.lo += hash.lo | 1;
  if (!*added || strcmp(name, first) < 0) snprintf(first, NAME_MAX + 1, "%s", name);
  ++*added;
}

static int look_names(segue__file_book *book, const char *path, DIR *dir, book_folder_look *out) {
  char first[NAME_MAX + 1] = "", shown[SEGUE__SHOWN_MAX];
  size_t added = 0;
  for (;;) {
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (!entry && errno) return -errno;
    if (!entry) break;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    if (!look_is_member(book, path, entry->d_name)) look_add(out, &added, first, entry->d_name);
  }
  if (added == 1)
    snprintf(out->how, sizeof out->how, "%.100s was added to it", segue__shown(first, shown));
  else if (added)
    snprintf(out->how, sizeof out->how, "%.100s and %zu more were added to it",
             segue__shown(first, shown), added - 1);
  return 0;
}

static void look_attributes(const segue__folder_attributes *want, const struct stat *st,
                            book_folder_look *out) {
  const segue__folder_attributes have = {st->st_mode & 07777, st->st_uid, st->st_gid};
  if (look_same(&have, want)) return;
  out->state = segue__hash_bytes(&have, sizeof have, out->state);
  if (*out->how) return;
  if (have.mode != want->mode)
    snprintf(out->how, sizeof out->how, "its mode was changed from %04o to %04o", want->mode,
             have.mode);
  else
    snprintf(out->how, sizeof out->how, "its owner was changed from %u:%u to %u:%u", want->uid,
             want->gid, have.uid, have.gid);
}

/* A folder that is gone is drift of its files. */
static int look_read(segue__file_book *book, const char *path, const char *folder,
                     const segue__folder_attributes *want, book_folder_look *out) {
  struct stat st;
  segue__file_stamp after;
  out->sure = segue__book_stamp_is_sure(&out->stamp);
  DIR *dir = opendir(folder);
  if (!dir) return segue__file_read_failed(-errno) ? -errno : 0;
  int rc = fstat(dirfd(dir), &st) ? -errno : look_names(book, path, dir, out);
  if (!rc) look_attributes(want, &st, out);
  closedir(dir);
  if (segue__file_stamp_read(folder, &after) || !segue__file_stamp_equal(&out->stamp, &after))
    out->sure = false;
  return rc;
}

int segue__book_folder_look(segue__file_book *book, const char *path,
                            const segue__file_stamp *before, book_folder_look *out) {
  char target[PATH_MAX];
  *out = (book_folder_look){0};
  pthread_mutex_lock(&book->mutex);
  const book_entry *entry = segue__book_find(book, path);
  bool known = entry && entry->folder_known;
  segue__folder_attributes want = known ? entry->folder : (segue__folder_attributes){0};
  pthread_mutex_unlock(&book->mutex);
  ssize_t len = known ? readlink(path, target, sizeof target - 1) : -1;
  if (len < 0) return 0;
  target[len] = 0;
  if (!segue__folder_is_of(path, target)) return 0;
  char *folder = segue__folder_beside(path, target);
  if (!folder) return UV_ENOMEM;
  int rc = segue__file_stamp_read(folder, &out->stamp);
  out->same = !rc && before && segue__file_stamp_equal(&out->stamp, before);
  if (!rc && !out->same) rc = look_read(book, path, folder, &want, out);
  segue__free(folder);
  return segue__file_read_failed(rc) ? rc : 0;
}

bool segue__file_book_folder_fits(segue__file_book *book, const char *path) {
  book_folder_look look;
  const segue__hash none = {0, 0};
  return segue__book_folder_look(book, path, NULL, &look) != 0 ||
         segue__hash_equal(look.state, none);
}

/* SPDX-License-Identifier: MIT
 *
 * Folders of generations on the disk: their names, and what is in them. The name of a folder has
 * the hash of its attributes and of the name and version of each file, so a folder that was changed
 * is known without any record.
 */
#include "folder_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/fault.h"
#include "../os/hex.h"

#define FOLDER_WORD ".gen-"

/* ---- Names ---- */

/* Joins "/etc/nginx/" and a name. NULL: no memory. */
char *segue__folder_beside(const char *path, const char *name) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_add(&text, path, segue__file_folder_len(path));
  segue__buf_adds(&text, name);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

char *segue__folder_inside(const char *folder, const char *name) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s/%s", folder, name);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

static bool folder_hash_ends(const char *name, const char *end) {
  const size_t word = strlen(FOLDER_WORD);
  if (*name != '.' || end - name < (ptrdiff_t)(word + SEGUE__FOLDER_HASH + 2)) return false;
  const char *hash = end - SEGUE__FOLDER_HASH;
  return strspn(hash, SEGUE__HEX_DIGITS) >= SEGUE__FOLDER_HASH &&
         !memcmp(hash - word, FOLDER_WORD, word);
}

/* Returns the end of the hash in the name of a generation, where nothing or "-2" follows; NULL: it
 * is no such name. */
static const char *folder_name_end(const char *name, size_t len) {
  const char *end = name + len, *number = end;
  if (folder_hash_ends(name, end)) return end;
  while (number > name && isdigit((unsigned char)number[-1]))
    number--;
  bool numbered = number < end && number > name && number[-1] == '-';
  return numbered && folder_hash_ends(name, number - 1) ? number - 1 : NULL;
}

/* Whether the name is ".segue.d.gen-HASH" for /etc/nginx/segue.d. */
bool segue__folder_is_of(const char *path, const char *name) {
  const char *end = folder_name_end(name, strlen(name));
  size_t prefix = segue__file_hidden_prefix(path, "gen", name);
  return end && prefix && (size_t)(end - name) == prefix + SEGUE__FOLDER_HASH;
}

int segue__folder_check_path(const char *to, const char *path, segue_error *err) {
  for (const char *at = path; (at = strchr(at, '/')); at++) {
    size_t len = strcspn(at + 1, "/");
    if (at[1 + len] != '/' || !folder_name_end(at + 1, len)) continue;
    return segue__errorf(err, UV_EACCES,
                         "cannot write %.200s: it is in the folder %.*s, which changes as a whole: "
                         "make it a file of the module that has this folder; if no module has it "
                         "any more, remove the symbolic link that leads to it first",
                         to, (int)(len < 200 ? len : 200), at + 1);
  }
  return 0;
}

/* ---- The content of a folder ---- */

void segue__folder_content_deinit(segue__folder_content *content) {
  for (size_t i = 0; i < content->count; i++)
    segue__free(content->entries[i].name);
  segue__free(content->entries);
  *content = (segue__folder_content){0};
}

static int content_order(const void *a, const void *b) {
  const segue__folder_entry *x = a, *y = b;
  return strcmp(x->name, y->name);
}

void segue__folder_content_sort(segue__folder_content *content) {
  if (content->count)
    qsort(content->entries, content->count, sizeof *content->entries, content_order);
}

segue__folder_entry *segue__folder_content_add(segue__folder_content *content, const char *name) {
  if (content->count == content->capacity) {
    size_t capacity = content->capacity ? content->capacity * 2 : 16;
    segue__folder_entry *entries = segue__realloc(content->entries, capacity * sizeof *entries);
    if (!entries) return NULL;
    content->entries = entries;
    content->capacity = capacity;
  }
  segue__folder_entry *entry = &content->entries[content->count];
  *entry = (segue__folder_entry){.name = segue__strdup(name)};
  if (!entry->name) return NULL;
  content->count++;
  return entry;
}

const segue__folder_entry *segue__folder_content_find(const segue__folder_content *content,
                                                      const char *name) {
  const segue__folder_entry key = {.name = (char *)name};
  return content->count ? bsearch(&key, content->entries, content->count, sizeof key, content_order)
                        : NULL;
}

/* A file that this process cannot read for a reason of its own, or for a fault of the disk, is not
 * one that another program has changed. */
static bool content_failed(int rc) {
  return segue__file_read_failed(rc) || rc == UV_EIO;
}

static int content_read_entry(segue__folder_content *content, const char *folder,
                              const char *name) {
  segue__folder_entry *entry = segue__folder_content_add(content, name);
  char *path = segue__folder_inside(folder, name);
  int rc = entry && path ? segue__file_version_read(path, &entry->version, NULL, NULL) : UV_ENOMEM;
  segue__free(path);
  if (content_failed(rc)) return rc;
  if (rc || entry->version.kind == SEGUE__FILE_NONE) content->odd = true;
  return 0;
}

/* readdir returns NULL at the end and on failure alike, and only errno differs. */
static int content_read_entries(segue__folder_content *content, const char *folder, DIR *dir) {
  int rc = 0;
  while (!rc) {
    errno = 0;
    const struct dirent *entry = readdir(dir);
    if (!entry) return -errno;
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      rc = content_read_entry(content, folder, entry->d_name);
  }
  return rc;
}

int segue__folder_content_read(segue__folder_content *content, const char *folder) {
  struct stat st;
  int rc = SEGUE_FAULT("files.folder.read");
  *content = (segue__folder_content){0};
  if (rc) return rc;
  if (lstat(folder, &st)) return content_failed(-errno) ? -errno : 0;
  content->exists = true;
  DIR *dir = S_ISDIR(st.st_mode) ? opendir(folder) : NULL;
  if (!dir && S_ISDIR(st.st_mode) && content_failed(-errno)) rc = -errno;
  content->odd = !dir;
  content->mode = st.st_mode & 07777;
  content->uid = st.st_uid;
  content->gid = st.st_gid;
  if (dir) rc = content_read_entries(content, folder, dir);
  if (dir) closedir(dir);
  segue__folder_content_sort(content);
  if (rc) segue__folder_content_deinit(content);
  return rc;
}

bool segue__folder_content_same_attributes(const segue__folder_content *a,
                                           const segue__folder_content *b) {
  return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid;
}

bool segue__folder_content_equal(const segue__folder_content *a, const segue__folder_content *b) {
  if (!a->exists || !b->exists || a->odd || b->odd || a->count != b->count) return false;
  for (size_t i = 0; i < a->count; i++)
    if (strcmp(a->entries[i].name, b->entries[i].name) != 0 ||
        !segue__file_version_equal(&a->entries[i].version, &b->entries[i].version))
      return false;
  return segue__folder_content_same_attributes(a, b);
}

/* The digits in the name of a folder with this content. */
int segue__folder_content_hash(const segue__folder_content *content,
                               char out[SEGUE__FOLDER_HASH + 1]) {
  segue__buf text;
  char hex[33];
  segue__buf_init(&text);
  segue__buf_addf(&text, "%04o %u %u\n", content->mode, content->uid, content->gid);
  for (size_t i = 0; i < content->count; i++) {
    segue__buf_add(&text, content->entries[i].name, strlen(content->entries[i].name) + 1);
    segue__file_version_write(&content->entries[i].version, &text);
  }
  int rc = text.failed ? UV_ENOMEM : 0;
  if (!rc) {
    segue__hash_hex(segue__hash_bytes(text.data, text.len, (segue__hash){0, 0}), hex);
    snprintf(out, SEGUE__FOLDER_HASH + 1, "%.*s", SEGUE__FOLDER_HASH, hex);
  }
  segue__buf_deinit(&text);
  return rc;
}

int segue__folder_content_is_intact(const segue__folder_content *content, const char *name,
                                    bool *intact) {
  char hash[SEGUE__FOLDER_HASH + 1];
  const char *end = folder_name_end(name, strlen(name));
  *intact = false;
  if (!end || !content->exists || content->odd) return 0;
  int rc = segue__folder_content_hash(content, hash);
  *intact = !rc && !strncmp(end - SEGUE__FOLDER_HASH, hash, SEGUE__FOLDER_HASH);
  return rc;
}

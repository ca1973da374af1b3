/* SPDX-License-Identifier: MIT
 *
 * The names that segue uses beside a destination. All begin with a dot, so that a server which
 * reads all of "conf.d" that ends in ".conf", or all files of a folder, does not read them.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../os/hex.h"
#include "folder_internal.h"

/* A name is cut so that the staged one is never too long where the final one is not. */
enum { NAMES_SHOWN = 200 };

static char *names_make(const char *path, const char *end) {
  const char *name = strrchr(path, '/') + 1;
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_add(&text, path, (size_t)(name - path));
  segue__buf_addf(&text, ".%.*s.%s", NAMES_SHOWN, name, end);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

size_t segue__file_folder_len(const char *path) {
  return (size_t)(strrchr(path, '/') + 1 - path);
}

char *segue__file_staged_name(const char *path, const char *id, size_t index) {
  char end[64];
  snprintf(end, sizeof end, "segue-%s-%zu", id, index);
  return names_make(path, end);
}

char *segue__file_beside(const char *staged, const char *end) {
  segue__buf text;
  segue__buf_init(&text);
  segue__buf_addf(&text, "%s.%s", staged, end);
  if (!text.failed) return text.data;
  segue__buf_deinit(&text);
  return NULL;
}

char *segue__file_hidden(const char *path, const char *word, const char *number) {
  char end[64];
  snprintf(end, sizeof end, "%s-%s", word, number);
  return names_make(path, end);
}

/* Allocates nothing: if memory is short, a name that could not be compared must not count as one of
 * another program. */
size_t segue__file_hidden_prefix(const char *path, const char *word, const char *entry) {
  const char *name = strrchr(path, '/') + 1;
  size_t shown = strnlen(name, NAMES_SHOWN), len = strlen(word);
  if (entry[0] != '.' || strncmp(entry + 1, name, shown) != 0 || entry[1 + shown] != '.') return 0;
  if (strncmp(entry + 2 + shown, word, len) != 0 || entry[2 + shown + len] != '-') return 0;
  return shown + len + 3;
}

const char *segue__file_hidden_number(const char *name, const char *word) {
  return strrchr(name, '.') + 1 + strlen(word) + 1;
}

/* ---- Staged files that were left ---- */

/* Returns whether the text that follows the name of a destination is the end of a staged name:
 * ".segue-", digits as of segue__file_staged_name, and perhaps an end. */
static bool names_is_staged_end(const char *rest) {
  if (strncmp(rest, ".segue-", 7) != 0) return false;
  rest += 7;
  if (strspn(rest, SEGUE__HEX_DIGITS) != SEGUE__FILE_ID || rest[SEGUE__FILE_ID] != '-')
    return false;
  rest += SEGUE__FILE_ID + 1;
  return strspn(rest, "0123456789") > 0;
}

/* A name that was cut may be of any destination that begins with it. */
static bool names_has_cut(const segue__file_set *set, const char *path, size_t len) {
  for (size_t i = 0; i < set->count; i++)
    if (!strncmp(set->files[i].path, path, len) && !strchr(set->files[i].path + len, '/'))
      return true;
  return false;
}

/* Returns whether an entry of the folder is a staged file of one of the destinations. A destination
 * may itself have ".segue-" in its name, so each place where the staged end may begin is tried. */
static bool names_is_left(const segue__file_set *set, const segue__path_index *paths,
                          const char *folder, const char *entry) {
  char path[PATH_MAX];
  if (entry[0] != '.') return false;
  for (const char *end = entry + 1; (end = strstr(end, ".segue-")); end++) {
    int len = snprintf(path, sizeof path, "%s%.*s", folder, (int)(end - entry - 1), entry + 1);
    if (!names_is_staged_end(end) || len >= (int)sizeof path) continue;
    if (segue__path_index_find(paths, path, (size_t)len) != SEGUE__PATH_NONE) return true;
    if (end - entry - 1 == NAMES_SHOWN && names_has_cut(set, path, (size_t)len)) return true;
  }
  return false;
}

/* Returns whether an entry of the folder is a staged file of this destination. */
static bool names_is_staged(const char *entry, const char *path) {
  const char *name = strrchr(path, '/') + 1;
  size_t len = strnlen(name, NAMES_SHOWN);
  return entry[0] == '.' && !strncmp(entry + 1, name, len) && names_is_staged_end(entry + 1 + len);
}

bool segue__file_is_left(const char *path) {
  bool found = false;
  char *folder = segue__strndup(path, segue__file_folder_len(path));
  DIR *dir = folder ? opendir(folder) : NULL;
  for (const struct dirent *entry; dir && !found && (entry = readdir(dir));)
    found = names_is_staged(entry->d_name, path) || segue__folder_is_of(path, entry->d_name);
  if (dir) closedir(dir);
  segue__free(folder);
  return found;
}

static void names_sweep_folder(const segue__file_set *set, const segue__path_index *paths,
                               const char *path, size_t folder_len) {
  char *folder = segue__strndup(path, folder_len);
  DIR *dir = folder ? opendir(folder) : NULL;
  for (const struct dirent *entry; dir && (entry = readdir(dir));)
    if (names_is_left(set, paths, folder, entry->d_name) &&
        !segue__folder_remove_left(dirfd(dir), entry->d_name))
      (void)unlinkat(dirfd(dir), entry->d_name, 0);
  if (dir) closedir(dir);
  segue__free(folder);
}

void segue__file_sweep(const segue__file_set *set) {
  segue__path_index paths = {0}, folders = {0};
  for (size_t i = 0; i < set->count; i++) {
    const char *path = set->files[i].path;
    if (segue__path_index_add(&paths, path, strlen(path), i)) break;
  }
  for (size_t i = 0; i < set->count; i++) {
    const char *path = set->files[i].path;
    size_t len = segue__file_folder_len(path), before = folders.count;
    if (set->files[i].part == SEGUE__PART_MEMBER) continue;
    if (segue__path_index_add(&folders, path, len, i)) break; /* the next stage sweeps */
    if (folders.count > before) names_sweep_folder(set, &paths, path, len);
  }
  segue__path_index_deinit(&paths);
  segue__path_index_deinit(&folders);
}

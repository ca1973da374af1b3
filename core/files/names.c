/* SPDX-License-Identifier: MIT
 *
 * The names that segue uses beside a destination. All begin with a dot, so that a server which
 * reads all of "conf.d" that ends in ".conf", or all files of a folder, does not read them.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

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

const char *segue__file_hidden_number(const char *name, const char *word) {
  return strrchr(name, '.') + 1 + strlen(word) + 1;
}

/* ---- Staged files that were left ---- */

/* Returns whether an entry of the folder is a staged file of this destination: ".NAME.segue-",
 * digits as of segue__file_staged_name, and perhaps an end. */
static bool names_is_staged(const char *entry, const char *path) {
  const char *name = strrchr(path, '/') + 1;
  size_t len = strnlen(name, NAMES_SHOWN);
  if (entry[0] != '.' || strncmp(entry + 1, name, len) != 0) return false;
  const char *rest = entry + 1 + len;
  if (strncmp(rest, ".segue-", 7) != 0) return false;
  rest += 7;
  if (strspn(rest, "0123456789abcdef") != SEGUE__FILE_ID || rest[SEGUE__FILE_ID] != '-')
    return false;
  rest += SEGUE__FILE_ID + 1;
  return strspn(rest, "0123456789") > 0;
}

static void names_sweep_folder(const segue__file_set *set, const char *path, size_t folder_len) {
  char *folder = segue__strndup(path, folder_len);
  DIR *dir = folder ? opendir(folder) : NULL;
  for (const struct dirent *entry; dir && (entry = readdir(dir));) {
    if (!strstr(entry->d_name, ".segue-")) continue;
    for (size_t i = 0; i < set->count; i++) {
      const char *other = set->files[i].path;
      if (strncmp(other, path, folder_len) != 0 || strchr(other + folder_len, '/')) continue;
      if (!names_is_staged(entry->d_name, other)) continue;
      if (!segue__folder_remove_left(dirfd(dir), entry->d_name))
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
      break;
    }
  }
  if (dir) closedir(dir);
  segue__free(folder);
}

void segue__file_sweep(const segue__file_set *set) {
  for (size_t i = 0; i < set->count; i++) {
    const char *path = set->files[i].path;
    size_t len = (size_t)(strrchr(path, '/') + 1 - path);
    bool seen = set->files[i].part == SEGUE__PART_MEMBER;
    for (size_t j = 0; j < i && !seen; j++)
      seen = !strncmp(set->files[j].path, path, len) && !strchr(set->files[j].path + len, '/');
    if (!seen) names_sweep_folder(set, path, len);
  }
}

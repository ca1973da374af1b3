/* SPDX-License-Identifier: MIT
 *
 * The namespace is made by unshare(1) and mount(8). A folder becomes an overlay of two lower
 * folders, the staged files above the live ones: without an upper folder it cannot be written, so a
 * check that writes to the live files fails instead of changing them.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"

/* Arguments: a folder for the work; for each folder of the set "+ FOLDER STAGED NAME STAGED NAME
 * ..."; "--"; the command. All overlays are made before the first one is put in its place: an
 * overlay made of a folder inside of another overlay is refused by the kernel at the third level.
 */
static const char check_script[] =
    "t=$1; shift; n=0\n"
    "mount -t tmpfs -o mode=0755 tmpfs \"$t\" || exit 125\n"
    "while [ \"$1\" = + ]; do\n"
    "  f=$2; shift 2; n=$((n+1)); d=$t/$n; mkdir \"$d\" \"$d.top\" || exit 125\n"
    "  chown \"$(stat -c %u:%g \"$f\")\" \"$d\"; chmod \"$(stat -c %a \"$f\")\" \"$d\"\n"
    "  while [ \"$1\" != + ] && [ \"$1\" != -- ]; do\n"
    "    cp -p -- \"$1\" \"$d/$2\" || exit 125; shift 2\n"
    "  done\n"
    "  mount -t overlay -o \"lowerdir=$d:$f\" overlay \"$d.top\" || exit 125\n"
    "  printf '%s\\n' \"$f\" >>\"$t/folders\"\n"
    "done\n"
    "n=0; : >>\"$t/folders\"\n"
    "while IFS= read -r f; do\n"
    "  n=$((n+1)); mount -o bind \"$t/$n.top\" \"$f\" || exit 125\n"
    "done <\"$t/folders\"\n"
    "shift; exec \"$@\"\n";

/* ---- A list of words ---- */

static int check_push(segue__file_command *command, const char *word, size_t len) {
  char **words = segue__realloc(command->words, (command->count + 2) * sizeof *words);
  if (!words) return UV_ENOMEM;
  command->words = words;
  words[command->count] = segue__strndup(word, len);
  words[command->count + 1] = NULL;
  return words[command->count] ? (command->count++, 0) : UV_ENOMEM;
}

static int check_add(segue__file_command *command, const char *word) {
  return check_push(command, word, strlen(word));
}

/* ---- Placeholders ---- */

static void check_add_path(segue__buf *out, const char *path, bool shell) {
  if (!shell) {
    segue__buf_adds(out, path);
    return;
  }
  segue__buf_addc(out, '\'');
  for (; *path; path++)
    if (*path == '\'')
      segue__buf_adds(out, "'\\''");
    else
      segue__buf_addc(out, *path);
  segue__buf_addc(out, '\'');
}

/* A destination may be written as in the policy, or relative to its folder. */
static bool check_is_named(const segue__file_status *file, const char *name, size_t len) {
  size_t to = strlen(file->to);
  if (strlen(file->path) == len && !strncmp(file->path, name, len)) return true;
  if (to < len || strncmp(file->to + to - len, name, len) != 0) return false;
  return to == len || file->to[to - len - 1] == '/';
}

static int check_staged(const segue__file_set *set, const char *name, size_t len, bool shell,
                        segue__buf *out, segue_error *err) {
  segue__file_status file;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (!check_is_named(&file, name, len)) continue;
    check_add_path(out, file.source, shell);
    return 0;
  }
  return segue__errorf(err, SEGUE_EUSAGE, "check: {staged:%.*s} names no file of this module",
                       (int)(len < 200 ? len : 200), name);
}

static int check_only(const segue__file_set *set, bool shell, segue__buf *out, segue_error *err) {
  segue__file_status file;
  size_t count = segue__file_set_count(set);
  if (count != 1)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "check: {{.src}} stands for one file, and this module has %zu: write "
                         "{staged:PATH}",
                         count);
  segue__file_set_get(set, 0, &file);
  check_add_path(out, file.source, shell);
  return 0;
}

static int check_word(const segue__file_set *set, const char *word, bool shell, segue__buf *out,
                      bool *found, segue_error *err) {
  static const char staged[] = "{staged:", only[] = "{{.src}}";
  int rc = 0;
  while (*word && !rc) {
    const char *end = !strncmp(word, staged, strlen(staged)) ? strchr(word, '}') : NULL;
    if (end) {
      const char *name = word + strlen(staged);
      rc = check_staged(set, name, (size_t)(end - name), shell, out, err);
      word = end + 1;
      *found = true;
    } else if (!strncmp(word, only, strlen(only))) {
      rc = check_only(set, shell, out, err);
      word += strlen(only);
      *found = true;
    } else {
      segue__buf_addc(out, *word++);
    }
  }
  return rc;
}

static int check_substitute(const segue__file_set *set, const segue__file_command *check,
                            segue__file_command *out, bool *found, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < check->count && !rc; i++) {
    segue__buf word;
    segue__buf_init(&word);
    rc = check_word(set, check->words[i], check->count == 1, &word, found, err);
    if (!rc && (word.failed || check_push(out, word.len ? word.data : "", word.len)))
      rc = segue__errorf(err, UV_ENOMEM, "check: out of memory");
    segue__buf_deinit(&word);
  }
  return rc;
}

/* ---- The namespace ---- */

static bool check_same_folder(const segue__file_status *a, const segue__file_status *b) {
  size_t len = (size_t)(strrchr(a->path, '/') - a->path);
  return !strncmp(a->path, b->path, len + 1) && !strchr(b->path + len + 1, '/');
}

static int check_add_folder(segue__file_command *out, const segue__file_set *set, size_t first) {
  segue__file_status file, other;
  segue__file_set_get(set, first, &file);
  size_t len = (size_t)(strrchr(file.path, '/') - file.path);
  int rc = check_add(out, "+");
  if (!rc) rc = check_push(out, file.path, len ? len : 1);
  for (size_t i = first; i < segue__file_set_count(set) && !rc; i++) {
    segue__file_set_get(set, i, &other);
    if (!other.changed || !check_same_folder(&file, &other)) continue;
    rc = check_add(out, other.source);
    if (!rc) rc = check_add(out, other.path + len + 1);
  }
  return rc;
}

static size_t check_folder_len(const segue__file_set *set, size_t index) {
  segue__file_status file;
  segue__file_set_get(set, index, &file);
  return (size_t)(strrchr(file.path, '/') - file.path);
}

static bool check_is_first(const segue__file_set *set, size_t index) {
  segue__file_status file, other;
  segue__file_set_get(set, index, &file);
  if (!file.changed) return false;
  for (size_t i = 0; i < index; i++) {
    segue__file_set_get(set, i, &other);
    if (other.changed && check_same_folder(&file, &other)) return false;
  }
  return true;
}

/* An outer folder comes before those in it, which its overlay would hide. The path of an outer
 * folder is the shorter one. */
static int check_add_folders(segue__file_command *out, const segue__file_set *set) {
  size_t count = segue__file_set_count(set), found = 0;
  size_t *firsts = segue__calloc(count + 1, sizeof *firsts);
  if (!firsts) return UV_ENOMEM;
  for (size_t i = 0; i < count; i++) {
    if (!check_is_first(set, i)) continue;
    size_t at = found++, len = check_folder_len(set, i);
    for (; at && check_folder_len(set, firsts[at - 1]) > len; at--)
      firsts[at] = firsts[at - 1];
    firsts[at] = i;
  }
  int rc = 0;
  for (size_t i = 0; i < found && !rc; i++)
    rc = check_add_folder(out, set, firsts[i]);
  segue__free(firsts);
  return rc;
}

/* ":", "," and "\" separate the options of an overlay. */
static int check_folders_fit(const segue__file_set *set, segue_error *err) {
  segue__file_status file;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    size_t len = (size_t)(strrchr(file.path, '/') - file.path);
    if (strcspn(file.path, ":,\\") < len)
      return segue__errorf(err, SEGUE_EUSAGE,
                           "check: the folder of %.200s has one of : , \\ in its name, so a check "
                           "cannot see staged files in their places: write {staged:PATH} in it",
                           file.path);
  }
  return 0;
}

static int check_wrap(segue__check_words *out, const segue__file_set *set,
                      const segue__file_command *check, segue_error *err) {
  const char *const root[] = {"unshare", "-m", "sh", "-c", check_script, "segue-check"};
  const char *const user[] = {"unshare", "-rm", "sh", "-c", check_script, "segue-check"};
  segue__file_command *command = &out->command;
  int rc = check_folders_fit(set, err);
  if (rc) return rc;
  snprintf(out->folder, sizeof out->folder, "/tmp/segue-check-XXXXXX");
  for (size_t i = 0; i < sizeof root / sizeof *root && !rc; i++)
    rc = check_add(command, geteuid() ? user[i] : root[i]);
  if (!rc) rc = check_add(command, out->folder); /* mkdtemp changes both */
  if (!rc) rc = check_add_folders(command, set);
  if (!rc) rc = check_add(command, "--");
  if (check->count == 1 && !rc) rc = check_add(command, "sh");
  if (check->count == 1 && !rc) rc = check_add(command, "-c");
  for (size_t i = 0; i < check->count && !rc; i++)
    rc = check_add(command, check->words[i]);
  if (rc) return segue__errorf(err, rc, "check: out of memory");
  char *folder = command->words[sizeof root / sizeof *root];
  if (!mkdtemp(folder))
    return segue__errorf(err, UV_EIO, "check: no folder can be made in /tmp: make room there");
  memcpy(out->folder, folder, strlen(folder));
  return 0;
}

int segue__check_words_make(segue__check_words *out, const segue__file_set *set,
                            const segue__file_command *check, segue_error *err) {
  bool found = false;
  memset(out, 0, sizeof *out);
  int rc = check_substitute(set, check, &out->command, &found, err);
  if (!rc && !found) {
    segue__file_command_clear(&out->command);
    rc = check_wrap(out, set, check, err);
  }
  if (rc) segue__file_command_clear(&out->command);
  return rc;
}

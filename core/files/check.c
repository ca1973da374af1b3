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
#include "internal.h"

/* Arguments: a folder for the work; user and group of the command, or empty texts; for each folder
 * of the set "+ FOLDER STAGED NAME STAGED NAME ..."; "--"; the command. STAGED "-": the file is
 * removed; a device 0, 0 in an upper folder of an overlay hides the file below it. All overlays are
 * made before the first one is put in its place: an overlay made of a folder inside of another
 * overlay is refused by the kernel at the third level. The folder in which the command runs is
 * entered again at the end, because it may be one of those that an overlay covers now. */
#define CHECK_LONG "--" /* begins an option of setpriv(1), which has no short ones */
static const char check_script[] =
    "t=$1; u=$2; g=$3; shift 3; n=0; w=$(pwd -P; echo .); w=${w%??}\n"
    "mount -t tmpfs -o mode=0755 tmpfs \"$t\" || exit 125\n"
    "while [ \"$1\" = + ]; do\n"
    "  f=$2; shift 2; n=$((n+1)); d=$t/$n; mkdir \"$d\" \"$d.top\" || exit 125\n"
    "  chown \"$(stat -c %u:%g \"$f\")\" \"$d\"; chmod \"$(stat -c %a \"$f\")\" \"$d\"\n"
    "  while [ \"$1\" != + ] && [ \"$1\" != -- ]; do\n"
    "    if [ \"$1\" = - ]; then mknod \"$d/$2\" c 0 0; else cp -dp -- \"$1\" \"$d/$2\"; fi || "
    "exit "
    "125\n"
    "    shift 2\n"
    "  done\n"
    "  mount -t overlay -o \"lowerdir=$d:$f\" overlay \"$d.top\" || exit 125\n"
    "  printf '%s\\n' \"$f\" >>\"$t/folders\"\n"
    "done\n"
    "n=0; : >>\"$t/folders\"\n"
    "while IFS= read -r f; do\n"
    "  n=$((n+1)); mount -o bind \"$t/$n.top\" \"$f\" || exit 125\n"
    "done <\"$t/folders\"\n"
    "shift; cd -- \"$w\" || exit 125; [ -n \"$u\" ] || exec \"$@\"\n"
    "e=$(getent passwd \"$u\") || { echo \"there is no such user: $u\" >&2; exit 125; }\n"
    "IFS=: read -r USER _ _ p _ HOME _ <<END\n$e\nEND\n"
    "LOGNAME=$USER; export HOME USER LOGNAME\n"
    "exec setpriv " CHECK_LONG "reuid \"$USER\" " CHECK_LONG "regid \"${g:-$p}\" " CHECK_LONG
    "init-groups -- \"$@\"\n";

/* ---- A list of words ---- */

static int check_push(segue__effect_texts *texts, const char *word, size_t len) {
  char **items = segue__realloc(texts->items, (texts->count + 1) * sizeof *items);
  if (!items) return UV_ENOMEM;
  texts->items = items;
  items[texts->count] = segue__strndup(word, len);
  return items[texts->count] ? (texts->count++, 0) : UV_ENOMEM;
}

static int check_add(segue__effect_texts *texts, const char *word) {
  return check_push(texts, word, strlen(word));
}

static void check_free_texts(segue__effect_texts *texts) {
  for (size_t i = 0; i < texts->count; i++)
    segue__free(texts->items[i]);
  segue__free(texts->items);
  *texts = (segue__effect_texts){0};
}

/* ---- Placeholders ---- */

/* A line for the shell gets the path in a variable of its environment: a value of a variable is
 * never read as shell text, wherever in the line it stands. The quotes around the reference only
 * keep the path one word, so it does no harm that the quotes are not followed through every
 * construct of the shell. */
enum { CHECK_DEPTH = 32 };
typedef struct check_line {
  segue__effect *effect; /* that gets the variables */
  segue__buf *out;
  char quote;              /* of the shell, around the place that is written: ' or " or 0 */
  char outer[CHECK_DEPTH]; /* the quotes around each "(" that is open */
  size_t depth;
  bool shell, found;
} check_line;

static int check_add_variable(check_line *line, const char *path) {
  segue__effect_pairs *env = &line->effect->env;
  char name[32];
  snprintf(name, sizeof name, "segue_staged_%zu", env->count + 1);
  segue_option_pair *items = segue__realloc(env->items, (env->count + 1) * sizeof *items);
  if (!items) return UV_ENOMEM;
  env->items = items;
  items[env->count] = (segue_option_pair){segue__strdup(name), segue__strdup(path)};
  env->count++;
  if (!items[env->count - 1].key || !items[env->count - 1].value) return UV_ENOMEM;
  const char *around = line->quote == '"' ? "" : line->quote ? "'\"" : "\"";
  segue__buf_addf(line->out, "%s${%s}%s", around, name, line->quote == '\'' ? "\"'" : around);
  return 0;
}

static int check_add_path(check_line *line, const char *path) {
  line->found = true;
  if (line->shell) return check_add_variable(line, path);
  segue__buf_adds(line->out, path);
  return 0;
}

/* Follows the quotes of the shell past one character; a command in "$(...)" has quotes of its own.
 */
static void check_follow(check_line *line, const char *word) {
  bool opens = *word == '(' && (!line->quote || (line->quote == '"' && line->out->len &&
                                                 line->out->data[line->out->len - 1] == '$'));
  if (opens && line->depth < CHECK_DEPTH) {
    line->outer[line->depth++] = line->quote;
    line->quote = 0;
  } else if (*word == ')' && !line->quote && line->depth) {
    line->quote = line->outer[--line->depth];
  } else if (line->quote && *word == line->quote) {
    line->quote = 0;
  } else if (!line->quote && (*word == '\'' || *word == '"')) {
    line->quote = *word;
  }
}

/* Copies a character, or two with a backslash. */
static const char *check_copy(check_line *line, const char *word) {
  if (*word == '\\' && word[1] && line->quote != '\'')
    segue__buf_addc(line->out, *word++);
  else
    check_follow(line, word);
  segue__buf_addc(line->out, *word++);
  return word;
}

/* A destination may be written as in the policy, or relative to its folder. */
static bool check_is_named(const segue__file_status *file, const char *name, size_t len) {
  size_t to = strlen(file->to);
  if (strlen(file->path) == len && !strncmp(file->path, name, len)) return true;
  if (to < len || strncmp(file->to + to - len, name, len) != 0) return false;
  return to == len || file->to[to - len - 1] == '/';
}

static int check_staged(const segue__file_set *set, const char *name, size_t len, check_line *line,
                        segue_error *err) {
  segue__file_status file;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (file.dropped || !check_is_named(&file, name, len)) continue;
    return check_add_path(line, file.source);
  }
  return segue__errorf(err, SEGUE_EUSAGE, "check: {staged:%.*s} names no file of this module",
                       (int)(len < 200 ? len : 200), name);
}

static int check_only(const segue__file_set *set, check_line *line, segue_error *err) {
  segue__file_status file, only = {0};
  size_t count = 0;
  for (size_t i = 0; i < segue__file_set_count(set); i++) {
    segue__file_set_get(set, i, &file);
    if (!file.dropped && file.part != SEGUE__PART_LINK && !count++) only = file;
  }
  if (count != 1)
    return segue__errorf(err, SEGUE_EUSAGE,
                         "check: {{.src}} is one file, and this module has %zu: write "
                         "{staged:PATH}",
                         count);
  return check_add_path(line, only.source);
}

static const char staged[] = "{staged:", only[] = "{{.src}}";

static bool check_has_name(const char *word) {
  return word && (strstr(word, staged) || strstr(word, only));
}

bool segue__check_names_files(const segue__effect *check) {
  bool found = check_has_name(check->shell);
  for (size_t i = 0; i < check->argv.count && !found; i++)
    found = check_has_name(check->argv.items[i]);
  return found;
}

static int check_word(const segue__file_set *set, const char *word, check_line *line,
                      segue_error *err) {
  int rc = 0;
  while (*word && !rc) {
    const char *end = !strncmp(word, staged, strlen(staged)) ? strchr(word, '}') : NULL;
    if (end) {
      const char *name = word + strlen(staged);
      rc = check_staged(set, name, (size_t)(end - name), line, err);
      word = end + 1;
    } else if (!strncmp(word, only, strlen(only))) {
      rc = check_only(set, line, err);
      word += strlen(only);
    } else {
      word = check_copy(line, word);
    }
  }
  if (rc == UV_ENOMEM || line->out->failed)
    return segue__errorf(err, UV_ENOMEM, "check: out of memory");
  return rc;
}

/* Puts the paths into a copy of the word at *text. */
static int check_replace(const segue__file_set *set, char **text, check_line *line,
                         segue_error *err) {
  segue__buf word;
  segue__buf_init(&word);
  segue__buf_adds(&word, "");
  line->out = &word;
  int rc = check_word(set, *text, line, err);
  line->out = NULL;
  if (rc) {
    segue__buf_deinit(&word);
    return rc;
  }
  segue__free(*text);
  *text = word.data;
  return 0;
}

static int check_substitute(const segue__file_set *set, segue__effect *effect, bool *found,
                            segue_error *err) {
  check_line line = {.effect = effect, .shell = effect->shell != NULL};
  int rc = effect->shell ? check_replace(set, &effect->shell, &line, err) : 0;
  for (size_t i = 0; i < effect->argv.count && !rc; i++)
    rc = check_replace(set, &effect->argv.items[i], &line, err);
  *found = line.found;
  return rc;
}

/* ---- The namespace ---- */

static bool check_same_folder(const segue__file_status *a, const segue__file_status *b) {
  size_t len = (size_t)(strrchr(a->path, '/') - a->path);
  return !strncmp(a->path, b->path, len + 1) && !strchr(b->path + len + 1, '/');
}

/* Returns whether the overlay must show this file. A member of a folder of generations is seen
 * through the link of its folder. */
static bool check_moves(const segue__file_status *file) {
  return file->changed && file->part != SEGUE__PART_MEMBER;
}

static int check_add_folder(segue__effect_texts *out, const segue__file_set *set, size_t first) {
  segue__file_status file, other;
  segue__file_set_get(set, first, &file);
  size_t len = (size_t)(strrchr(file.path, '/') - file.path);
  int rc = check_add(out, "+");
  if (!rc) rc = check_push(out, file.path, len ? len : 1);
  for (size_t i = first; i < segue__file_set_count(set) && !rc; i++) {
    segue__file_set_get(set, i, &other);
    if (!check_moves(&other) || !check_same_folder(&file, &other)) continue;
    rc = check_add(out, other.next.kind == SEGUE__FILE_NONE ? "-" : set->files[i].staged);
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
  if (!check_moves(&file)) return false;
  for (size_t i = 0; i < index; i++) {
    segue__file_set_get(set, i, &other);
    if (check_moves(&other) && check_same_folder(&file, &other)) return false;
  }
  return true;
}

/* An outer folder comes before those in it, which its overlay would hide. The path of an outer
 * folder is the shorter one. */
static int check_add_folders(segue__effect_texts *out, const segue__file_set *set) {
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

static int check_wrap_words(segue__effect_texts *out, const segue__file_set *set,
                            const segue__effect *effect, const char *folder) {
  const char *const head[] = {"unshare",
                              geteuid() ? "-rm" : "-m",
                              "sh",
                              "-c",
                              check_script,
                              "segue-check",
                              folder,
                              effect->user ? effect->user : "",
                              effect->group ? effect->group : ""};
  int rc = 0;
  for (size_t i = 0; i < sizeof head / sizeof *head && !rc; i++)
    rc = check_add(out, head[i]);
  if (!rc) rc = check_add_folders(out, set);
  if (!rc) rc = check_add(out, "--");
  const char *const shell[] = {"sh", "-c", effect->shell};
  for (size_t i = 0; effect->shell && i < sizeof shell / sizeof *shell && !rc; i++)
    rc = check_add(out, shell[i]);
  for (size_t i = 0; i < effect->argv.count && !rc; i++)
    rc = check_add(out, effect->argv.items[i]);
  return rc;
}

/* The wrapper changes to the user itself, because only root can mount. */
static void check_take_words(segue__effect *effect, segue__effect_texts *words) {
  check_free_texts(&effect->argv);
  effect->argv = *words;
  segue__free(effect->shell);
  segue__free(effect->user);
  segue__free(effect->group);
  effect->shell = effect->user = effect->group = NULL;
}

/* The words of a command that does nothing, below an overlay without staged files. */
static int check_try_words(segue__effect_texts *out, const segue__file_set *set,
                           const char *folder) {
  const char *path = set->files[0].path, *slash = strrchr(path, '/');
  const char *const head[] = {
      "unshare", geteuid() ? "-rm" : "-m", "sh", "-c", check_script, "segue-check", folder, "", "",
      "+"};
  int rc = 0;
  for (size_t i = 0; i < sizeof head / sizeof *head && !rc; i++)
    rc = check_add(out, head[i]);
  if (!rc) rc = check_push(out, path, slash == path ? 1 : (size_t)(slash - path));
  if (!rc) rc = check_add(out, "--");
  return rc ? rc : check_add(out, "true");
}

static int check_wrap(segue__check_words *out, const segue__file_set *set, bool only_try,
                      segue_error *err) {
  segue__effect_texts words = {0};
  char folder[] = "/tmp/segue-check-XXXXXX";
  int rc = check_folders_fit(set, err);
  if (rc) return rc;
  if (out->effect.user && geteuid())
    return segue__errorf(err, SEGUE_EUSAGE,
                         "check: the option user needs a segue that runs as root");
  if (!mkdtemp(folder))
    return segue__errorf(err, UV_EIO, "check: no folder can be made in /tmp: make room there");
  rc = only_try ? check_try_words(&words, set, folder)
                : check_wrap_words(&words, set, &out->effect, folder);
  if (rc) {
    check_free_texts(&words);
    (void)rmdir(folder);
    return segue__errorf(err, rc, "check: out of memory");
  }
  check_take_words(&out->effect, &words);
  memcpy(out->folder, folder, sizeof folder);
  return 0;
}

int segue__check_words_make(segue__check_words *out, const segue__file_set *set,
                            const segue__effect *check, segue_error *err) {
  bool found = false;
  memset(out, 0, sizeof *out);
  int rc = segue__effect_copy(check, NULL, 0, &out->effect, err);
  if (!rc) rc = check_substitute(set, &out->effect, &found, err);
  out->names_staged = found;
  if (!rc && !found && !set->simulation) rc = check_wrap(out, set, false, err);
  if (rc) segue__effect_clear(&out->effect);
  return rc;
}

int segue__check_words_try(segue__check_words *out, const segue__file_set *set,
                           const segue__effect *check, segue_error *err) {
  memset(out, 0, sizeof *out);
  int rc = segue__effect_copy(check, NULL, 0, &out->effect, err);
  if (!rc) rc = check_wrap(out, set, true, err);
  if (rc) segue__effect_clear(&out->effect);
  return rc;
}

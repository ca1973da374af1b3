/* SPDX-License-Identifier: MIT
 *
 * The intent of a large set. The journal is one small file, so an intent that is longer than
 * SIDE_FROM is a file of its own beside the record of the book, on disk before the set is staged
 * completely, thus before the journal names it. The journal has its path and hash.
 *
 * When it goes. After a settle no journal on disk names it. After an undo the journal on disk may
 * name it still, so it stays: the next commit of the module, whose own intent has replaced that
 * journal, removes it.
 */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/fault.h"
#include "../os/file.h"
#include "internal.h"

#define SIDE_FROM ((size_t)32 << 10)
#define SIDE_MAX ((size_t)32 << 20) /* some 100,000 files */

/* "RECORD.intent-MODULE-": the name is a hash, because a module may be called "a/b". */
static int side_prefix(const segue__file_set *set, segue__buf *out) {
  char hash[33];
  segue__hash_hex(segue__hash_bytes(set->module, strlen(set->module), (segue__hash){0, 0}), hash);
  segue__buf_addf(out, "%s.intent-%.16s-", segue__file_book_record(set->book), hash);
  return out->failed ? UV_ENOMEM : 0;
}

static int side_write(segue__file_set *set, const segue__buf *json, segue_error *err) {
  segue__buf path;
  segue__buf_init(&path);
  int rc = side_prefix(set, &path);
  segue__buf_adds(&path, set->id);
  if (rc || path.failed) {
    segue__buf_deinit(&path);
    return segue__errorf(err, UV_ENOMEM, "module '%s': out of memory", set->module);
  }
  set->side = path.data;
  set->side_hash = segue__hash_bytes(json->data, json->len, (segue__hash){0, 0});
  segue__write write = {.path = set->side, .data = json->data, .len = json->len, .mode = 0600};
  return segue__file_write(NULL, &write, err);
}

int segue__file_side_stage(segue__file_set *set, segue_error *err) {
  segue__buf json;
  int rc = SEGUE_FAULT("files.side");
  if (rc || !set->changed || !set->book || !segue__file_book_record(set->book)) return rc;
  segue__buf_init(&json);
  segue__file_set_intent(set, &json);
  if (json.failed)
    rc = segue__errorf(err, UV_ENOMEM, "module '%s': out of memory", set->module);
  else if (json.len > SIDE_MAX)
    rc = segue__errorf(err, SEGUE_ELIMIT,
                       "module '%s': %zu files change at once, which is more than its intent has "
                       "room for: divide them among several modules",
                       set->module, set->changed);
  else if (json.len > SIDE_FROM)
    rc = side_write(set, &json, err);
  segue__buf_deinit(&json);
  return rc;
}

void segue__file_side_write(const segue__file_set *set, segue__buf *json) {
  char hash[33];
  segue__hash_hex(set->side_hash, hash);
  segue__buf_addf(json, "{\"id\":\"%s\",\"hash\":\"%s\",\"side\":", set->id, hash);
  segue__json_string(json, set->side, strlen(set->side));
  segue__buf_adds(json, "}");
}

void segue__file_side_sweep(const segue__file_set *set) {
  segue__buf prefix;
  if (!set->book || !segue__file_book_record(set->book)) return;
  segue__buf_init(&prefix);
  const char *slash = side_prefix(set, &prefix) ? NULL : strrchr(prefix.data, '/');
  char *folder = slash ? segue__strndup(prefix.data, (size_t)(slash + 1 - prefix.data)) : NULL;
  const char *own = set->side ? strrchr(set->side, '/') + 1 : "";
  DIR *dir = folder ? opendir(folder) : NULL;
  for (const struct dirent *entry; dir && (entry = readdir(dir));)
    if (!strncmp(entry->d_name, slash + 1, strlen(slash + 1)) && strcmp(entry->d_name, own) != 0)
      (void)unlinkat(dirfd(dir), entry->d_name, 0);
  if (dir) closedir(dir);
  segue__free(folder);
  segue__buf_deinit(&prefix);
}

void segue__file_side_drop(segue__file_set *set) {
  if (set->side) (void)unlink(set->side);
  segue__free(set->side);
  set->side = NULL;
}

int segue__file_side_read(const segue_node *root, segue__bytes *out, segue_error *err) {
  const char *path = NULL, *text = NULL;
  segue__hash hash;
  *out = (segue__bytes){0};
  if (segue_node_string(segue_node_get(root, "side"), &path, NULL)) return 0;
  if (segue_node_string(segue_node_get(root, "hash"), &text, NULL) ||
      !segue__hash_parse(text, &hash))
    return segue__errorf(err, UV_EINVAL, "the intent of the files cannot be read");
  int rc = segue__file_read(NULL, path, SIDE_MAX, out, err);
  if (rc || segue__hash_equal(hash, segue__hash_bytes(out->data, out->len, (segue__hash){0, 0})))
    return rc;
  segue__free(out->data);
  *out = (segue__bytes){0};
  return segue__errorf(err, UV_EINVAL, "%s is damaged: it has another checksum", path);
}

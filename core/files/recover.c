/* SPDX-License-Identifier: MIT
 *
 * The intent of a set, and how a later process finishes or undoes it.
 */
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/explain.h"
#include "../os/hex.h"
#include "internal.h"

void segue__file_set_intent(const segue__file_set *set, segue__buf *json) {
  bool any = false;
  if (set->side) {
    segue__file_side_write(set, json);
    return;
  }
  segue__buf_addf(json, "{\"id\":\"%s\",\"files\":[", set->id);
  size_t count = 0;
  for (size_t i = 0; i < set->count; i++) {
    const segue__set_file *file = &set->files[i];
    if (!file->staged || file->part == SEGUE__PART_MEMBER) continue;
    segue__buf_adds(json, any ? ",{\"path\":" : "{\"path\":");
    segue__json_string(json, file->path, strlen(file->path));
    segue__buf_adds(json, ",\"previous\":");
    segue__file_version_write(&file->previous, json);
    segue__buf_adds(json, ",\"next\":");
    segue__file_version_write(&file->next, json);
    if (file->second) /* its end alone: the name before it may be cut inside of a character */
      segue__buf_addf(json, ",\"second\":\"%s\"",
                      segue__file_hidden_number(file->second, "changed"));
    /* A link is the first file of its set, and is staged last. */
    if (file->number != count++) segue__buf_addf(json, ",\"number\":%zu", file->number);
    segue__buf_adds(json, "}");
    any = true;
  }
  segue__buf_adds(json, "]}");
}

typedef struct recover_walk {
  const char *id;
  bool finish;
  segue__buf *report;
  segue_error *err;
  int rc;
} recover_walk;

static void recover_failed(recover_walk *walk, int rc, const segue_error *error) {
  if (!walk->rc && walk->err) *walk->err = *error;
  if (!walk->rc) walk->rc = rc;
}

static void recover_report(const recover_walk *walk, const segue__file_restore *restore) {
  char shown[SEGUE__SHOWN_MAX];
  segue__buf *report = walk->report;
  if (!report || (!restore->kept && !restore->left)) return;
  segue__buf_addf(report, "%s%s was changed by another program: ", report->len ? "; " : "",
                  segue__shown(restore->path, shown));
  if (restore->kept)
    segue__buf_addf(report, "that version is kept as %s", restore->kept);
  else
    segue__buf_adds(report, "it stays as it is");
}

/* After an undo the live file is the previous version again. It had a second name during the
 * change: removes that name. */
static int recover_second(const segue_node *node, const char *path,
                          const segue__file_version *previous, segue_error *err) {
  segue__file_version version;
  const char *number = NULL;
  if (segue_node_string(segue_node_get(node, "second"), &number, NULL) ||
      number[strspn(number, "0123456789TZ-")])
    return 0;
  char *second = segue__file_hidden(path, "changed", number);
  if (!second) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", path);
  int rc = segue__file_version_read(second, &version, NULL, err);
  if (!rc && segue__file_version_equal(&version, previous)) (void)unlink(second);
  segue__free(second);
  return segue__file_read_failed(rc) ? rc : 0;
}

typedef struct recover_item {
  const segue_node *node;
  segue__file_version previous, next;
} recover_item;

typedef struct recover_list {
  recover_item *items;
  segue__file_restore *restores;
  size_t count, room;
} recover_list;

/* Reads file number `index` of the intent. */
static void recover_add(recover_walk *walk, recover_list *list, const segue_node *node,
                        size_t index) {
  recover_item *item = &list->items[list->count];
  const char *path = NULL;
  segue_error error;
  item->node = node;
  if (segue_node_string(segue_node_get(node, "path"), &path, NULL) || *path != '/' ||
      !segue__file_version_parse(segue_node_get(node, "previous"), &item->previous) ||
      !segue__file_version_parse(segue_node_get(node, "next"), &item->next)) {
    segue__errorf(&error, UV_EINVAL, "file %zu of the intent cannot be read", index + 1);
    recover_failed(walk, UV_EINVAL, &error);
    return;
  }
  int64_t number = (int64_t)index;
  (void)segue_node_int(segue_node_get(node, "number"), &number);
  char *staged = segue__file_staged_name(path, walk->id, (size_t)number);
  if (!staged) {
    segue__errorf(&error, UV_ENOMEM, "%s: out of memory", path);
    recover_failed(walk, UV_ENOMEM, &error);
    return;
  }
  list->restores[list->count++] =
      (segue__file_restore){.path = path,
                            .staged = staged,
                            .wanted = walk->finish ? &item->next : &item->previous,
                            .other = walk->finish ? &item->previous : &item->next,
                            .back = !walk->finish};
}

static void recover_run(recover_walk *walk, recover_list *list) {
  segue_error error;
  int rc = segue__file_restore_all(list->restores, list->count, &error);
  if (rc) recover_failed(walk, rc, &error);
  for (size_t i = 0; i < list->count; i++) {
    const segue__file_restore *restore = &list->restores[i];
    const recover_item *item = &list->items[i];
    if (!restore->rc) recover_report(walk, restore);
    bool undone = !restore->rc && !walk->finish && !restore->left;
    rc = undone ? recover_second(item->node, restore->path, &item->previous, &error) : 0;
    if (rc) recover_failed(walk, rc, &error);
    segue__free(restore->kept);
    segue__free((char *)restore->staged);
  }
  list->count = 0;
}

/* Undone in the reverse order of the commit, as by the process that committed. Without memory for a
 * list the files are restored one by one. */
static void recover_files(recover_walk *walk, const segue_node *files) {
  size_t count = segue_node_count(files);
  recover_item item, *items = segue__calloc(count + 1, sizeof *items);
  segue__file_restore restore, *restores = segue__calloc(count + 1, sizeof *restores);
  bool listed = items && restores;
  recover_list list = {listed ? items : &item, listed ? restores : &restore, 0, listed ? count : 1};
  for (size_t i = 0; i < count; i++) {
    size_t index = walk->finish ? i : count - 1 - i;
    recover_add(walk, &list, segue_node_at(files, index, NULL), index);
    if (list.count == list.room) recover_run(walk, &list);
  }
  recover_run(walk, &list);
  segue__free(items);
  segue__free(restores);
}

static bool recover_id(const char *id) {
  return id && strlen(id) == SEGUE__FILE_ID && strspn(id, SEGUE__HEX_DIGITS) == SEGUE__FILE_ID;
}

/* Takes bytes. */
static int recover_parse(segue__document **out, char *bytes, size_t len, segue_error *err) {
  int rc =
      bytes ? segue__document_new(out, 1, "intent", "intent", SEGUE__JSON, bytes, len) : UV_ENOMEM;
  if (rc) return segue__errorf(err, rc, "out of memory");
  return segue__document_parse(*out, NULL, NULL, NULL, err);
}

int segue__file_set_recover(const char *intent, size_t len, bool finish, segue__buf *report,
                            segue_error *err) {
  segue__document *doc = NULL;
  segue__bytes side = {0};
  recover_walk walk = {.finish = finish, .report = report, .err = err};
  int rc = recover_parse(&doc, segue__strndup(intent, len), len, err);
  if (!rc) rc = segue__file_side_read(&doc->root, &side, err);
  if (!rc && side.data) {
    segue__document_unref(doc);
    doc = NULL;
    rc = recover_parse(&doc, side.data, side.len, err);
  }
  if (!rc) {
    (void)segue_node_string(segue_node_get(&doc->root, "id"), &walk.id, NULL);
    const segue_node *files = segue_node_get(&doc->root, "files");
    if (recover_id(walk.id) && segue_node_type(files) == SEGUE_LIST)
      recover_files(&walk, files);
    else
      rc = segue__errorf(err, UV_EINVAL, "the intent of the files cannot be read");
  }
  segue__document_unref(doc);
  return rc ? rc : walk.rc;
}

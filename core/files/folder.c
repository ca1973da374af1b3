/* SPDX-License-Identifier: MIT
 *
 * Folders that change as a whole. The destination FOLDER is a symbolic link to ".FOLDER.gen-HASH"
 * beside it, whose name has the hash of all that is in it. Such a folder is written completely, is
 * synced, and never changes afterwards; so one exchange of the link switches all members, and a
 * reader that has opened the folder keeps the files of one generation.
 *
 * The link is a file of the set like others: its two versions are its two targets. So the commit,
 * the undo, the intent and its recovery, backups and removal are those of any file, and nothing
 * here runs between the commit and the settle.
 *
 * A folder is needed as long as a symbolic link beside it leads to it: the live one, a backup, the
 * staged name (which has the previous link until the set is settled or recovered), or the lasting
 * name of a version of another program. All others go when a set settles. This rule needs no list
 * that a crash could leave wrong.
 *
 * A folder that another program has changed does not have the hash of its name any more. It is
 * never written or removed: a link ".FOLDER.changed-TIME" leads to it, and the next generation gets
 * another name, with a number behind the hash if the hash is the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../os/explain.h"
#include "../os/fault.h"
#include "folder_internal.h"

enum { FOLDER_TRIES = 100 };

int segue__folder_place(const segue__file_set *set, segue__set_file *member, segue_error *err) {
  const segue__set_file *link = &set->files[0];
  const char *name = strrchr(member->to, '/') + 1;
  member->path = segue__folder_inside(link->path, name);
  return member->path ? 0 : segue__errorf(err, UV_ENOMEM, "%s: out of memory", member->to);
}

/* ---- The live folder ---- */

/* The surroundings of one link while it is staged. */
typedef struct folder_stage {
  segue__file_set *set;
  segue__set_file *link;
  char target[PATH_MAX]; /* of the live link; "": there is none */
  bool strange;          /* the live link does not lead to a folder of generations */
  segue__folder_content live, next;
  segue_error *err;
} folder_stage;

static int folder_memory(const folder_stage *stage) {
  return segue__errorf(stage->err, UV_ENOMEM, "%s: out of memory", stage->link->to);
}

static int folder_unread(const folder_stage *stage, int rc) {
  return rc == UV_ENOMEM ? folder_memory(stage)
                         : segue__explain(stage->err, rc, "read the folder of", stage->link->path);
}

static bool folder_has(const segue__set_file *link, const segue__set_file *file) {
  size_t len = strlen(link->path);
  return file->part == SEGUE__PART_MEMBER && !strncmp(file->path, link->path, len) &&
         file->path[len] == '/';
}

static const char *folder_member_name(const segue__set_file *file) {
  return strrchr(file->path, '/') + 1;
}

/* Refuses a real folder, because no undo could restore it, and a link that segue has not made. */
static int folder_refuse(const folder_stage *stage, mode_t mode) {
  const char *path = stage->link->path;
  if (S_ISLNK(mode))
    return segue__errorf(
        stage->err, UV_EEXIST,
        "cannot use %.300s as a folder of generations: it is a symbolic link to "
        "%.300s, which segue has not made; remove the link, or name another folder",
        path, stage->target);
  return segue__errorf(
      stage->err, S_ISDIR(mode) ? UV_EISDIR : UV_EEXIST,
      "cannot use %.300s as a folder of generations: it is a %s, and segue makes a "
      "symbolic link there; move it away, for example to %.300s.old",
      path, S_ISDIR(mode) ? "real folder" : "file", path);
}

/* Reads the link, and the folder that it leads to. A link to another place, where segue has had
 * one, is the version of another program, which is kept under a name of its own. */
static int folder_look(folder_stage *stage) {
  segue__set_file *link = stage->link;
  segue__file_version known;
  struct stat st;
  if (lstat(link->path, &st))
    return errno == ENOENT ? 0 : segue__explain(stage->err, -errno, "read", link->path);
  if (!S_ISLNK(st.st_mode)) return folder_refuse(stage, st.st_mode);
  int rc = segue__file_version_read(link->path, &link->previous, NULL, stage->err);
  ssize_t len = rc ? 0 : readlink(link->path, stage->target, sizeof stage->target - 1);
  if (len < 0) rc = segue__explain(stage->err, -errno, "read", link->path);
  if (rc) return rc;
  stage->target[len] = 0;
  stage->strange = !segue__folder_is_of(link->path, stage->target);
  if (stage->strange && !segue__file_set_known(stage->set, link->path, &known))
    return folder_refuse(stage, st.st_mode);
  if (stage->strange) return 0;
  char *folder = segue__folder_beside(link->path, stage->target);
  rc = folder ? segue__folder_content_read(&stage->live, folder) : UV_ENOMEM;
  segue__free(folder);
  return rc ? folder_unread(stage, rc) : 0;
}

/* The versions of the members. */
static int folder_compare_members(folder_stage *stage) {
  int rc = 0;
  for (size_t i = 0; i < stage->set->count && !rc; i++) {
    segue__set_file *file = &stage->set->files[i];
    if (!folder_has(stage->link, file)) continue;
    const segue__folder_entry *entry =
        segue__folder_content_find(&stage->live, folder_member_name(file));
    if (entry) file->previous = entry->version;
    file->next = file->previous;
    if (!file->dropped) rc = segue__file_set_decide(stage->set, file, stage->err);
  }
  return rc;
}

static bool folder_member_differs(const segue__set_file *file) {
  if (file->dropped) return file->previous.kind != SEGUE__FILE_NONE;
  return !file->left && !segue__file_version_equal(&file->previous, &file->next);
}

/* Fills in the attributes that the folder gets. */
static int folder_want_attributes(folder_stage *stage) {
  segue__folder_content *next = &stage->next;
  next->exists = true;
  next->mode = stage->link->mode ? stage->link->mode : 0755;
  next->uid = geteuid();
  next->gid = getegid();
  return stage->link->owner ? segue__file_set_owner(stage->link, &next->uid, &next->gid, stage->err)
                            : 0;
}

/* Where the policy adopts changes, files that another program has added, and the mode that it has
 * given to the folder, are no reason to write. */
static bool folder_differs(const folder_stage *stage) {
  bool adopts = stage->set->drift == SEGUE__DRIFT_ADOPT;
  size_t members = 0;
  if (!stage->live.exists || (stage->live.odd && !adopts)) return true;
  for (size_t i = 0; i < stage->set->count; i++) {
    const segue__set_file *file = &stage->set->files[i];
    if (!folder_has(stage->link, file)) continue;
    if (folder_member_differs(file)) return true;
    members += !file->dropped;
  }
  return !adopts && (stage->live.count != members ||
                     !segue__folder_content_same_attributes(&stage->live, &stage->next));
}

/* ---- The next folder ---- */

/* The whole folder is written, so an adopted version has to be copied into it. One that is no
 * regular file, or cannot be read, gets the rendered content. */
static int folder_carry(const folder_stage *stage, segue__set_file *file) {
  segue__file_version found;
  segue__bytes bytes = {0};
  file->left = false;
  int rc = segue__file_version_read(file->path, &found, &bytes, NULL);
  if (segue__file_read_failed(rc)) return folder_unread(stage, rc);
  if (rc || found.kind != SEGUE__FILE_REGULAR) return 0;
  segue__free(file->data);
  file->data = bytes.data;
  file->len = bytes.len;
  file->previous = file->next = found;
  file->left = true;
  return 0;
}

static int folder_want(folder_stage *stage) {
  int rc = 0;
  for (size_t i = 0; i < stage->set->count && !rc; i++) {
    segue__set_file *file = &stage->set->files[i];
    if (!folder_has(stage->link, file) || file->dropped) continue;
    if (file->left) rc = folder_carry(stage, file);
    segue__folder_entry *entry =
        rc ? NULL : segue__folder_content_add(&stage->next, folder_member_name(file));
    if (!rc && !entry) rc = folder_memory(stage);
    if (entry) entry->version = file->next;
  }
  segue__folder_content_sort(&stage->next);
  return rc;
}

/* Finds the name: that of a folder which has this content already, or one that is free. */
static int folder_name(folder_stage *stage, bool *ready) {
  segue__set_file *link = stage->link;
  char number[SEGUE__FOLDER_HASH + 16];
  size_t parent = segue__file_folder_len(link->path);
  int rc = segue__folder_content_hash(&stage->next, number);
  for (int i = 1; i <= FOLDER_TRIES && !rc; i++) {
    segue__folder_content there;
    if (i > 1) snprintf(number + SEGUE__FOLDER_HASH, sizeof number - SEGUE__FOLDER_HASH, "-%d", i);
    char *name = segue__file_hidden(link->path, "gen", number);
    rc = name ? segue__folder_content_read(&there, name) : UV_ENOMEM;
    bool live = !rc && !strcmp(name + parent, stage->target);
    *ready = !rc && !live && segue__folder_content_equal(&there, &stage->next);
    bool free_ = !rc && !live && !there.exists;
    if (!rc) segue__folder_content_deinit(&there);
    if (*ready || free_) {
      link->generation = name;
      return 0;
    }
    segue__free(name);
  }
  if (rc) return folder_unread(stage, rc);
  return segue__errorf(stage->err, UV_EEXIST,
                       "%s cannot be written: all names for its folder are in use; remove some of "
                       "the folders .NAME.gen-HASH beside it",
                       link->path);
}

static int folder_sync(const char *folder) {
  int rc = SEGUE_FAULT("files.folder.sync");
  int fd = rc ? -1 : open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (rc) return rc;
  if (fd < 0) return -errno;
  if (fsync(fd) && errno != EINVAL && errno != EROFS) rc = -errno;
  (void)close(fd);
  return rc;
}

static int folder_set_attributes(const folder_stage *stage, const char *folder) {
  const segue__folder_content *next = &stage->next;
  struct stat st;
  if (lstat(folder, &st)) return -errno;
  if ((st.st_uid != next->uid || st.st_gid != next->gid) && chown(folder, next->uid, next->gid))
    return -errno;
  return chmod(folder, next->mode) ? -errno : 0;
}

static int folder_fill(const folder_stage *stage, const char *part) {
  const segue__file_set *set = stage->set;
  segue__staged_write *items = segue__calloc(set->count + 1, sizeof *items);
  size_t count = 0;
  int rc = 0;
  if (!items) return folder_memory(stage);
  for (size_t i = 0; i < set->count && !rc; i++) {
    const segue__set_file *file = &set->files[i];
    if (!folder_has(stage->link, file) || file->dropped) continue;
    char *at = segue__folder_inside(part, folder_member_name(file));
    items[count].file = file;
    items[count++].at = at;
    if (!at) rc = folder_memory(stage);
  }
  if (!rc) rc = segue__file_write_all(set, items, count, stage->err);
  while (count)
    segue__free((char *)items[--count].at);
  segue__free(items);
  return rc;
}

/* A plan has no lock of the destination, so the sweep of a daemon that settles meanwhile would take
 * its folder for one that a crash has left. Without this lock only a plan beside a reload fails. */
static void folder_hold(segue__set_file *link, const char *part) {
  int fd = open(part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  (void)flock(fd, LOCK_SH);
  link->hold = fd + 1;
}

/* A folder of a plan keeps its first name: a plan has no lock, and could use or remove the folder
 * of a daemon. */
static int folder_write(folder_stage *stage, const char *part) {
  segue__set_file *link = stage->link;
  int rc = SEGUE_FAULT("files.folder.make");
  if (!rc && mkdir(part, 0700)) rc = -errno;
  if (rc) return segue__explain(stage->err, rc, "write", link->path);
  if (stage->set->plan) folder_hold(link, part);
  rc = folder_fill(stage, part);
  if (rc) return rc;
  rc = folder_set_attributes(stage, part);
  if (rc == UV_EPERM)
    return segue__errorf(stage->err, rc,
                         "cannot give the folder %s to uid %u, gid %u: only root may do that; run "
                         "segue as root, or leave out the owner",
                         link->path, stage->next.uid, stage->next.gid);
  if (!rc && stage->set->plan) return 0;
  if (!rc) rc = folder_sync(part);
  if (!rc) rc = SEGUE_FAULT("files.folder.rename");
  if (!rc && rename(part, link->generation)) rc = -errno;
  /* The name must be on disk before a link leads to it. */
  if (!rc) rc = segue__file_sync_folder(link->generation);
  return rc ? segue__explain(stage->err, rc, "write", link->path) : 0;
}

static int folder_link(folder_stage *stage) {
  segue__set_file *link = stage->link;
  int rc = SEGUE_FAULT("files.folder.link");
  if (!rc && symlink(link->generation + segue__file_folder_len(link->generation), link->staged))
    rc = -errno;
  if (rc) return segue__explain(stage->err, rc, "write", link->path);
  return segue__file_version_read(link->staged, &link->next, NULL, stage->err);
}

/* A member that differs names its place in the next folder. */
static int folder_name_members(folder_stage *stage) {
  for (size_t i = 0; i < stage->set->count; i++) {
    segue__set_file *file = &stage->set->files[i];
    if (!folder_has(stage->link, file) || !folder_member_differs(file)) continue;
    const char *folder = stage->link->generation ? stage->link->generation : stage->link->staged;
    file->staged = segue__folder_inside(folder, folder_member_name(file));
    if (!file->staged) return folder_memory(stage);
    if (file->dropped) memset(&file->next, 0, sizeof file->next);
    stage->set->changed++;
  }
  return 0;
}

static bool folder_lists(const folder_stage *stage, const char *name) {
  if (segue__folder_content_find(&stage->next, name)) return true;
  for (size_t i = 0; i < stage->set->count; i++)
    if (folder_has(stage->link, &stage->set->files[i]) &&
        !strcmp(folder_member_name(&stage->set->files[i]), name))
      return true;
  return false;
}

/* A file that another program has added to the live folder is not in the next one. It is a file of
 * the set, so that plans and the history list it. */
static int folder_add_foreign(folder_stage *stage, const segue__folder_entry *entry) {
  segue__file_set *set = stage->set;
  size_t at = (size_t)(stage->link - set->files);
  segue__set_file *file = segue__file_set_grow(set);
  stage->link = &set->files[at];
  if (!file) return folder_memory(stage);
  const char *folder = stage->link->generation ? stage->link->generation : stage->link->staged;
  file->dropped = file->added = file->foreign = true;
  file->part = SEGUE__PART_MEMBER;
  file->previous = entry->version;
  file->to = segue__folder_inside(stage->link->to, entry->name);
  file->path = segue__folder_inside(stage->link->path, entry->name);
  file->staged = segue__folder_inside(folder, entry->name);
  set->changed++;
  return file->to && file->path && file->staged ? 0 : folder_memory(stage);
}

/* The last step of a link: the files of the set move in memory. */
static int folder_name_foreign(folder_stage *stage) {
  int rc = 0;
  for (size_t i = 0; i < stage->live.count && !rc; i++) {
    const segue__folder_entry *entry = &stage->live.entries[i];
    bool file = entry->version.kind != SEGUE__FILE_NONE;
    if (file && !folder_lists(stage, entry->name)) rc = folder_add_foreign(stage, entry);
  }
  return rc;
}

/* The previous link gets a lasting name at the commit if it leads to a folder that another program
 * has changed. */
static int folder_note_foreign(folder_stage *stage) {
  segue__set_file *link = stage->link;
  bool intact = !stage->live.exists;
  if (!intact && segue__folder_content_is_intact(&stage->live, stage->target, &intact))
    return folder_memory(stage);
  link->foreign = stage->strange || !intact;
  segue__free(link->second);
  link->second = NULL;
  return link->foreign ? segue__file_set_second(stage->set, link, stage->err) : 0;
}

static int folder_build(folder_stage *stage) {
  segue__set_file *link = stage->link;
  bool ready = false;
  int rc = folder_want(stage);
  link->attributes = (segue__folder_attributes){stage->next.mode, stage->next.uid, stage->next.gid};
  if (!rc) rc = segue__file_set_differs(stage->set, link, &link->previous, stage->err);
  if (!rc) rc = folder_note_foreign(stage);
  if (rc) return rc;
  char *part = segue__file_beside(link->staged, "part");
  if (!part) return folder_memory(stage);
  if (stage->set->plan)
    link->generation = segue__strdup(part);
  else
    rc = folder_name(stage, &ready);
  if (!rc && !link->generation) rc = folder_memory(stage);
  if (!rc && !ready) rc = folder_write(stage, part);
  if (!rc) rc = folder_link(stage);
  if (!rc) rc = folder_name_members(stage);
  if (!rc) rc = folder_name_foreign(stage);
  segue__free(part);
  return rc;
}

/* ---- Staging ---- */

/* The module no longer has the folder. Its members go with the link. */
static int folder_drop(folder_stage *stage, int looked) {
  segue__set_file *link = stage->link;
  segue__file_version version;
  if (looked) link->why = "it is no link that segue has made";
  bool found = segue__file_set_known(stage->set, link->path, &version);
  int rc = segue__file_dropped_stage(stage->set, link, found ? &version : NULL, stage->err);
  if (!rc && link->staged && link->before)
    rc = segue__file_dropped_write(stage->set, link, stage->err);
  if (rc || !link->staged) return rc;
  rc = folder_note_foreign(stage);
  if (!rc) rc = folder_name_members(stage);
  return rc ? rc : folder_name_foreign(stage);
}

static int folder_keep(folder_stage *stage) {
  segue__set_file *link = stage->link;
  link->attributes = (segue__folder_attributes){stage->live.mode, stage->live.uid, stage->live.gid};
  segue__file_version known;
  link->next = link->previous;
  link->left = stage->set->drift == SEGUE__DRIFT_ADOPT &&
               segue__file_set_known(stage->set, link->path, &known) &&
               !segue__file_version_equal(&known, &link->previous);
  return 0;
}

static int folder_stage_link(folder_stage *stage) {
  segue__set_file *link = stage->link;
  if (link->why) return segue__file_dropped_stage(stage->set, link, NULL, stage->err);
  int rc = folder_look(stage);
  if (rc && (!link->dropped || segue__file_read_failed(rc))) return rc;
  if (link->dropped) {
    int members = rc ? 0 : folder_compare_members(stage);
    return members ? members : folder_drop(stage, rc);
  }
  rc = folder_want_attributes(stage);
  if (!rc) rc = folder_compare_members(stage);
  if (rc) return rc;
  return folder_differs(stage) ? folder_build(stage) : folder_keep(stage);
}

int segue__folder_stage(segue__file_set *set, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < set->count && !rc; i++) {
    if (set->files[i].part != SEGUE__PART_LINK) continue;
    folder_stage stage = {.set = set, .link = &set->files[i], .err = err};
    rc = folder_stage_link(&stage);
    segue__folder_content_deinit(&stage.live);
    segue__folder_content_deinit(&stage.next);
  }
  return rc;
}

/* ---- The commit ---- */

/* An exchange would put a folder under the staged name, and a version that is not known cannot be
 * brought back by content. So this is looked at before, not only after. */
int segue__folder_begin(segue__file_set *set, const segue__set_file *link, segue_error *err) {
  segue__file_version now;
  int rc = segue__file_version_read(link->path, &now, NULL, err);
  if (segue__file_read_failed(rc)) return rc;
  if (rc || !segue__file_version_equal(&now, &link->previous))
    return segue__errorf(err, SEGUE_EMODULE,
                         "%s was changed by another program during the reload: that change stays; "
                         "reload again",
                         link->path);
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    if (!folder_has(link, file) || file->busy) continue;
    segue__file_book_begin(set->book, file->path);
    file->busy = true;
  }
  return 0;
}

void segue__folder_end(segue__file_set *set, const segue__set_file *link) {
  for (size_t i = 0; i < set->count; i++)
    if (folder_has(link, &set->files[i])) segue__file_set_unbusy(set, &set->files[i]);
}

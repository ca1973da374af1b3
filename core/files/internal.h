/* SPDX-License-Identifier: MIT
 *
 * internal.h: what the files of core/files share.
 */
#ifndef SEGUE_FILES_INTERNAL_H
#define SEGUE_FILES_INTERNAL_H

#include <time.h>

#include "path_index.h"
#include "set.h"

#define SEGUE__FILE_LOCK ".segue.lock" /* in the folders of destinations */
enum { SEGUE__FILE_ID = 8 };           /* hexadecimal digits in the names of a set's staged files */

typedef struct segue__set_file {
  char *to, *owner;
  char *data; /* NULL once it is staged */
  size_t len;
  unsigned mode, backups;
  bool replace_link;
  segue__file_part part;

  char *path;    /* resolved; NULL: not yet */
  char *staged;  /* beside path; NULL: it is equal. After the commit it has the previous version */
  bool taken;    /* in the book */
  bool in_place; /* path is a mount point: it cannot be replaced, only written */
  bool busy;     /* in the book */
  bool left;     /* adopted: a version of another program stays */
  bool moved;    /* commit has begun with it */
  bool foreign;  /* the previous version is none that segue wrote */
  char *second;  /* foreign: the name that the previous version gets at the commit; or NULL */
  bool linked;   /* it has that name */
  char *kept;
  bool dropped; /* it is in the book, or it was added, and it is not wanted any more */
  bool added;   /* another program has added it to the live folder */
  char *before; /* dropped: the copy that is restored, beside path; NULL: it is removed or stays */
  const char *why;  /* dropped: it stays against the wish of the policy; a constant */
  bool again;       /* dropped, and it stays: the next reload tries again */
  size_t number;    /* in its staged name */
  char *generation; /* a link that changes: the folder that it will lead to */
  segue__folder_attributes attributes; /* of a link: of its folder, live or next */
  int hold;                            /* a link of a plan: its folder, locked, plus 1; 0: none */
  segue__file_version previous, next;
} segue__set_file;

struct segue__file_set {
  segue__file_book *book;
  segue__file_simulation *simulation;
  char *module, *folder, *root;
  char id[SEGUE__FILE_ID + 1];
  segue__set_file *files;
  size_t count, capacity;
  segue__path_index paths; /* of the wanted files; filled by stage */
  size_t changed;          /* files that differ, with members */
  size_t moves;   /* of these, those that commit moves: each has a staged name of its own */
  size_t numbers; /* of staged names; more than moves where a file stays after all */
  char **made;    /* folders that stage has made, outermost first */
  size_t made_count;
  segue__drift_mode drift;
  segue__removed_mode removed;
  bool plan;
  char *side; /* the file of its intent; NULL: the journal has all of it */
  segue__hash side_hash;
  bool begun; /* the commit has */
};

/* set.c */
/* Makes room for one more file, and returns it empty; NULL: no memory. */
segue__set_file *segue__file_set_grow(segue__file_set *set);
/* A file differs: whether its live version is foreign, and its staged name. */
int segue__file_set_differs(segue__file_set *set, segue__set_file *file,
                            const segue__file_version *known, segue_error *err);

/* The name that a foreign version gets at the commit: file->second. UV_EEXIST: none is free. */
int segue__file_set_second(const segue__file_set *set, segue__set_file *file, segue_error *err);

/* folder.c: folders that a link leads to. */
/* "FOLDER/NAME". NULL: no memory. */
char *segue__folder_inside(const char *folder, const char *name);
/* Sets the path of a member. The link has its path already. */
int segue__folder_place(const segue__file_set *set, segue__set_file *member, segue_error *err);
/* Compares the links and members of the set with what is live, and writes the next folder. */
int segue__folder_stage(segue__file_set *set, segue_error *err);
/* Before the link moves: fails if something else is there now. The book does not look at the
 * members until segue__folder_end. */
int segue__folder_begin(segue__file_set *set, const segue__set_file *link, segue_error *err);
void segue__folder_end(segue__file_set *set, const segue__set_file *link);
/* Removes folders of generations that no link beside them leads to. One that was changed since it
 * was written gets a link ".NAME.changed-TIME" instead, which is returned, owned; NULL: none. */
char *segue__folder_collect(const segue__file_set *set, const segue__set_file *link);
/* The link is not live, and its staged name is removed: removes what staging has written. */
void segue__folder_discard(const segue__file_set *set, segue__set_file *link);
/* Removes a folder of files that staging, or a removal, has left. Returns whether the name is one
 * of these. */
bool segue__folder_remove_left(int parent, const char *name);
/* Fails if path is inside of the folder of a generation. */
int segue__folder_check_path(const char *to, const char *path, segue_error *err);
/* stage_write.c */
typedef struct segue__staged_write {
  const segue__set_file *file;
  const char *at; /* the staged file */
} segue__staged_write;
/* Writes these files with their next versions, and waits until they are on disk, by several threads
 * at a time. */
int segue__file_write_all(const segue__file_set *set, const segue__staged_write *items,
                          size_t count, segue_error *err);
/* The staged files of all files of the set that differ; not the members of folders. */
int segue__file_stage_write(segue__file_set *set, segue_error *err);

/* dropped.c */
/* Adds the files of the book that the set does not want any more, with their paths. */
int segue__file_dropped_add(segue__file_set *set, segue_error *err);
/* The file cannot be locked, or read, for the reason rc: it stays. Returns 0, or rc if it is about
 * this process and not about the file. */
int segue__file_dropped_stays(segue__set_file *file, int rc);
/* Decides about one of them; a file that is restored is written by the next function. */
int segue__file_dropped_stage(segue__file_set *set, segue__set_file *file,
                              const segue__file_version *known, segue_error *err);
/* Copies the version from before to the staged name. Where that fails the file stays, which is no
 * failure; fails only where this process has no memory or descriptors. */
int segue__file_dropped_write(segue__file_set *set, segue__set_file *file, segue_error *err);
/* Settled: the module no longer has it. Fails if the restored copy cannot be removed. */
int segue__file_dropped_settle(const segue__file_set *set, segue__set_file *file, segue_error *err);

/* The previous version is known: fills in the next one, and a staged name if they differ. A member
 * gets none: its folder is written as a whole. */
int segue__file_set_decide(segue__file_set *set, segue__set_file *file, segue_error *err);
/* Reads a file, live or staged, of the disk or of the simulation. */
int segue__file_set_read(const segue__file_set *set, const char *path, segue__file_version *version,
                         segue__bytes *bytes, segue_error *err);
/* uid and gid of an owner as a policy writes it. */
int segue__file_set_owner(const segue__set_file *file, unsigned *uid, unsigned *gid,
                          segue_error *err);
bool segue__file_set_known(const segue__file_set *set, const char *path, segue__file_version *out);
/* The book may look at the file again. */
void segue__file_set_unbusy(const segue__file_set *set, segue__set_file *file);

/* side.c: the intent of a large set as a file of its own. */
int segue__file_side_stage(segue__file_set *set, segue_error *err); /* writes it if it is large */
/* Appends what the journal has instead. */
void segue__file_side_write(const segue__file_set *set, segue__buf *json);
void segue__file_side_sweep(const segue__file_set *set); /* removes those of earlier sets */
void segue__file_side_drop(segue__file_set *set);        /* removes it */
/* Reads the file that an intent names; out->data NULL: it names none. */
int segue__file_side_read(const segue_node *root, segue__bytes *out, segue_error *err);

/* place.c: finds where a file goes. Sets file->path and makes missing folders. */
int segue__file_place(segue__file_set *set, segue__set_file *file, segue_error *err);
/* Removes the folders that were made, if nothing is in them but a lock file. */
void segue__file_unmake(segue__file_set *set);

/* names.c */
/* The length of the folder of an absolute path, with its last slash. */
size_t segue__file_folder_len(const char *path);
/* The name of a staged file. index: its number among the changed files of the set. NULL: no
 * memory. */
char *segue__file_staged_name(const char *path, const char *id, size_t index);
/* The same with an end: the previous version of a file that is written in place. */
char *segue__file_beside(const char *staged, const char *end);
/* ".NAME.WORD-NUMBER" in the same folder. */
char *segue__file_hidden(const char *path, const char *word, const char *number);
/* The length of ".NAME.WORD-" of this path, if the name of an entry begins with it; else 0. */
size_t segue__file_hidden_prefix(const char *path, const char *word, const char *entry);
/* The end of such a name, without the word. */
const char *segue__file_hidden_number(const char *name, const char *word);
/* Whether a staged file of this destination, or a folder of generations, is beside it. */
bool segue__file_is_left(const char *path);
/* Removes staged files that an earlier process left for any of these destinations. The set has
 * their locks, so none is in use. */
void segue__file_sweep(const segue__file_set *set);

/* simulation.c: stage, commit, undo, settle and discard of a set that has a simulation. */
int segue__simulated_stage(segue__file_set *set, segue_error *err);
int segue__simulated_commit(segue__file_set *set, segue_error *err);
int segue__simulated_undo(segue__file_set *set, segue_error *err);
int segue__simulated_settle(segue__file_set *set, segue_error *err);
void segue__simulated_discard(segue__file_set *set);

/* As segue__file_version_read, of a file in the store. */
int segue__simulated_read(const segue__file_simulation *simulation, const char *path,
                          segue__file_version *out, segue__bytes *bytes, segue_error *err);
/* The version that was written last. Returns false if none was. */
bool segue__simulation_known(const segue__file_simulation *simulation, const char *path,
                             segue__file_version *out);
/* The number of an owner in versions. */
int segue__simulation_owner(segue__file_simulation *simulation, const char *owner, unsigned *uid);
/* Numbers of sets, for the names of their staged files. */
unsigned segue__simulation_next_set(segue__file_simulation *simulation);
/* A name for a version that segue has not written; NULL: no memory. */
char *segue__simulated_kept_name(const segue__file_simulation *simulation, const char *path);

/* put.c: changes one destination. */
/* Exchanges two files, or symbolic links, in one step where the file system can do that. If it
 * cannot, a crash in between leaves the second one under `spare`. */
int segue__file_exchange(const char *path, const char *other, const char *spare);
/* Moves a file to a name that does not exist: UV_EEXIST if it does. */
int segue__file_move_new(const char *from, const char *path);
/* The state of a file. Any write changes the time of the inode. */
typedef struct segue__file_stamp {
  uint64_t inode, size;
  struct timespec written, changed;
} segue__file_stamp;
int segue__file_stamp_read(const char *path, segue__file_stamp *out);
bool segue__file_stamp_equal(const segue__file_stamp *a, const segue__file_stamp *b);
/* Makes `to`, or replaces it, with content, mode and owner of `from`, on disk; a symbolic link is
 * copied as a link. A copy that is cut short has the name `to`.part. *copied, which may be NULL,
 * gets the state of a regular file before it was read. */
int segue__file_copy(const char *from, const char *to, segue__file_stamp *copied);
/* Writes content, mode and owner of `from` into the file at path, which keeps its inode. UV_EAGAIN:
 * another program has written the file since `expected`, and nothing was written. SEGUE_ECONFLICT:
 * it writes now, and the file has bytes of both. */
int segue__file_overwrite(const char *path, const char *from, const segue__file_stamp *expected);
int segue__file_sync_folder(const char *path); /* the folder of path */

/* restore.c: brings destinations to one of their two versions, from any state that a crash may have
 * left. `other` is the version that a file may have instead. */
typedef struct segue__file_restore {
  const char *path, *staged;
  const segue__file_version *wanted, *other;
  bool back;  /* wanted is the previous version, not the next one */
  int rc;     /* out */
  char *kept; /* out: a third version was kept there; owned */
  bool left;  /* out: a third version stays at path, because the wanted one does not exist */
} segue__file_restore;
/* In the order of the list. One that fails does not keep the others. Returns the first failure. */
int segue__file_restore_all(segue__file_restore *list, size_t count, segue_error *err);
/* A name for such a version that is not in use, owned. UV_EEXIST: all are. */
int segue__file_kept_name(const char *path, char **out);

#endif

/* SPDX-License-Identifier: MIT
 *
 * Sets of files in memory. The decisions are made by set.c, as in the daemon; this file has
 * the operations on files. A staged file has a name of its own in the store, so that a check
 * which names it can be answered by its content.
 */
#include "simulation.h"

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "internal.h"

/* A destination: the module that has it, and the version that was written last. */
typedef struct simulated_entry {
  char *path, *module; /* module NULL: none has it */
  bool owned;          /* the module has written it, and did not drop it since */
  char *before; /* the copy of the version from before the first write; NULL: there was none */
  size_t sets;  /* of the module, that have it */
  segue__file_version version;
  bool known;
  bool member; /* of a folder: it goes where the module no longer has it */
} simulated_entry;

struct segue__file_simulation {
  segue__file_store store;
  simulated_entry *entries;
  size_t count;
  char **owners; /* the owner number n + 1 */
  size_t owner_count;
  unsigned sets;
};

int segue__simulation_new(segue__file_simulation **out, const segue__file_store *store) {
  segue__file_simulation *simulation = segue__calloc(1, sizeof *simulation);
  *out = simulation;
  if (!simulation) return UV_ENOMEM;
  simulation->store = *store;
  return 0;
}

void segue__simulation_free(segue__file_simulation *simulation) {
  if (!simulation) return;
  for (size_t i = 0; i < simulation->count; i++) {
    segue__free(simulation->entries[i].path);
    segue__free(simulation->entries[i].module);
    segue__free(simulation->entries[i].before);
  }
  for (size_t i = 0; i < simulation->owner_count; i++)
    segue__free(simulation->owners[i]);
  segue__free(simulation->entries);
  segue__free(simulation->owners);
  segue__free(simulation);
}

/* ---- Owners and names ---- */

int segue__simulation_owner(segue__file_simulation *simulation, const char *owner, unsigned *uid) {
  *uid = 0;
  if (!owner) return 0;
  for (size_t i = 0; i < simulation->owner_count; i++)
    if (!strcmp(simulation->owners[i], owner)) {
      *uid = (unsigned)i + 1;
      return 0;
    }
  char **owners =
      segue__realloc(simulation->owners, (simulation->owner_count + 1) * sizeof *owners);
  if (!owners) return UV_ENOMEM;
  simulation->owners = owners;
  owners[simulation->owner_count] = segue__strdup(owner);
  if (!owners[simulation->owner_count]) return UV_ENOMEM;
  *uid = (unsigned)++simulation->owner_count;
  return 0;
}

static const char *simulated_owner_name(const segue__file_simulation *simulation, unsigned uid) {
  return uid && uid <= simulation->owner_count ? simulation->owners[uid - 1] : NULL;
}

unsigned segue__simulation_next_set(segue__file_simulation *simulation) {
  return ++simulation->sets;
}

static bool simulated_exists(const segue__file_simulation *simulation, const char *path) {
  segue__simulated_file file;
  return simulation->store.get(simulation->store.data, path, &file);
}

char *segue__simulated_kept_name(const segue__file_simulation *simulation, const char *path) {
  char number[16];
  for (unsigned i = 1;; i++) {
    snprintf(number, sizeof number, "%u", i);
    char *name = segue__file_hidden(path, "changed", number);
    if (!name || !simulated_exists(simulation, name)) return name;
    segue__free(name);
  }
}

void segue__simulation_show(const segue__file_set *set, bool shown) {
  if (!set->simulation) return;
  const segue__file_store *store = &set->simulation->store;
  store->show(store->data, shown ? set : NULL);
}

/* ---- Entries ---- */

static simulated_entry *simulated_find(const segue__file_simulation *simulation, const char *path) {
  for (size_t i = 0; i < simulation->count; i++)
    if (!strcmp(simulation->entries[i].path, path)) return &simulation->entries[i];
  return NULL;
}

bool segue__simulation_known(const segue__file_simulation *simulation, const char *path,
                             segue__file_version *out) {
  const simulated_entry *entry = simulated_find(simulation, path);
  if (!entry || !entry->known) return false;
  *out = entry->version;
  return true;
}

static simulated_entry *simulated_add(segue__file_simulation *simulation, const char *path) {
  simulated_entry *entry = simulated_find(simulation, path);
  if (entry) return entry;
  simulated_entry *entries =
      segue__realloc(simulation->entries, (simulation->count + 1) * sizeof *entries);
  if (!entries) return NULL;
  simulation->entries = entries;
  entry = &entries[simulation->count];
  *entry = (simulated_entry){.path = segue__strdup(path)};
  if (!entry->path) return NULL;
  simulation->count++;
  return entry;
}

static int simulated_take(const segue__file_set *set, segue__set_file *file, segue_error *err) {
  simulated_entry *entry = simulated_add(set->simulation, file->path);
  if (!entry) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  if (entry->sets && strcmp(entry->module, set->module) != 0)
    return segue__errorf(err, UV_EBUSY, "%s is a file of module '%s' already", file->path,
                         entry->module);
  if (!entry->sets) {
    segue__free(entry->module);
    entry->module = segue__strdup(set->module);
    if (!entry->module) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  }
  entry->sets++;
  file->taken = true;
  return 0;
}

/* ---- Files of the store ---- */

int segue__simulated_read(const segue__file_simulation *simulation, const char *path,
                          segue__file_version *out, segue__bytes *bytes, segue_error *err) {
  segue__simulated_file file;
  memset(out, 0, sizeof *out);
  if (bytes) *bytes = (segue__bytes){0};
  if (!simulation->store.get(simulation->store.data, path, &file)) return 0;
  if (!file.data)
    return segue__errorf(err, file.code, "cannot read %s: %s", path,
                         file.message ? file.message : segue_strerror(file.code));
  out->kind = SEGUE__FILE_REGULAR;
  out->mode = file.mode;
  out->size = file.len;
  out->hash = segue__hash_bytes(file.data, file.len, (segue__hash){0, 0});
  int rc = segue__simulation_owner((segue__file_simulation *)simulation, file.owner, &out->uid);
  if (!rc && bytes) {
    bytes->data = segue__strndup(file.data, file.len);
    bytes->len = file.len;
    if (!bytes->data) rc = UV_ENOMEM;
  }
  return rc ? segue__errorf(err, rc, "%s: out of memory", path) : 0;
}

/* A copy of the file: what get returned is borrowed, and a put ends that. */
typedef struct simulated_copy {
  segue__simulated_file file;
  char *data, *owner;
} simulated_copy;

static void simulated_copy_deinit(simulated_copy *copy) {
  segue__free(copy->data);
  segue__free(copy->owner);
}

/* Returns 0 with file.data NULL if there is no file. */
static int simulated_copy_init(simulated_copy *copy, const segue__file_store *store,
                               const char *path) {
  segue__simulated_file file;
  memset(copy, 0, sizeof *copy);
  if (!store->get(store->data, path, &file) || !file.data) return 0;
  copy->data = segue__strndup(file.data, file.len);
  copy->owner = segue__strdup(file.owner);
  if (!copy->data || (file.owner && !copy->owner)) {
    simulated_copy_deinit(copy);
    memset(copy, 0, sizeof *copy);
    return UV_ENOMEM;
  }
  file.data = copy->data;
  file.owner = copy->owner;
  copy->file = file;
  return 0;
}

/* Each of the two files may be missing; then the other one is missing after the exchange. */
static int simulated_exchange(const segue__file_store *store, const char *a, const char *b) {
  simulated_copy of_a, of_b;
  int rc = simulated_copy_init(&of_a, store, a);
  if (rc) return rc;
  rc = simulated_copy_init(&of_b, store, b);
  if (!rc && of_b.data) rc = store->put(store->data, a, &of_b.file);
  if (!rc && of_a.data) rc = store->put(store->data, b, &of_a.file);
  if (!rc && !of_b.data) store->remove(store->data, a);
  if (!rc && !of_a.data) store->remove(store->data, b);
  simulated_copy_deinit(&of_a);
  simulated_copy_deinit(&of_b);
  return rc;
}

static int simulated_duplicate(const segue__file_store *store, const char *from, const char *to) {
  simulated_copy copy;
  int rc = simulated_copy_init(&copy, store, from);
  if (!rc && copy.data) rc = store->put(store->data, to, &copy.file);
  simulated_copy_deinit(&copy);
  return rc;
}

/* ---- Stage ---- */

static int stage_file_simulated(segue__file_set *set, segue__set_file *file, segue_error *err) {
  const segue__file_store *store = &set->simulation->store;
  int rc = segue__simulated_read(set->simulation, file->path, &file->previous, NULL, err);
  if (!rc) rc = segue__file_set_decide(set, file, err);
  if (rc || !file->staged) return rc;
  const segue__simulated_file staged = {.data = file->data,
                                        .len = file->len,
                                        .mode = file->next.mode,
                                        .owner =
                                            simulated_owner_name(set->simulation, file->next.uid)};
  rc = store->put(store->data, file->staged, &staged);
  return rc ? segue__errorf(err, rc, "%s: out of memory", file->to) : 0;
}

static int stage_place_simulated(segue__file_set *set, size_t index, segue_error *err) {
  segue__set_file *file = &set->files[index];
  int rc = segue__file_place(set, file, err);
  for (size_t i = 0; i < index && !rc; i++)
    if (!strcmp(set->files[i].path, file->path))
      rc = segue__errorf(err, SEGUE_EUSAGE, "%.200s and %.200s are the same file: remove one",
                         set->files[i].to, file->to);
  return rc ? rc : simulated_take(set, file, err);
}

/* ---- Files that the module no longer declares ---- */

/* The folder of a file stays, and the next one does not have the file. */
static bool simulated_leaves(const segue__file_set *set, const simulated_entry *entry) {
  size_t len = (size_t)(strrchr(entry->path, '/') + 1 - entry->path);
  for (size_t i = 0; i < set->count && entry->member; i++)
    if (set->files[i].part == SEGUE__PART_MEMBER && !set->files[i].dropped &&
        !strncmp(set->files[i].path, entry->path, len))
      return true;
  return false;
}

static int dropped_stage_simulated(segue__file_set *set, const simulated_entry *entry,
                                   segue_error *err) {
  const segue__file_simulation *simulation = set->simulation;
  const segue__file_store *store = &simulation->store;
  segue__file_version before = {0};
  segue__set_file *file = segue__file_set_grow(set);
  if (!file) return segue__errorf(err, UV_ENOMEM, "%s: out of memory", entry->path);
  file->dropped = true;
  file->to = segue__strdup(entry->path);
  file->path = segue__strdup(entry->path);
  if (!file->to || !file->path)
    return segue__errorf(err, UV_ENOMEM, "%s: out of memory", entry->path);
  int rc = segue__simulated_read(simulation, file->path, &file->previous, NULL, err);
  file->next = file->previous;
  if (rc || (set->removed == SEGUE__REMOVED_KEEP && !simulated_leaves(set, entry))) return rc;
  bool restores =
      set->removed == SEGUE__REMOVED_RESTORE && entry->before && !simulated_leaves(set, entry);
  if (restores) rc = segue__simulated_read(simulation, entry->before, &before, NULL, err);
  if (rc) return rc;
  file->next = before;
  if (segue__file_version_equal(&file->previous, &before)) return 0;
  rc = segue__file_set_differs(set, file, entry->known ? &entry->version : NULL, err);
  if (!rc && restores && simulated_duplicate(store, entry->before, file->staged))
    rc = segue__errorf(err, UV_ENOMEM, "%s: out of memory", file->to);
  return rc;
}

static int stage_dropped_simulated(segue__file_set *set, segue_error *err) {
  size_t wanted = set->count;
  int rc = 0;
  for (size_t i = 0; i < set->simulation->count && !rc; i++) {
    const simulated_entry *entry = &set->simulation->entries[i];
    bool drops = entry->owned && !strcmp(entry->module, set->module);
    for (size_t k = 0; k < wanted && drops; k++)
      drops = strcmp(set->files[k].path, entry->path) != 0;
    if (drops) rc = dropped_stage_simulated(set, entry, err);
  }
  return rc;
}

static void dropped_settle_simulated(simulated_entry *entry) {
  entry->owned = entry->known = false;
  segue__free(entry->before);
  entry->before = NULL;
}

int segue__simulated_stage(segue__file_set *set, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < set->count && !rc; i++)
    rc = stage_place_simulated(set, i, err);
  size_t wanted = set->count;
  if (!rc) rc = stage_dropped_simulated(set, err);
  for (size_t i = 0; i < wanted && !rc; i++)
    rc = stage_file_simulated(set, &set->files[i], err);
  return rc;
}

/* ---- Commit, undo ---- */

/* The spec may have put another file there while the check ran. */
static int commit_file_simulated(const segue__file_set *set, segue__set_file *file,
                                 segue_error *err) {
  const segue__file_store *store = &set->simulation->store;
  segue__file_version now;
  int rc = segue__simulated_read(set->simulation, file->path, &now, NULL, err);
  if (rc) return rc;
  if (!segue__file_version_equal(&now, &file->previous))
    return segue__errorf(err, SEGUE_EMODULE,
                         "%s was changed by another program during the reload: that change stays; "
                         "reload again",
                         file->path);
  if (file->foreign && file->second) {
    rc = simulated_duplicate(store, file->path, file->second);
    file->linked = !rc;
  }
  file->moved = true;
  if (!rc) rc = simulated_exchange(store, file->path, file->staged);
  return rc ? segue__errorf(err, rc, "%s: out of memory", file->to) : 0;
}

int segue__simulated_commit(segue__file_set *set, segue_error *err) {
  int rc = 0;
  set->begun = true;
  for (size_t i = 0; i < set->count && !rc; i++)
    if (set->files[i].staged) rc = commit_file_simulated(set, &set->files[i], err);
  return rc;
}

/* A version that was put there after the commit is kept beside it, as in the daemon. */
static int undo_file_simulated(const segue__file_set *set, segue__set_file *file,
                               segue_error *err) {
  const segue__file_store *store = &set->simulation->store;
  segue__file_version now;
  int rc = segue__simulated_read(set->simulation, file->path, &now, NULL, err);
  if (rc) return rc;
  bool third = now.kind != SEGUE__FILE_NONE && !segue__file_version_equal(&now, &file->next);
  char *kept = third ? segue__simulated_kept_name(set->simulation, file->path) : NULL;
  if (third) rc = kept ? simulated_duplicate(store, file->path, kept) : UV_ENOMEM;
  if (kept) {
    segue__free(file->kept);
    file->kept = kept;
  }
  if (!rc) rc = simulated_exchange(store, file->path, file->staged);
  if (rc) return segue__errorf(err, rc, "%s: out of memory", file->to);
  file->moved = false;
  if (file->linked) store->remove(store->data, file->second);
  return 0;
}

int segue__simulated_undo(segue__file_set *set, segue_error *err) {
  segue_error error;
  int rc = 0;
  for (size_t i = set->count; i-- > 0;) {
    int failed = set->files[i].moved ? undo_file_simulated(set, &set->files[i], &error) : 0;
    if (failed && !rc && err) *err = error;
    if (failed && !rc) rc = failed;
  }
  return rc;
}

/* ---- Settle, discard ---- */

static int settle_backup_simulated(const segue__file_store *store, const segue__set_file *file) {
  char number[16];
  int rc = 0;
  for (unsigned n = file->backups; n && !rc; n--) {
    snprintf(number, sizeof number, "%u", n);
    char *to = segue__file_hidden(file->path, "backup", number);
    snprintf(number, sizeof number, "%u", n - 1);
    char *from =
        n > 1 ? segue__file_hidden(file->path, "backup", number) : segue__strdup(file->staged);
    rc = to && from ? simulated_duplicate(store, from, to) : UV_ENOMEM;
    segue__free(from);
    segue__free(to);
  }
  return rc;
}

static int settle_file_simulated(const segue__file_set *set, segue__set_file *file) {
  const segue__file_store *store = &set->simulation->store;
  bool replaced = file->previous.kind != SEGUE__FILE_NONE;
  int rc = replaced && !file->foreign && !file->dropped ? settle_backup_simulated(store, file) : 0;
  if (replaced && file->foreign) {
    segue__free(file->kept);
    file->kept = file->second;
    file->second = NULL;
  }
  store->remove(store->data, file->staged);
  segue__free(file->staged);
  file->staged = NULL;
  file->moved = false;
  return rc;
}

static int settle_entry_simulated(simulated_entry *entry, const segue__set_file *file) {
  if (!entry->owned && file->kept) {
    segue__free(entry->before);
    entry->before = segue__strdup(file->kept);
    if (!entry->before) return UV_ENOMEM;
  }
  entry->owned = true;
  entry->member = file->part == SEGUE__PART_MEMBER;
  if (file->left) return 0;
  entry->version = file->next;
  entry->known = true;
  return 0;
}

int segue__simulated_settle(segue__file_set *set, segue_error *err) {
  int rc = 0;
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    if (file->staged && settle_file_simulated(set, file)) rc = UV_ENOMEM;
    simulated_entry *entry = simulated_find(set->simulation, file->path);
    if (entry && file->dropped)
      dropped_settle_simulated(entry);
    else if (entry && settle_entry_simulated(entry, file))
      rc = UV_ENOMEM;
  }
  return rc ? segue__errorf(err, rc, "module '%s': out of memory", set->module) : 0;
}

void segue__simulated_discard(segue__file_set *set) {
  const segue__file_store *store = &set->simulation->store;
  for (size_t i = 0; i < set->count; i++) {
    segue__set_file *file = &set->files[i];
    if (file->staged && !file->moved) store->remove(store->data, file->staged);
    segue__free(file->staged);
    file->staged = NULL;
    simulated_entry *entry = file->taken ? simulated_find(set->simulation, file->path) : NULL;
    if (entry) entry->sets--;
    file->taken = false;
  }
}

/* SPDX-License-Identifier: MIT
 *
 * Groups of a pattern and the references back to them. ECMA-262 forgets the matches of the groups
 * inside a repetition whenever a round begins, and takes no empty round; PCRE2 keeps the match of
 * the last round. So a reference is accepted only where the difference cannot be observed:
 *   - neither its group nor one around it is repeated, the group's own "?" aside: at most one
 *     round, and an empty match equals the match of a group that did not take part;
 *   - or the group is not repeated, and the reference comes later in the alternative that holds
 *     the group: then each round has matched it again.
 * A lookbehind is matched backwards in ECMA-262, and a group that refers to itself has no match
 * yet: references in there are rejected too.
 */
#include <string.h>

#include "schema_internal.h"

enum { ROOT = 0 }; /* the whole pattern */

struct segue__group {
  uint32_t up, branch; /* the group around it, and in which of its alternatives */
  uint32_t now;        /* the alternative at work; once closed, how many there are */
  uint32_t number;     /* of a capture; 0: it is none */
  uint8_t rounds;      /* SEGUE__ROUNDS_... */
  bool behind, closed;
  const char *name;
  size_t name_len, end; /* end: offset behind it */
};

struct segue__reference {
  uint32_t in, branch, number; /* number 0: by name */
  const char *name;
  size_t name_len, at;
};

void segue__groups_deinit(segue__groups *g) {
  segue__free(g->items);
  segue__free(g->references);
}

static void *group_room(void *items, size_t count, size_t *capacity, size_t size) {
  if (count < *capacity) return items;
  size_t more = *capacity ? *capacity * 2 : 16;
  void *grown = segue__realloc(items, more * size);
  if (grown) *capacity = more;
  return grown;
}

static bool add_group(segue__groups *g, segue__group group) {
  segue__group *items = group_room(g->items, g->count, &g->capacity, sizeof *items);
  if (!items) return false;
  g->items = items;
  items[g->count] = group;
  g->open = (uint32_t)g->count++;
  return true;
}

bool segue__groups_init(segue__groups *g) {
  *g = (segue__groups){0};
  return add_group(g, (segue__group){0});
}

bool segue__groups_open(segue__groups *g, bool captures, bool behind, const char *name,
                        size_t name_len) {
  g->captures += captures;
  return add_group(g, (segue__group){.up = g->open,
                                     .branch = g->items[g->open].now,
                                     .number = captures ? g->captures : 0,
                                     .behind = behind,
                                     .name = name,
                                     .name_len = name_len});
}

void segue__groups_branch(segue__groups *g) {
  g->items[g->open].now++;
}

uint32_t segue__groups_close(segue__groups *g, size_t end) {
  uint32_t closed = g->open;
  g->items[closed].closed = true;
  g->items[closed].end = end;
  g->open = g->items[closed].up;
  return closed;
}

void segue__groups_repeat(segue__groups *g, uint32_t group, bool at_most_once) {
  g->items[group].rounds = at_most_once ? SEGUE__ROUNDS_ONE : SEGUE__ROUNDS_MANY;
}

bool segue__groups_refer(segue__groups *g, uint32_t number, const char *name, size_t name_len,
                         size_t at) {
  segue__reference *references =
      group_room(g->references, g->reference_count, &g->reference_capacity, sizeof *references);
  if (!references) return false;
  g->references = references;
  references[g->reference_count++] =
      (segue__reference){g->open, g->items[g->open].now, number, name, name_len, at};
  return true;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static bool group_same_name(const segue__group *a, const char *name, size_t len) {
  return a->name && a->name_len == len && !memcmp(a->name, name, len);
}

static unsigned depth_of(const segue__groups *g, uint32_t group) {
  unsigned depth = 0;
  for (; group != ROOT; group = g->items[group].up)
    depth++;
  return depth;
}

/* Returns whether two groups are in different alternatives of one group: then only one of them
 * takes part in a match. */
static bool group_apart(const segue__groups *g, uint32_t a, uint32_t b) {
  unsigned m = depth_of(g, a), n = depth_of(g, b);
  for (; m > n; m--)
    a = g->items[a].up;
  for (; n > m; n--)
    b = g->items[b].up;
  while (a != b && g->items[a].up != g->items[b].up) {
    a = g->items[a].up;
    b = g->items[b].up;
  }
  return a != b && g->items[a].branch != g->items[b].branch;
}

/* One name for two groups: ECMA-262 allows it where they are apart, PCRE2 does not. */
static const char *validate_names(const segue__groups *g, size_t *at, bool *unsupported) {
  for (uint32_t i = 1; i < g->count; i++)
    for (uint32_t j = 1; j < i && g->items[i].name; j++) {
      if (!group_same_name(&g->items[j], g->items[i].name, g->items[i].name_len)) continue;
      *at = g->items[i].end - 1;
      *unsupported = group_apart(g, i, j);
      return *unsupported ? "two groups of one name are not supported"
                          : "two groups have the same name";
    }
  return NULL;
}

/* ---- References ------------------------------------------------------------------------------ */

static const segue__group *group_target(const segue__groups *g, const segue__reference *ref) {
  for (size_t i = 1; i < g->count; i++) {
    const segue__group *group = &g->items[i];
    if (ref->number ? group->number == ref->number
                    : group_same_name(group, ref->name, ref->name_len))
      return group;
  }
  return NULL;
}

static bool repeated_around(const segue__groups *g, const segue__group *group) {
  for (uint32_t up = group->up; up != ROOT; up = g->items[up].up)
    if (g->items[up].rounds) return true;
  return false;
}

static const char *validate_one(const segue__groups *g, const segue__reference *ref,
                                bool *unsupported) {
  const segue__group *group = group_target(g, ref);
  if (!group)
    return ref->number ? "there is no group of the number that a reference names"
                       : "there is no group of the name that a reference names";
  *unsupported = true;
  bool beside = false; /* later in the group's own alternative */
  uint32_t branch = ref->branch;
  for (uint32_t in = ref->in;; in = g->items[in].up) {
    if (in == group->up && branch == group->branch && group->end <= ref->at) beside = true;
    if (in == ROOT) break;
    if (&g->items[in] == group)
      return "a reference of a group to itself is not supported: it finds nothing in ECMA-262";
    if (g->items[in].behind) return "a reference inside of a lookbehind is not supported";
    branch = g->items[in].branch;
  }
  bool once = !repeated_around(g, group);
  if (group->rounds == SEGUE__ROUNDS_MANY || (!once && (group->rounds || !beside)))
    return "a reference to a repeated group is supported only later in the alternative that "
           "holds it, where what is repeated is around both: ECMA-262 forgets the last round";
  return NULL;
}

const char *segue__groups_validate(const segue__groups *g, size_t *at, bool *unsupported) {
  const char *why = validate_names(g, at, unsupported);
  for (size_t i = 0; i < g->reference_count && !why; i++) {
    *at = g->references[i].at;
    *unsupported = false;
    why = validate_one(g, &g->references[i], unsupported);
  }
  return why;
}

/* SPDX-License-Identifier: MIT
 *
 * options_harness.h: a table of options with a row of each type, a family of two kinds, and a
 * validation of a tree by it.
 */
#ifndef SEGUE_SPEC_OPTIONS_HARNESS_H
#define SEGUE_SPEC_OPTIONS_HARNESS_H

#include "core/options/describe.h"

typedef struct options_pet {
  char *name;
  segue_option_kind_value kind;
  uint64_t legs;
} options_pet;

typedef struct options_cat {
  uint64_t lives;
  char *home;
} options_cat;

typedef struct options_drain {
  uint64_t within_ms;
  int over;
} options_drain;

typedef struct options_all {
  char *text, *path;
  segue_option_string string;
  uint64_t duration_ms, size_bytes, count;
  int64_t integer;
  double number;
  bool number_given;
  bool boolean;
  int choice;
  bool on;
  unsigned pages, mode;
  double rate;
  struct {
    char **items;
    size_t count;
  } texts;
  struct {
    uint64_t *items;
    size_t count;
  } times;
  struct {
    segue_option_pair *items;
    size_t count;
  } pairs;
  options_drain drain;
  struct {
    options_drain *items;
    size_t count;
  } drains;
  struct {
    options_pet *items;
    size_t count;
  } pets;
  int function;
  const segue_node *any;
} options_all;

extern const segue_option_table options_all_table, options_pet_table, options_cat_table;
/* Fills out; *errors gets all mistakes. first: number of the first item of a list. */
int options_all_fill(const segue_node *node, uint32_t first, options_all *out,
                     segue__errors *errors);
void options_all_clear(options_all *out);
/* Constants of the engine, for policies that no table has filled, and the rows with the same
 * defaults: "drain.within" of the topic "module". Ends with topic NULL. */
typedef struct options_constant {
  const char *topic, *row;
  double value; /* milliseconds, bytes or a number */
} options_constant;
extern const options_constant options_constants[];
/* All topics of a policy; room for SEGUE__LUA_TOPICS_MAX. */
segue__topics options_policy_topics(segue__option_kind *room);
/* The topics "all", "pet", "pet cat" and "pet dog". */
extern const segue__topics options_topics;

#endif

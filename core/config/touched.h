/* SPDX-License-Identifier: MIT
 *
 * touched.h: the parts of a configuration that a template has read, as paths with the hashes of
 * what is there. As long as the hashes are equal, the template would read the same again. Any
 * thread; a list is used by one at a time.
 */
#ifndef SEGUE_CONFIG_TOUCHED_H
#define SEGUE_CONFIG_TOUCHED_H

#include "tree.h"

typedef struct segue__touch {
  char *path; /* keys joined by "/", below the root of the list; "": the root itself */
  segue__hash hash;
  bool whole;   /* the root is the one that functions read; false: the module's part */
  bool wanted;  /* a function requested it by its name: a source may deliver it on demand */
  bool missing; /* and it is missing */
} segue__touch;

typedef struct segue__touched {
  segue__touch *items;
  size_t count, capacity;
} segue__touched;

/* The value at a path; NULL if there is none. A path whose keys contain "/" is found too: each of
 * its beginnings is tried as a key, the shortest first. Items of a list count from 0. */
const segue_node *segue__keys_find(const segue_node *root, const char *path, size_t len);

/* Adds a path with its hash below root, which may be NULL. path is copied. UV_ENOMEM. */
int segue__touched_add(segue__touched *touched, const segue__touch *touch, const segue_node *root);
/* Replaces *to, which is initialized. UV_ENOMEM: *to is empty. */
int segue__touched_copy(segue__touched *to, const segue__touched *from);
void segue__touched_deinit(segue__touched *touched);
/* The first path whose value differs below these roots, which may be NULL; NULL: all are equal. */
const char *segue__touched_differs(const segue__touched *touched, const segue_node *part,
                                   const segue_node *whole);

#endif

/* SPDX-License-Identifier: MIT
 *
 * kind.h: the kind of module "process", for the rest of the program: a program that runs beside the
 * daemon, gets its part of the configuration, and is supervised. Control thread.
 */
#ifndef SEGUE_PROCESS_KIND_H
#define SEGUE_PROCESS_KIND_H

#include "../os/log.h"
#include "../reload/policy.h"
#include "../socket/socket.h"
#include "kind_options.h"

/* The modules of one instance of segue share it. */
typedef struct segue__process_world segue__process_world;
/* folder: for the files of slices, of this process alone; NULL: there is none. It is made with the
 * first file. loop, log and os are borrowed. */
int segue__process_world_new(segue__process_world **out, segue__loop *loop,
                             const segue__logger *log, const segue__os *os, const char *folder);
/* The registry of the sockets of children; without one no child has any. Borrowed. */
void segue__process_world_set_sockets(segue__process_world *world, segue__sockets *sockets);
/* Removes files that a process which was killed has left. */
void segue__process_world_clean(const segue__process_world *world);
/* When the engine is freed; the loop may still have jobs of it. NULL allowed. */
void segue__process_world_close(segue__process_world *world);

/* Makes the spec of a module: operations, action, reasons to replace it. Takes what options owns,
 * and leaves it zeroed. node: the module in the policy. world NULL: the module does nothing. */
int segue__process_module_resolve(segue__process_world *world, segue__process_kind_options *options,
                                  const segue_node *node, const char *folder,
                                  segue__module_spec *spec, segue_error *err);

#endif

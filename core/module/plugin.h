/* SPDX-License-Identifier: MIT
 *
 * plugin.h: modules in shared objects. A plugin is loaded from bytes, once for each content, and
 * stays as long as a policy names it or an instance of it lives. Control thread.
 */
#ifndef SEGUE_MODULE_PLUGIN_H
#define SEGUE_MODULE_PLUGIN_H

#include "../config/tree.h"

typedef struct segue__plugin segue__plugin;
typedef struct segue__plugins segue__plugins;

enum { SEGUE__PLUGIN_BYTES = 16 << 20 };

/* The list of loaded plugins. free: plugins with live objects are never unloaded. */
int segue__plugins_new(segue__plugins **out);
void segue__plugins_free(segue__plugins *plugins);

/* Returns the plugin with these bytes (borrowed), with a reference; loads it if it is not loaded.
 * path names it in errors. Codes: SEGUE_EPOLICY, UV_ENOMEM. */
int segue__plugin_load(segue__plugins *plugins, const char *path, const void *bytes, size_t len,
                       segue__plugin **out, segue_error *err);
segue__plugin *segue__plugin_ref(segue__plugin *plugin); /* NULL allowed */
void segue__plugin_unref(segue__plugin *plugin);         /* NULL allowed */
/* Return the descriptors that the plugin exports; NULL: it has no module, or no source. At least
 * one exists. */
const segue_module_descriptor *segue__plugin_descriptor(const segue__plugin *plugin);
const segue_source_descriptor *segue__plugin_source(const segue__plugin *plugin);
segue__hash segue__plugin_hash(const segue__plugin *plugin);
/* Validates the descriptor of a module of the host by the rules for plugins, and copies the part of
 * it that this version knows; the rest of *known is zero. Errors as below. */
int segue__module_descriptor_validate(const segue_module_descriptor *descriptor,
                                      segue_module_descriptor *known, segue_error *err);
/* Validates the descriptor of a source of the host by the rules for plugins. SEGUE_EPOLICY: the
 * message is a predicate, without its subject: "has no name ...". */
int segue__source_descriptor_validate(const segue_source_descriptor *descriptor, segue_error *err);

/* plugin_elf.c: reads magic, ABI version and size of the descriptor from a shared object, without
 * loading it. Rejects a file that could crash the system's loader. */
int segue__plugin_inspect(const void *bytes, size_t len, const char *symbol, uint32_t *magic,
                          uint32_t *abi, size_t *size, segue_error *err);
/* Returns whether a shared object exports the symbol. */
bool segue__plugin_exports(const void *bytes, size_t len, const char *symbol);

#endif

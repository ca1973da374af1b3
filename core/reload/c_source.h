/* SPDX-License-Identifier: MIT
 *
 * c_source.h: sources in C, of plugins and of the host, as sources of the engine. Control thread.
 */
#ifndef SEGUE_RELOAD_C_SOURCE_H
#define SEGUE_RELOAD_C_SOURCE_H

#include "../options/options.h"
#include "../source/source.h"

/* Opens a source: sets kind, impl and pushes of source, whose name is set. options is a map. The
 * descriptor and its tables must stay until the source is freed. On failure err has a sentence;
 * source is as before. */
int segue__c_source_open(segue__source *source, const segue_source_descriptor *descriptor,
                         const segue_node *options, const segue__options_env *env,
                         segue_error *err);

#endif

/* SPDX-License-Identifier: MIT
 *
 * c_source.h: sources in C, of plugins and of the host, as sources of the engine. Control thread.
 */
#ifndef SEGUE_SOURCE_C_SOURCE_H
#define SEGUE_SOURCE_C_SOURCE_H

#include "../options/options.h"
#include "source.h"

/* Opens a source: sets kind, impl and pushes of source, whose name is set. values: options by the
 * descriptor's table; the source keeps a reference. The descriptor and its table must stay until
 * the source is freed. On failure err has a sentence; source is as before. */
int segue__c_source_open(segue__source *source, const segue_source_descriptor *descriptor,
                         segue__option_values *values, segue_error *err);

#endif

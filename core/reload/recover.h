/* SPDX-License-Identifier: MIT
 *
 * recover.h: failed modules: their gates, and fresh instances with back-off.
 */
#ifndef SEGUE_RELOAD_RECOVER_H
#define SEGUE_RELOAD_RECOVER_H

#include "engine_state.h"

/* An instance reported its failure: the callback of segue__detached. */
void segue__recover_failed(void *engine, segue__instance *instance);
void segue__recover_later(segue__engine *engine, segue__module_record *module); /* with back-off */
/* Refuses calls of a module without an instance, or lets them wait, by its on_failure. */
void segue__recover_close_gate(segue__engine *engine, segue__module_record *module);
void segue__gates_settle(segue__engine *engine); /* none is shut once a transaction is over */

#endif

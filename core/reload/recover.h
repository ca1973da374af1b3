/* SPDX-License-Identifier: MIT
 *
 * recover.h: failed modules: their gates, and fresh instances with back-off.
 */
#ifndef SEGUE_RELOAD_RECOVER_H
#define SEGUE_RELOAD_RECOVER_H

#include "engine_state.h"

/* An instance reported its failure: the callback of segue__detached. */
void segue__recover_failed(void *engine, segue__instance *instance);
/* The undo of a change could not bring the module back: takes down its instance, if it has one, and
 * tries again with a pause. */
void segue__recover_lost(segue__engine *engine, segue__module_record *module,
                         const segue_error *error);
void segue__recover_clear(segue__module_record *module); /* it serves again */
void segue__gates_settle(segue__engine *engine); /* none is shut once a transaction is over */

#endif

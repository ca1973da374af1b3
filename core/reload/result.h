/* SPDX-License-Identifier: MIT
 *
 * result.h: the truth about one run.
 */
#ifndef SEGUE_RELOAD_RESULT_H
#define SEGUE_RELOAD_RESULT_H

#include "run.h"

int segue__result_new(segue__result **out, const segue__queued_run *run);
void segue__result_error(segue__result *result, const segue_error *error);
void segue__result_drop_changes(segue__result *result); /* others are taken */
/* mask: what is not shown. */
int segue__result_take_changes(segue__result *result, const segue__changes *changes,
                               const segue__mask *mask);

#endif

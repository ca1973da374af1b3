/* SPDX-License-Identifier: MIT
 *
 * recovery.h: what a start does with the intent that a killed process left.
 */
#ifndef SEGUE_FILES_RECOVERY_H
#define SEGUE_FILES_RECOVERY_H

#include "../reload/action.h"

/* Finishes or undoes the files, then applies them: whether that was done before cannot be known,
 * and what applies files may be done twice. */
void segue__files_recover(segue__recovery *recovery);

#endif

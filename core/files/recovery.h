/* SPDX-License-Identifier: MIT
 *
 * recovery.h: what a start does with the intent that a killed process left.
 */
#ifndef SEGUE_FILES_RECOVERY_H
#define SEGUE_FILES_RECOVERY_H

#include "../reload/action.h"
#include "command.h"

/* Finishes or undoes the files, then runs the command: whether it ran before cannot be known, and a
 * command that applies files may run twice. */
void segue__files_recover(segue__recovery *recovery);
/* The words as a JSON list, for the intent. */
void segue__recovery_write_command(const segue__file_command *command, segue__buf *json);

#endif

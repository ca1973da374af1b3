/* SPDX-License-Identifier: MIT
 *
 * effects.h: an action with effects outside memory, for specs. Its module "pair" has two files, `a`
 * and `b`, both with the value of `n` in the configuration, and a command that copies both into
 * `applied`. So a spec sees whether files, command and configuration belong to the same generation.
 * It uses the engine by the same seam as kinds of modules that come with segue.
 */
#ifndef SPEC_SUPPORT_EFFECTS_H
#define SPEC_SUPPORT_EFFECTS_H

#include "../../core/reload/action.h"
#include "../../core/reload/policy.h"

/* Userdata of the module: the folder of the files. */
typedef struct effects_module {
  char folder[512];
} effects_module;

const segue__action *effects_action(void);
const segue_module_ops *effects_ops(void);

/* Fault points, in the order of a reload: effects.stage.a effects.stage.b effects.write.a
 * effects.write.b effects.commit.command effects.commit.ran effects.settle.now; of an undo:
 * effects.back.a effects.back.b effects.back.run effects.back.ran; of a recovery: effects.recover.a
 * effects.recover.b effects.recover.run effects.recover.ran. */

#endif

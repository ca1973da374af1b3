/* SPDX-License-Identifier: MIT
 *
 * policy_options.h: the options of a policy, and a policy from a tree. The tree is what reload.lua
 * returned (core/bind makes it), or comes from anything else that has maps and lists.
 */
#ifndef SEGUE_RELOAD_POLICY_OPTIONS_H
#define SEGUE_RELOAD_POLICY_OPTIONS_H

#include "../options/describe.h"
#include "policy.h"

extern const segue_option_table segue__policy_options, segue__trigger_options, segue__probe_options;

/* The topics of policies but for kinds of sources and modules that others register: tables of no
 * family, and the families "source", "trigger" and "probe" with the kinds that are built in.
 */
extern const segue__topics segue__policy_topics;

/* Fills policy, which is new, from a tree. env: its kinds must have all of the three families and
 * "module". Values of segue.value and the operations of modules are not set here: the code of their
 * kinds sets them. Returns 0, or the code of the first error; all are added. */
int segue__policy_from_tree(segue__policy *policy, const segue_node *tree,
                            const segue__options_env *env, segue__errors *errors);

#endif

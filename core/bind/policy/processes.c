/* SPDX-License-Identifier: MIT
 *
 * The module kind "process" for policies.
 */
#include "policy.h"

static int process_resolve(const segue__module_kind *kind, const segue__kind_place *place,
                           const segue_node *node, void *options, segue__module_spec *spec,
                           segue_error *err) {
  return segue__process_module_resolve(kind->data, options, node, place->folder, spec, err);
}

segue__module_kind segue__module_kind_process(segue__process_world *world) {
  return (segue__module_kind){.name = "process",
                              .options = &segue__process_kind_table,
                              .resolve = process_resolve,
                              .data = world};
}

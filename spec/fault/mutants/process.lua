-- SPDX-License-Identifier: MIT
-- Mutants of core/process: modules. See ../mutants.lua for the fields of a row.
local daemon = require("spec.fault.mutants.specs").daemon

local function module(filter) return daemon("spec/daemon/process_spec.lua", filter) end
local budget = "spec/unit/restart_budget_spec.lua"

return {
  { "the slice of before in an undo", "core/process/kind_action.c",
    "change_begin(step, next, old, true);", "segue__step_unstart(step);",
    module "delivers the slice of before" },
  { "a child whose generation can be undone", "core/process/kind_instance.c",
    "if (instance->on_trial) {", "if (0) {", module "while its change can be undone" },
  { "a child that did not change", "core/process/kind_action.c",
    "!segue__hash_equal(from->slice_hash, to->slice_hash)", "true",
    module "does not touch the child" },
  { "options that a running child can take", "core/process/kind_action.c",
    "!segue__hash_equal(instance->module->launch, module->launch)", "true",
    module "does not touch the child" },
  { "messages of the child alone", "core/process/launch.c",
    ".notify_main_only = !o->ready.from_all", ".notify_main_only = false",
    module "and not of its children" },
  { "the limit of readiness", "core/process/managed.c",
    "  managed->late = true;\n  segue__process_stop(managed->process);", "",
    module "fails the reload with the last output" },
  { "the rate of lines", "core/process/managed.c", "if (managed->tokens < 1) return false;", "",
    module "cut and counted past the rate" },
  { "the watchdog of a child", "core/process/managed.c",
    "  managed->hung = true;\n  segue__process_kill(managed->process);", "",
    module "no message to its watchdog" },
  { "the program of the next child", "core/process/kind_instance.c",
    "status = instance_find_program(instance, &found);", "status = 0;",
    module "before the running one is touched" },
  { "READY=1 after RELOADING=1", "core/process/kind_action.c",
    "if (!change->reload->notify) change_delivered", "change_delivered",
    module "by RELOADING and READY" },
  { "the time of the budget", "core/process/restart_budget.c",
    "now_ms - budget->at[budget->next] < limits->within_ms", "1", budget },
  { "the back-off of a stable child", "core/process/restart_budget.c",
    "if (ran_ms >= limits->stable_ms) budget->in_a_row = 0;", "", budget },
  { "the longest pause", "core/process/restart_budget.c",
    "if (pause > limits->backoff_max_ms) pause = limits->backoff_max_ms;", "", budget },
  { "the sockets of the instance before", "core/process/child_sockets.c",
    "    if (!strcmp(s->address.text, address.text)) {", "    if (0) {",
    module "in a restart and in a handover" },
  { "sockets that outlive a child", "core/process/kind_instance.c",
    "  segue__process_child_drop(&instance->child);\n  SEGUE__LOG",
    "  segue__process_child_drop(&instance->child);\n"
      .. "  segue__child_sockets_release(instance);\n  SEGUE__LOG",
    module "100 restarts under connecting clients" },
  { "datagrams of two children", "core/process/child_sockets.c",
    "if (handover && address.type == SEGUE__SOCKET_UDP)", "if (0)", module "are not handed over" },
}

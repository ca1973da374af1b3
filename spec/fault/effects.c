/* SPDX-License-Identifier: MIT
 *
 * effects FOLDER STEP...: an engine on a real loop, with the state folder FOLDER/state, one source
 * FOLDER/conf.yaml and the module of spec/support/effects.h. It does the steps one after the other:
 *   conf=TEXT   writes conf.yaml         arm=POINTS  arms fault points
 *   sick        the probe fails          confirm     generations have to be confirmed by the probe
 *   start       the first load           reload      an explicit request
 *   by-hand     the policy replaces the module before it commits
 * and prints a line for each run: its outcome, the generation that is live, the error. The first
 * line is the last good generation that was found. "unknown" as the first step: an engine that does
 * not know the action, as of an older version.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#ifndef SEGUE_TEST
#define SEGUE_TEST /* it is linked with the test library only */
#endif
#include "../../core/os/fault.h"
#include "../../core/source/kinds.h"
#include "../support/effects.h"
#include "../support/scripted.h"

typedef struct host {
  uv_loop_t uv;
  segue__loop *loop;
  segue__engine *engine;
  segue__record *record;
  segue__publication *publication;
  segue__policy *policy;
  scripted_world *world;
  scripted_hooks *hooks;
  effects_module module;
  segue__waiter waiter;
  char **steps;
  const char *folder;
  bool known;
} host;

static void host_next(host *h);

static void host_log(void *data, const segue_log_entry *entry) {
  (void)data;
  fprintf(stderr, "%s\n", entry->message);
}

static void host_check(int rc) {
  if (rc >= 0) return;
  fprintf(stderr, "effects: %s\n", segue_strerror(rc));
  abort();
}

static void host_conf(const host *h, const char *text) {
  char path[600];
  snprintf(path, sizeof path, "%s/conf.yaml", h->folder);
  FILE *file = fopen(path, "w");
  if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file)) abort();
}

static void host_answered(segue__waiter *waiter, int status, segue__result *result) {
  host *h = waiter->data;
  if (status)
    printf("%s\n", segue_strerror(status));
  else
    printf("%s %d%s%s\n", segue__outcome_name(result->outcome), (int)result->generation,
           result->errors.count ? " " : "",
           result->errors.count ? result->errors.items[0].message : "");
  fflush(stdout);
  host_next(h);
}

static void host_closed(void *data) {
  host *h = data;
  h->loop = NULL;
}

static void host_stopped(void *data) {
  host *h = data;
  segue__engine_free(h->engine);
  segue__record_free(h->record);
  segue__loop_close(h->loop, host_closed, h);
}

static void host_request(host *h, segue__trigger trigger) {
  const segue__reload_request request = {.trigger = trigger};
  host_check(segue__engine_request(h->engine, &request, &h->waiter));
}

static void host_next(host *h) {
  for (const char *step; (step = *h->steps);) {
    h->steps++;
    if (!strncmp(step, "conf=", 5)) {
      host_conf(h, step + 5);
    } else if (!strncmp(step, "arm=", 4)) {
      host_check(segue__fault_arm(step + 4));
    } else if (!strcmp(step, "sick")) {
      h->hooks->probe = SCRIPTED_FAIL;
    } else if (!strcmp(step, "confirm")) {
      h->policy->confirm = h->policy->has_probe = true;
    } else if (!strcmp(step, "by-hand")) {
      h->policy->has_reload = true;
      snprintf(h->hooks->script, sizeof h->hooks->script, "prepare replace:pair commit confirm");
    } else if (!strcmp(step, "start") || !strcmp(step, "reload")) {
      host_request(h, *step == 's' ? SEGUE__BY_START : SEGUE__BY_HTTP);
      return;
    } else {
      fprintf(stderr, "effects: what is %s?\n", step);
      abort();
    }
  }
  segue__engine_stop(h->engine, host_stopped, h);
}

static char *host_copy(const char *text) {
  char *copy = segue__strdup(text);
  if (!copy) abort();
  return copy;
}

static void host_policy(host *h) {
  char path[600];
  host_check(segue__policy_new(&h->policy));
  segue__policy *p = h->policy;
  p->sources = segue__calloc(1, sizeof *p->sources);
  p->modules = segue__calloc(1, sizeof *p->modules);
  if (!p->sources || !p->modules) abort();
  p->source_count = p->module_count = 1;
  snprintf(path, sizeof path, "%s/conf.yaml", h->folder);
  p->sources[0].kind = &segue__source_file;
  p->sources[0].name = host_copy("conf.yaml");
  p->sources[0].path = host_copy(path);
  p->sources[0].format = -1;
  snprintf(h->module.folder, sizeof h->module.folder, "%s", h->folder);
  segue__module_spec *m = &p->modules[0];
  m->name = host_copy("pair");
  m->kind = host_copy("pair");
  m->replace = SEGUE__HANDOVER;
  m->ops = effects_ops();
  m->userdata = &h->module;
  if (h->known) m->action = effects_action();
  h->world = scripted_world_new();
  h->hooks = scripted_hooks_new(h->world);
  p->confirm_failures = 1;
  p->confirm_within_ms = 60000;
  p->ops = scripted_policy_ops();
  p->impl = h->hooks;
}

static void host_open(host *h) {
  static segue__logger log = {.level = SEGUE_WARN, .sink = host_log};
  static const segue__action *actions[1];
  char state[600];
  actions[0] = effects_action();
  snprintf(state, sizeof state, "%s/state", h->folder);
  (void)mkdir(state, 0700);
  host_check(uv_loop_init(&h->uv));
  host_check(segue__loop_open_uv(&h->loop, &h->uv));
  host_check(scripted_record_new(&h->record, h->loop, segue__os_default(), &log, state));
  host_check(segue__publication_new(&h->publication));
  host_policy(h);
  printf("last good %d\n", (int)segue__record_found(h->record)->last_good.generation);
  fflush(stdout);
  segue__engine_options options = {.size = sizeof options,
                                   .loop = h->loop,
                                   .os = segue__inputs_os(segue__record_inputs(h->record)),
                                   .record = h->record,
                                   .log = &log,
                                   .publication = h->publication,
                                   .policy = h->policy,
                                   .actions = actions,
                                   .action_count = h->known};
  host_check(segue__engine_new(&h->engine, &options));
}

int main(int argc, char **argv) {
  static host h;
  if (argc < 2) return 2;
  h.folder = argv[1];
  h.steps = argv + 2;
  h.known = !h.steps[0] || strcmp(h.steps[0], "unknown") != 0;
  h.steps += !h.known;
  h.waiter.cb = host_answered;
  h.waiter.data = &h;
  host_open(&h);
  host_next(&h);
  uv_run(&h.uv, UV_RUN_DEFAULT);
  segue__policy_unref(h.policy);
  scripted_world_free(h.world);
  segue__publication_free(h.publication);
  return uv_loop_close(&h.uv) ? 3 : 0;
}

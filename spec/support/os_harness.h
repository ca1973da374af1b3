/* SPDX-License-Identifier: MIT
 *
 * os_harness.h: what the specs of the loop need in C, because it runs on other threads than Lua's:
 * jobs that record what happens to them and hang on request, and threads that post messages.
 */
#ifndef SEGUE_SPEC_OS_HARNESS_H
#define SEGUE_SPEC_OS_HARNESS_H

#include "core/os/log.h"
#include "core/os/loop.h"

/* A job that writes "run N", "done N" and "abandoned N" into the journal. hang: run() waits until
 * os_harness_release. Freed by its own done() or abandoned(). */
typedef struct os_harness_job os_harness_job;
os_harness_job *os_harness_job_new(int number, bool hang);
int os_harness_job_submit(segue__loop *loop, os_harness_job *job); /* to the queue "collect" */
int os_harness_job_submit_to(segue__loop *loop, segue__queue queue, os_harness_job *job);
void os_harness_job_abandon(segue__loop *loop, os_harness_job *job);
/* Remembers a job that is lost with its thread, so that the leak checker finds it. */
void os_harness_job_lose(os_harness_job *job);
void os_harness_release(void); /* all that hang now */
int os_harness_hanging(void);  /* how many are inside run() and wait */
/* Moves the journal, "; "-separated, into buf and empties it. */
const char *os_harness_journal(char *buf, size_t size);
int os_harness_threads(const char *name); /* threads of this process with that name */
/* Whether every signal is blocked in the last thread that ran a job. */
bool os_harness_signals_blocked(void);

/* threads post messages each; every message is posted again from its own fn `again` times. */
int os_harness_storm_start(segue__loop *loop, int threads, int messages, int again);
int os_harness_storm_delivered(void);
int os_harness_storm_disorder(void); /* messages of one thread that came before earlier ones */
void os_harness_storm_end(void);     /* joins the threads */

/* A log that stores its lines, from any thread: "level group: message key=value ...". One for the
 * process; os_harness_log_take moves the stored lines into buf. */
const segue__logger *os_harness_log(void);
const char *os_harness_log_take(char *buf, size_t size);
/* Logs a field of each type that a field can have; returns how many arguments were evaluated. */
int os_harness_log_types(const segue__logger *log, segue_level level);

int os_harness_open_fds(void);
int os_harness_zombies(void); /* dead children that are not reaped */

#endif

/* SPDX-License-Identifier: MIT
 *
 * fault.h: named fault points, in test builds only. A spec arms a point ("commit.2=fail",
 * "settle.record=kill"), by segue__fault_arm or the environment variable SEGUE_FAULTS (comma
 * separated), and afterwards asserts that it was reached. "commit#3=fail" fails the third time
 * only, counted from when it is armed. In other builds the macro is 0.
 *
 * Memory fails likewise: SEGUE_MEM_FAIL_AT=n makes the n-th allocation of the process fail and
 * reports that on standard error. While the variable is set ("0": no failure yet), SIGRTMAX sent
 * with a value (sigqueue) makes allocations fail from then on: n + 2^20 * (length - 1) for a burst
 * that begins with the n-th; -(one_in + 2^12 * seed) for random bursts (mem.h). The variable takes
 * the same numbers.
 */
#ifndef SEGUE_OS_FAULT_H
#define SEGUE_OS_FAULT_H

#ifdef SEGUE_TEST
#include <stdint.h>

/* 0, or the negative code to fail with (UV_EIO for "fail"; "fail:-28" chooses). "kill" sends
 * SIGKILL to the process and does not return; "hang" returns 0 once all is disarmed, or the file
 * exists that the environment variable SEGUE_FAULTS_END names; "stop" sends SIGSTOP, and returns 0
 * when the process continues. All of this: [any thread]. */
int segue__fault(const char *point);
/* Arms more points; NULL disarms all and forgets which were reached. Returns UV_EINVAL if spec is
 * malformed, UV_ENOSPC past 64 points; none of spec is armed then. */
int segue__fault_arm(const char *spec);
int segue__fault_reached(const char *point); /* how often, armed or not */
void segue__fault_memory(void);              /* an allocation was made to fail */
#define SEGUE_FAULT(point) segue__fault(point)
/* Returns the number in the environment variable SEGUE_TEST_name, else `usual`: for fixed times
 * that are too long for a spec. */
uint64_t segue__test_ms(const char *name, uint64_t usual);
#define SEGUE_TEST_MS(name, usual) segue__test_ms(name, usual)
#else
#define SEGUE_FAULT(point) 0
#define SEGUE_TEST_MS(name, usual) (usual)
#endif

#endif

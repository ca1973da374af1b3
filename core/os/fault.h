/* SPDX-License-Identifier: MIT
 *
 * fault.h: named fault points, in test builds only. A spec arms a point ("commit.2=fail",
 * "settle.record=kill"), by segue__fault_arm or the environment variable SEGUE_FAULTS (comma
 * separated), and afterwards asserts that it was reached. In other builds the macro is 0.
 */
#ifndef SEGUE_OS_FAULT_H
#define SEGUE_OS_FAULT_H

#ifdef SEGUE_TEST
/* 0, or the negative code to fail with (UV_EIO for "fail"; "fail:-28" chooses). "kill" sends
 * SIGKILL to the process and does not return. [any thread] */
int segue__fault(const char *point);
void segue__fault_arm(const char *spec); /* NULL disarms all and forgets what was reached */
int segue__fault_reached(const char *point); /* how often */
#define SEGUE_FAULT(point) segue__fault(point)
#else
#define SEGUE_FAULT(point) 0
#endif

#endif

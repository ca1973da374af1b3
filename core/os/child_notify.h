/* SPDX-License-Identifier: MIT
 *
 * child_notify.h: the receiving side of sd_notify(3): one socket for each child, whose address is
 * the child's $NOTIFY_SOCKET.
 */
#ifndef SEGUE_OS_CHILD_NOTIFY_H
#define SEGUE_OS_CHILD_NOTIFY_H

#include "../segue.h"

/* One message of a child. Absent assignments are false, 0 or NULL. */
typedef struct segue__notice {
  int pid;                      /* the sender: the child, or a process of its session */
  bool ready;                   /* READY=1 */
  bool reloading;               /* RELOADING=1 */
  bool stopping;                /* STOPPING=1 */
  bool watchdog;                /* WATCHDOG=1 */
  bool watchdog_trigger;        /* WATCHDOG=trigger: the child reports itself as hung */
  uint64_t monotonic_usec;      /* MONOTONIC_USEC=: when the reload began, by CLOCK_MONOTONIC */
  uint64_t extend_timeout_usec; /* EXTEND_TIMEOUT_USEC= */
  uint64_t watchdog_usec;       /* WATCHDOG_USEC=: the interval that the child requests */
  int error;                    /* ERRNO=, positive */
  const char *status;           /* STATUS=: foreign text, as it came; borrowed */
} segue__notice;

#define SEGUE__NOTICE_BYTES 4096 /* the longest message, as systemd has it */

/* Opens a socket with an abstract address that the kernel chooses, and writes the address as
 * $NOTIFY_SOCKET has it ("@..."). An abstract address needs no folder that a child of another user
 * can enter, and no file stays behind after a crash. Any local process can send to it: therefore
 * each message is accepted or refused by its sender. Returns the descriptor or a negative code. */
int segue__notice_open(char *address, size_t size);

typedef struct segue__notice_reader {
  int fd;
  int child;      /* pid */
  bool main_only; /* believe the child alone, not the other processes of its session */
  char text[SEGUE__NOTICE_BYTES + 1];
  char why[200]; /* why the last message was refused */
} segue__notice_reader;

typedef enum segue__notice_result {
  SEGUE__NOTICE_NONE,    /* no message is there */
  SEGUE__NOTICE_TAKEN,   /* *out is set; its text is borrowed until the next call */
  SEGUE__NOTICE_EMPTY,   /* a BARRIER=1 was answered */
  SEGUE__NOTICE_REFUSED, /* reader->why has the reason */
} segue__notice_result;
/* Reads one message. Every message before a BARRIER=1 was returned before its descriptor is closed,
 * which is what the sender waits for. */
segue__notice_result segue__notice_read(segue__notice_reader *reader, segue__notice *out);

/* Parses the assignments of one message from `pid`; text is changed. Returns false and the reason
 * in why if the whole message is refused. Without sockets, for specs and fuzzing. */
bool segue__notice_parse(char *text, size_t len, int child, segue__notice *out, char *why,
                         size_t why_size);

#endif

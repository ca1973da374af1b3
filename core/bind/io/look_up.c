/* SPDX-License-Identifier: MIT
 *
 * The threads that look names up: getaddrinfo(3) for addresses, res_nquery(3) for other records.
 */
#include "look_up.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <string.h>

#include "../../os/thread.h"

enum { STACK_BYTES = 256 << 10, ANSWER_BYTES = 64 << 10 };

/* ---- The thread ------------------------------------------------------------------------------ */

static void bridge_leave_locked(segue__bridge *bridge) {
  bool last = --bridge->refs == 0;
  pthread_mutex_unlock(&bridge->mutex);
  if (!last) return;
  pthread_mutex_destroy(&bridge->mutex);
  segue__free(bridge);
}

void segue__look_up_free(segue__look_up *look) {
  if (!look) return;
  segue__dns_records_deinit(&look->records);
  segue__free(look->name);
  segue__free(look);
}

static bool look_up_has(const segue__look_up *look, const char *address) {
  for (size_t i = 0; i < look->count; i++) {
    if (!strcmp(look->addresses[i], address)) return true;
  }
  return false;
}

static void look_up_note(segue__look_up *look, const struct addrinfo *entry) {
  char address[INET6_ADDRSTRLEN];
  if (look->count == SEGUE__ADDRESSES_MAX) return;
  if (getnameinfo(entry->ai_addr, entry->ai_addrlen, address, sizeof address, NULL, 0,
                  NI_NUMERICHOST))
    return;
  if (!look_up_has(look, address)) strcpy(look->addresses[look->count++], address);
}

static void look_up_addresses(segue__look_up *look) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
  int status = getaddrinfo(look->name, NULL, &hints, &list), sys_code = errno;
  for (const struct addrinfo *entry = status ? NULL : list; entry; entry = entry->ai_next)
    look_up_note(look, entry);
  if (list) freeaddrinfo(list);
  if (!status) return;
  const char *why = status == EAI_SYSTEM ? segue_strerror(-sys_code) : gai_strerror(status);
  int code = status == EAI_AGAIN ? UV_EAI_AGAIN : UV_EAI_NONAME;
  segue__errorf(&look->error, code, "the host %.200s is not known: %s", look->name, why);
}

/* "There is no such name", "the name has no such record" and "no name server answers" are three
 * different things: only the last one may pass by itself. */
static void look_up_fail(segue__look_up *look, int h_code, const char *type) {
  segue_error *err = &look->error;
  if (h_code == HOST_NOT_FOUND)
    segue__errorf(err, UV_EAI_NONAME, "the name %.200s does not exist", look->name);
  else if (h_code == NO_DATA)
    segue__errorf(err, UV_EAI_NODATA, "the name %.200s has no record of the type %s", look->name,
                  type);
  else if (h_code == NO_RECOVERY)
    segue__errorf(err, UV_EAI_FAIL, "the name server refuses to look up %.200s", look->name);
  else
    segue__errorf(err, UV_EAI_AGAIN, "no name server has an answer for %.200s now", look->name);
}

static void look_up_records(segue__look_up *look) {
  struct __res_state state;
  const char *type = look->type == SEGUE__DNS_SRV ? "SRV" : "TXT";
  unsigned char *answer = segue__malloc(ANSWER_BYTES);
  memset(&state, 0, sizeof state);
  if (!answer || res_ninit(&state)) {
    segue__free(answer);
    segue__errorf(&look->error, UV_ENOMEM, "%.200s is not looked up: out of memory", look->name);
    return;
  }
  if (look->server.sin_port) {
    state.nsaddr_list[0] = look->server;
    state.nscount = 1;
  }
  int len = res_nquery(&state, look->name, ns_c_in, (int)look->type, answer, ANSWER_BYTES);
  int h_code = state.res_h_errno;
  res_nclose(&state);
  int rc = len < 0 ? 0 : segue__dns_parse(answer, (size_t)len, look->type, &look->records);
  segue__free(answer);
  if (len < 0)
    look_up_fail(look, h_code, type);
  else if (rc == SEGUE_ELIMIT)
    segue__errorf(&look->error, rc, "the name %.200s has more than %d records of the type %s",
                  look->name, SEGUE__RECORDS_MAX, type);
  else if (rc)
    segue__errorf(&look->error, rc, "the answer for the name %.200s is damaged", look->name);
  else if (!look->records.count)
    look_up_fail(look, NO_DATA, type);
}

/* Runs without any lock on the loop: the loop may close while the look-up hangs. Then the bridge
 * has no loop any more, and the result is freed here. */
static void *look_up_main(void *arg) {
  segue__look_up *look = arg;
  segue__bridge *bridge = look->bridge;
  if (look->type == SEGUE__DNS_ADDRESS)
    look_up_addresses(look);
  else
    look_up_records(look);
  pthread_mutex_lock(&bridge->mutex);
  bridge->threads--;
  if (bridge->loop)
    segue__post(bridge->loop, &look->message);
  else
    segue__look_up_free(look);
  bridge_leave_locked(bridge);
  return NULL;
}

static int look_up_start_thread(segue__look_up *look) {
  pthread_t thread;
  int rc = segue__thread_start(&thread, "segue-resolve", STACK_BYTES, look_up_main, look);
  if (!rc) pthread_detach(thread);
  return rc;
}

/* ---- The control thread ---------------------------------------------------------------------- */

static void look_up_over(segue__message *message) {
  segue__look_up *look = (segue__look_up *)message; /* its first member */
  if (look->owner)
    look->done(look);
  else
    segue__look_up_free(look);
}

void segue__look_up_abandon(segue__look_up *look) {
  if (look) look->owner = NULL;
}

static segue__bridge *open_bridge(segue__async_io *async_io) {
  if (async_io->bridge) return async_io->bridge;
  segue__bridge *bridge = segue__calloc(1, sizeof *bridge);
  if (bridge && pthread_mutex_init(&bridge->mutex, NULL)) {
    segue__free(bridge);
    return NULL;
  }
  if (!bridge) return NULL;
  bridge->loop = async_io->loop;
  bridge->refs = 1;
  async_io->bridge = bridge;
  return bridge;
}

static bool look_up_enter(segue__bridge *bridge) {
  pthread_mutex_lock(&bridge->mutex);
  bool room = bridge->threads < SEGUE__LOOK_UP_THREADS;
  if (room) bridge->threads++, bridge->refs++;
  pthread_mutex_unlock(&bridge->mutex);
  return room;
}

static void look_up_leave(segue__bridge *bridge) {
  pthread_mutex_lock(&bridge->mutex);
  bridge->threads--;
  bridge_leave_locked(bridge);
}

int segue__look_up_start(segue__look_up **out, segue__async_io *async_io, const char *name,
                         segue__dns_type type, const struct sockaddr_in *server,
                         void (*done)(segue__look_up *look), void *owner) {
  *out = NULL;
  segue__bridge *bridge = open_bridge(async_io);
  segue__look_up *look = bridge ? segue__calloc(1, sizeof *look) : NULL;
  if (!look) return UV_ENOMEM;
  look->message.fn = look_up_over;
  look->bridge = bridge;
  look->done = done;
  look->owner = owner;
  look->type = type;
  if (server) look->server = *server;
  look->name = segue__strdup(name);
  int rc = !look->name ? UV_ENOMEM : look_up_enter(bridge) ? 0 : UV_EAGAIN;
  if (!rc) {
    rc = look_up_start_thread(look);
    if (rc) look_up_leave(bridge);
  }
  if (rc)
    segue__look_up_free(look);
  else
    *out = look;
  return rc;
}

/* SPDX-License-Identifier: MIT
 *
 * The sockets of children. Each is leased from the registry once, and counted: the instance that
 * runs and the next one have the same address for a while. An instance keeps its sockets until it
 * is destroyed, which is after the next one has started, so that clients wait in the queue of the
 * socket while a child is replaced, and none is refused.
 */
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/mem.h"
#include "kind_internal.h"

struct segue__child_socket {
  segue__child_socket *next;
  size_t refs;
  segue__socket_lease lease;
  segue__address address;
};

void segue__process_world_set_sockets(segue__process_world *world, segue__sockets *sockets) {
  world->sockets = sockets;
}

int segue__child_sockets_check(const segue__process_kind_options *options, bool handover,
                               segue_error *err) {
  segue__address address;
  for (size_t i = 0; i < options->sockets.count; i++) {
    const segue_option_pair *pair = &options->sockets.items[i];
    segue_error reason;
    if (segue__address_parse(pair->value, &address, &reason) < 0)
      return segue__errorf(err, SEGUE_EPOLICY, "sockets.%.100s: %s", pair->key, reason.message);
    if (handover && address.type == SEGUE__SOCKET_UDP)
      return segue__errorf(err, SEGUE_EPOLICY,
                           "sockets.%.100s: two children would share the datagrams of one client: "
                           "use replace = \"restart\" with UDP",
                           pair->key);
  }
  return 0;
}

static int socket_acquire(segue__process_world *world, const segue_option_pair *pair,
                          const char *module, segue__child_socket **out, segue_error *err) {
  segue__address address;
  int rc = segue__address_parse(pair->value, &address, err);
  if (rc) return rc;
  for (segue__child_socket *s = world->child_sockets; s; s = s->next)
    if (!strcmp(s->address.text, address.text)) {
      s->refs++;
      *out = s;
      return 0;
    }
  segue__child_socket *s = segue__calloc(1, sizeof *s);
  if (!s) return segue__errorf(err, UV_ENOMEM, "out of memory");
  const segue__socket_wish wish = {.address = &address, .name = pair->key, .user = module};
  rc = segue__socket_acquire(world->sockets, &wish, &s->lease, err);
  if (rc) {
    segue__free(s);
    return rc;
  }
  s->refs = 1;
  s->address = address;
  s->next = world->child_sockets;
  world->child_sockets = s;
  *out = s;
  return 0;
}

static void socket_unref(segue__process_world *world, segue__child_socket *socket) {
  if (--socket->refs) return;
  segue__child_socket **link = &world->child_sockets;
  while (*link != socket) {
    assert(*link); /* a socket with references is in the list */
    link = &(*link)->next;
  }
  *link = socket->next;
  segue__socket_release(&socket->lease);
  segue__free(socket);
}

int segue__child_sockets_acquire(segue__process_instance *instance, segue_error *err) {
  const segue__process_module *module = instance->module;
  const size_t count = module->options.sockets.count;
  if (instance->sockets || !count) return 0;
  if (!module->world->sockets)
    return segue__errorf(err, SEGUE_EUSAGE, "there is no registry of sockets here");
  instance->sockets = segue__calloc(count, sizeof(segue__child_socket *));
  if (!instance->sockets) return segue__errorf(err, UV_ENOMEM, "out of memory");
  int rc = 0;
  for (size_t i = 0; i < count && !rc; i++)
    rc = socket_acquire(module->world, &module->options.sockets.items[i], module->name,
                        &instance->sockets[i], err);
  if (rc) segue__child_sockets_release(instance);
  return rc;
}

void segue__child_sockets_release(segue__process_instance *instance) {
  for (size_t i = 0; instance->sockets && i < instance->module->options.sockets.count; i++)
    if (instance->sockets[i]) socket_unref(instance->module->world, instance->sockets[i]);
  segue__free(instance->sockets);
  instance->sockets = NULL;
}

/* Programs expect sockets that block, as a service manager passes them. */
int segue__child_socket_fd(const segue__child_socket *socket, segue_error *err) {
  int fd = segue__socket_share(&socket->lease);
  if (fd < 0)
    return segue__errorf(err, fd, "the socket %s cannot be passed: %s", socket->address.text,
                         segue_strerror(fd));
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0) (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  return fd;
}

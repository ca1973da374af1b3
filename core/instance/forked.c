/* SPDX-License-Identifier: MIT
 *
 * An instance in a child that its host forked off. The parent keeps the threads, the files and the
 * clients; the child has copies of the memory, and shares the descriptors. Closing the instance in
 * the child must not run an orderly end: modules would write the same data as the parent, SQLite
 * would checkpoint the journal of the parent, libuv would remove the parent's descriptors from the
 * shared epoll set, and the end would wait for threads that do not exist. So descriptors are closed
 * by number, the options of the host are freed, and no code of modules, of Lua or of other
 * libraries runs. The publication releases its reference on the live configuration, but the engine
 * keeps its own on the live and the previous one. This memory and that of modules is not freed: it
 * is shared with the parent until one of the two writes to it, so that to free it would copy it,
 * and it ends with the child.
 */
#include "instance.h"

#include <unistd.h>

static void close_descriptors(segue *s) {
  if (s->ingress) segue__ingress_abandon(s->ingress);
  if (s->own_uv)
    segue__uv_abandon(s->own_uv);
  else if (s->admin)
    segue__admin_abandon(s->admin);
  /* Each worker thread has a duplicate of a listener's socket in its loop, and the registry has the
   * first one. A fork may come when a thread has duplicated a socket and not yet stored the number,
   * so the copies are found by the socket, after the loops have closed what they know. */
  segue__sockets_abandon(s->sockets);
  if (s->state.lock_fd >= 0) close(s->state.lock_fd); /* a substitute, in no folder */
  if (s->state.folder) segue__close_files_in(s->state.folder);
}

void segue__instance_abandon(segue *s) {
  close_descriptors(s);
  segue__publication_abandon(s->publication);
  segue__host_modules_free(s);
  segue__options_free(&s->options);
  segue__free(s->state.folder);
  segue__free(s->plugin_dir);
  segue__answers_free(s->answers);
  segue__free(s->lua_dir);
  segue__free(s);
}

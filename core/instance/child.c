/* SPDX-License-Identifier: MIT
 *
 * An instance in a child that its host forked off. The parent goes on with the threads, the files
 * and the clients; the child has copies of the memory, and descriptors that are shared. Closing
 * there must not run what an orderly end runs: modules would write what the parent writes as well,
 * SQLite would check the parent's journal in, libuv would take the parent's descriptors out of the
 * shared epoll set, and threads that do not exist would be waited for. So descriptors are closed by
 * number, the configuration and what the host passed are freed, and no code of modules, of Lua and
 * of other libraries runs. Their memory is left: it is shared with the parent until somebody writes
 * to it, and goes with the child.
 */
#include "instance.h"

static void close_descriptors(segue *s) {
  if (s->ingress) segue__ingress_abandon(s->ingress);
  if (s->own_uv)
    segue__uv_abandon(s->own_uv);
  else if (s->admin)
    segue__admin_abandon(s->admin);
  if (s->state.folder) segue__close_files_in(s->state.folder);
}

void segue__instance_abandon(segue *s) {
  close_descriptors(s);
  segue__publication_abandon(s->publication);
  segue__host_modules_free(s);
  segue__options_free(&s->options);
  segue__free(s->state.folder);
  segue__free(s->plugin_dir);
  segue__free(s->lua_dir);
  segue__free(s);
}

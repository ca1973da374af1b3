/* SPDX-License-Identifier: MIT
 *
 * Checks that run every second. Deadlines on disk follow changes of the clocks. The state folder or
 * its socket may be deleted while the instance runs: both are made again then, because no command
 * could reach the daemon before its next start otherwise. If another process has locked the folder
 * meanwhile, this instance continues without it, logs that, and uses it again when it is free.
 */
#include <uv.h>

#include "instance.h"

enum { LOOK_MS = 1000 };

static void lost_to_another(segue *s, const segue_error *error) {
  if (s->folder_lost) return;
  s->folder_lost = true;
  if (s->admin) segue__admin_control_disown(s->admin);
  if (s->record) segue__record_lose(s->record);
  SEGUE__LOG(&s->log, SEGUE_ERROR, "segue",
             "the state folder is lost: until it is back there is no control socket, and no "
             "generation is stored",
             SEGUE__FIELD("error", error->message));
}

bool segue__keep_folder(segue *s) {
  segue_error error;
  if (!s->state.folder || segue__state_is_ours(&s->state)) return true;
  if (segue__state_retake(&s->state, &error) < 0) {
    lost_to_another(s, &error);
    return false;
  }
  if (s->admin) segue__admin_control_disown(s->admin);
  SEGUE__LOG(&s->log, SEGUE_WARN, "segue",
             s->folder_lost ? "the state folder is free again: the next generation will be "
                              "stored in it"
                            : "the state folder was deleted: it was created again, and the next "
                              "generation will be stored in it",
             SEGUE__FIELD("path", s->state.folder));
  s->folder_lost = false;
  segue__engine_record_anew(s->engine);
  return true;
}

static void keep_socket(segue *s) {
  const char *path = s->options.socket ? s->options.socket : s->state.socket;
  segue_error error;
  if (!*path || segue__admin_control_there(s->admin)) return;
  if (segue__admin_listen_control(s->admin, path, &error) == 0)
    s->socket_reported = false;
  else if (!s->socket_reported)
    SEGUE__LOG(&s->log, SEGUE_ERROR, "segue",
               "the control socket was removed and cannot be created again",
               SEGUE__FIELD("error", error.message));
  s->socket_reported = !segue__admin_control_there(s->admin);
}

static void tidy_look(segue__timer *timer) {
  segue *s = timer->data;
  if (s->admin && segue__keep_folder(s)) keep_socket(s);
  if (s->engine && !s->folder_lost) segue__engine_tick(s->engine);
  segue__timer_start(s->loop, timer, LOOK_MS, tidy_look);
}

int segue__start_housekeeping(segue *s) {
  if (!s->state.folder && !s->options.socket) return 0;
  s->housekeeping.data = s;
  return segue__timer_start(s->loop, &s->housekeeping, LOOK_MS, tidy_look);
}

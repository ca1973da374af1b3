-- SPDX-License-Identifier: MIT
-- The mutants of core/files that came with drift, mount points, removed files and large sets; a
-- part of mutants.lua.

local mount = "spec/fault/files_mount_spec.lua"

return function(daemon)
  local function command(filter) return daemon("spec/daemon/files_command_spec.lua", filter) end
  local function signal(filter) return daemon("spec/daemon/files_signal_spec.lua", filter) end
  local function verify(filter) return daemon("spec/daemon/files_verify_spec.lua", filter) end
  local function effects(filter) return daemon("spec/fault/files_effects_spec.lua", filter) end
  return {
    { "the state of a file that is written in place", "core/files/put.c",
      "int rc = put_check_stamp(target, expected);", "int rc = 0; (void)expected;", mount },
    { "the lease of a file that is written in place", "core/files/put.c",
      "&& !fcntl(target, F_SETLEASE, F_WRLCK);", "&& 0;", mount },
    { "the bytes of a file that was written in place", "core/files/put.c",
      "if (n != m || memcmp(want, have, (size_t)n) != 0) return SEGUE_ECONFLICT;", "", mount },
    { "a copy where no link can be made", "core/files/commit.c",
      "if (rc) rc = segue__file_copy(from, file->second, NULL);", "", mount },
    { "a commit that ends where no copy can be made", "core/files/commit.c",
      "if (rc) rc = segue__file_copy(from, file->second, NULL);",
      "if (rc) rc = 0;", mount },
    { "the name of the process of a pid file", "core/os/pid_file.c",
      "if (name && !pid_is_named(process, name))", "if (0)",
      signal "not the one that is meant" },
    { "a process younger than its pid file", "core/os/pid_file.c",
      "if (late > LATE_S && !pid_fits_file(process, path))", "if (0)",
      signal "started after its pid file" },
    { "a process that has exited", "core/os/pid_file.c",
      "if (process->state == 'Z' || process->state == 'X')", "if (0)",
      signal "that has exited" },
    { "a pid file of segue itself", "core/os/pid_file.c",
      "if (process->pid == getpid())", "if (0)",
      signal "not the one that is meant" },
    { "the status of a request", "core/files/effect_request.c",
      "if (answer->status >= 200 && answer->status < 300) return;", "return;",
      signal "goes by the status" },
    { "the URL in a log without its query", "core/files/effect_options.c",
      "(int)strcspn(host, \"?#\"), host);", "(int)strlen(host), host);",
      signal "sends what the options say" },
    { "an effect that stops with the daemon", "core/files/effect.c",
      "if (segue__timer_active(&run->timer)) segue__effect_stop(run);", "",
      signal "is stopped with the daemon" },
    { "options of another kind of effect", "core/files/effect_options.c",
      "if (!mine && segue_option_given(report, all[i]))", "if (0)",
      signal "each mistake at its place" },
    { "staged paths as variables of the shell", "core/files/check.c",
      "if (line->shell) return check_add_variable(line, path);", "",
      command "wherever it stands" },
    { "the folder of a check entered again", "core/files/check.c",
      "cd -- \\\"$w\\\" || exit 125;", "",
      command "in the folder in which it runs" },
    { "the user of a check", "core/files/check.c",
      "effect->user ? effect->user : \"\",", "\"\",",
      command "the user and the group" },
    { "the user of a command", "core/files/effect_command.c",
      "if (!run->effect.user) return command_spawn(run, err);",
      "if (!run->effect.group) return command_spawn(run, err);",
      command "the user and the group" },
    { "verify before the commit ends", "core/files/action.c",
      "if (!module->verify_ms) {\n    segue__step_start(step);",
      "if (1) {\n    segue__step_start(step);",
      verify "the answer stays no" },
    { "an undo in place of apply", "core/files/action.c",
      "return segue__effect_any(&module->undo) ? &module->undo :", "return",
      verify "once the previous files are back" },
    { "an undo of a recovery", "core/files/action.c",
      "segue__effect_write(action_unapply(step), &text);",
      "segue__effect_write(&action_previous(step)->apply, &text);",
      effects "in the recovery, in place of apply" },
  }
end

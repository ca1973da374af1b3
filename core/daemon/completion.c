/* SPDX-License-Identifier: MIT
 *
 * `segue completion SHELL`: completions for bash and zsh, generated from the tables of cli.c, so
 * that they are never older. The name of a value or argument defines its completion: a FILE is a
 * file.
 */
#include <stdio.h>
#include <string.h>

#include "../os/text.h"
#include "cli_table.h"

/* The completion for values with a name: a list of words, or a function of each shell. */
typedef struct kind {
  const char *name, *words, *bash, *zsh;
} kind;

static const kind kinds[] = {
    {"FILE", NULL, "compgen -f --", "_files"},
    {"DIR|FILE", NULL, "compgen -f --", "_files"},
    {"PATH", NULL, "compgen -f --", "_files"},
    {"SCHEMA", NULL, "compgen -f --", "_files"},
    {"FOLDER", NULL, "compgen -d --", "_files -/"},
    {"DIR", NULL, "compgen -d --", "_files -/"},
    {"DIALECT", "segue confd consul-template sprig go", NULL, NULL},
    {"MODE", "default zero error invalid", NULL, NULL},
    {"SIGNAL", "HUP INT QUIT TERM USR1 USR2 WINCH", NULL, NULL},
    {"COMMAND", "", NULL, NULL}, /* the commands themselves */
    {"FORMAT", "text json", NULL, NULL},
    {"LEVEL", "error warn info debug", NULL, NULL},
    {"SHELL", "bash zsh", NULL, NULL},
    {"FROM", "live previous next", NULL, NULL},
};

/* Returns the completion for a value, or NULL if there is none. "[FROM [TO]]" is completed as FROM.
 * The PATH of a command is a path in the configuration, so only the PATH of an option is completed
 * as a file. */
static const kind *completion_kind_of(const char *text, bool of_option) {
  if (strncmp(text, "[URI=]", 6) == 0) text += 6; /* it may be left out */
  size_t skip = strspn(text, "["), len = strcspn(text + skip, " ]");
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if ((of_option || strcmp(kinds[i].name, "PATH") != 0) && strlen(kinds[i].name) == len &&
        strncmp(kinds[i].name, text + skip, len) == 0)
      return &kinds[i];
  return NULL;
}

/* Whether its arguments are another program and its arguments, behind "--". */
static bool completion_runs_program(const segue__command *c) {
  return c->arguments && !strncmp(c->arguments, "-- ", 3);
}

static void add_command_names(segue__buf *out) {
  const segue__command *c;
  for (size_t i = 0; (c = segue__cli_command(i)); i++)
    segue__buf_addf(out, "%s%s", i ? " " : "", c->name);
}

/* ---- bash ------------------------------------------------------------------------------------ */

static void bash_words(segue__buf *out, const kind *k) {
  if (k && k->bash) {
    segue__buf_addf(out, "compopt -o filenames; mapfile -t COMPREPLY < <(%s \"$word\")", k->bash);
    return;
  }
  segue__buf_adds(out, "mapfile -t COMPREPLY < <(compgen -W \"");
  if (k && !*k->words)
    add_command_names(out);
  else if (k)
    segue__buf_adds(out, k->words);
  segue__buf_adds(out, "\" -- \"$word\")");
}

static void bash_values(segue__buf *out) {
  const segue__cli_option_spec *o;
  for (size_t i = 0; (o = segue__cli_option(i)); i++) {
    if (!o->value) continue;
    segue__buf_addf(out, "    --%s", o->name);
    if (o->letter) segue__buf_addf(out, "|-%c", o->letter);
    segue__buf_adds(out, ") ");
    bash_words(out, completion_kind_of(o->value, true));
    segue__buf_adds(out, "; return ;;\n");
  }
}

static void bash_command(segue__buf *out, const segue__command *c) {
  const segue__cli_option_spec *o;
  segue__buf_addf(out, "    %s)\n      if [[ $word == -* ]]; then\n", c->name);
  segue__buf_adds(out, "        mapfile -t COMPREPLY < <(compgen -W \"");
  for (size_t i = 0; (o = segue__cli_option(i)); i++) {
    if (!segue__cli_accepts(c, o)) continue;
    segue__buf_addf(out, "--%s ", o->name);
    if (o->letter) segue__buf_addf(out, "-%c ", o->letter);
  }
  segue__buf_adds(out, "\" -- \"$word\")\n");
  if (c->max_args) {
    segue__buf_adds(out, "      else\n        ");
    bash_words(out, completion_kind_of(c->arguments, false));
    segue__buf_addc(out, '\n');
  }
  segue__buf_adds(out, "      fi ;;\n");
}

/* Behind "--" stands a program, whose words are no options of segue. */
static void bash_program(segue__buf *out, const segue__command *c) {
  if (!completion_runs_program(c)) return;
  segue__buf_addf(out,
                  "  if [[ ${COMP_WORDS[1]} == %s ]]; then\n"
                  "    local i\n"
                  "    for ((i = 2; i < COMP_CWORD; i++)); do\n"
                  "      if [[ ${COMP_WORDS[i]} == -- ]]; then\n"
                  "        local what=-f\n"
                  "        if [[ $i -eq $((COMP_CWORD - 1)) ]]; then what=-c; fi\n"
                  "        compopt -o filenames\n"
                  "        mapfile -t COMPREPLY < <(compgen $what -- \"$word\")\n"
                  "        return\n"
                  "      fi\n"
                  "    done\n"
                  "  fi\n",
                  c->name);
}

/* bash treats "=" as a word of its own: "--state=/va" is three words. So the option before the "="
 * is found two words back. */
static void completion_bash(segue__buf *out) {
  const segue__command *c;
  segue__buf_adds(out, "# bash completion for segue, printed by: segue completion bash\n"
                       "_segue() {\n"
                       "  local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]}\n"
                       "  COMPREPLY=()\n"
                       "  if [[ $word == = ]]; then\n"
                       "    word=\n"
                       "  elif [[ $option == = && $COMP_CWORD -ge 3 ]]; then\n"
                       "    option=${COMP_WORDS[COMP_CWORD-2]}\n"
                       "  fi\n"
                       "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
                       "    mapfile -t COMPREPLY < <(compgen -W \"");
  add_command_names(out);
  segue__buf_adds(out, " --help --version\" -- \"$word\")\n    return\n  fi\n");
  for (size_t i = 0; (c = segue__cli_command(i)); i++)
    bash_program(out, c);
  segue__buf_adds(out, "  case $option in\n");
  bash_values(out);
  segue__buf_adds(out, "  esac\n  case ${COMP_WORDS[1]} in\n");
  for (size_t i = 0; (c = segue__cli_command(i)); i++)
    bash_command(out, c);
  segue__buf_adds(out, "  esac\n}\ncomplete -F _segue segue\n");
}

/* ---- zsh ------------------------------------------------------------------------------------- */

/* Escapes text inside single quotes, and there inside brackets or between the colons of a
 * specification. */
static void zsh_text(segue__buf *out, const char *s) {
  for (; *s; s++) {
    if (*s == '\'')
      segue__buf_adds(out, "'\\''");
    else if (segue__is_one_of(*s, "[]:\\"))
      segue__buf_addf(out, "\\%c", *s);
    else
      segue__buf_addc(out, *s);
  }
}

static void zsh_action(segue__buf *out, const char *value, bool of_option) {
  const kind *k = completion_kind_of(value, of_option);
  segue__buf_addf(out, "%s:", k ? k->name : value);
  if (k && k->zsh)
    segue__buf_adds(out, k->zsh);
  else if (k && !*k->words)
    segue__buf_adds(out, "_segue_commands");
  else if (k)
    segue__buf_addf(out, "(%s)", k->words);
}

static void zsh_option(segue__buf *out, const segue__cli_option_spec *o) {
  if (o->letter)
    segue__buf_addf(out, "        '(-%c --%s)'{-%c%s,--%s%s}'[", o->letter, o->name, o->letter,
                    o->value ? "+" : "", o->name, o->value ? "=" : "");
  else
    segue__buf_addf(out, "        '--%s%s[", o->name, o->value ? "=" : "");
  zsh_text(out, o->summary);
  segue__buf_addc(out, ']');
  if (o->value) {
    segue__buf_addc(out, ':');
    zsh_action(out, o->value, true);
  }
  segue__buf_adds(out, "' \\\n");
}

static void zsh_command(segue__buf *out, const segue__command *c) {
  const segue__cli_option_spec *o;
  segue__buf_addf(out, "    %s)\n      _arguments %s\\\n", c->name,
                  completion_runs_program(c) ? "-S " : "");
  for (size_t i = 0; (o = segue__cli_option(i)); i++)
    if (segue__cli_accepts(c, o)) zsh_option(out, o);
  if (completion_runs_program(c)) {
    segue__buf_adds(out, "        '(-)1:program: _command_names -e' \\\n"
                         "        '*::arguments:_normal' \\\n");
  } else if (c->max_args) {
    segue__buf_addf(out, "        '%s:", c->max_args > 1 ? "*" : "1");
    zsh_action(out, c->arguments, false);
    segue__buf_adds(out, "' \\\n");
  }
  segue__buf_adds(out, "        && return 0 ;;\n");
}

static void completion_zsh(segue__buf *out) {
  const segue__command *c;
  segue__buf_adds(out, "#compdef segue\n"
                       "# zsh completion for segue, printed by: segue completion zsh\n"
                       "_segue_commands() {\n  local -a commands=(\n");
  for (size_t i = 0; (c = segue__cli_command(i)); i++) {
    segue__buf_addf(out, "    '%s:", c->name);
    zsh_text(out, c->summary);
    segue__buf_adds(out, "'\n");
  }
  segue__buf_adds(out, "  )\n  _describe -t commands command commands\n}\n"
                       "_segue() {\n"
                       "  if (( CURRENT == 2 )); then\n    _segue_commands\n    return\n  fi\n"
                       "  local command=$words[2]\n"
                       "  shift words\n  (( CURRENT-- ))\n"
                       "  case $command in\n");
  for (size_t i = 0; (c = segue__cli_command(i)); i++)
    zsh_command(out, c);
  segue__buf_adds(out, "  esac\n  return 1\n}\n"
                       "if [[ $funcstack[1] == _segue ]]; then\n  _segue \"$@\"\n"
                       "else\n  compdef _segue segue\nfi\n");
}

int segue__cli_completion(const segue__cli *cli) {
  segue__buf out;
  const char *shell = cli->arg_count ? cli->args[0] : "";
  segue__buf_init(&out);
  if (strcmp(shell, "bash") == 0)
    completion_bash(&out);
  else if (strcmp(shell, "zsh") == 0)
    completion_zsh(&out);
  else
    return segue__cli_fail(SEGUE__EXIT_USAGE,
                           "segue completion needs SHELL, which must be bash or zsh%s%s",
                           *shell ? ", not " : "", shell);
  return segue__cli_print(SEGUE__EXIT_OK, &out);
}

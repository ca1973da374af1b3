# SPDX-License-Identifier: MIT
# `make help` lists the targets. BUILD=dir chooses where things are built; SAN=address|thread builds
# an instrumented variant in a folder of its own below it; JOBS=n runs n compilers, and 2 n spec files
# (which wait half of their time), at once (default: n is the number of cores).
BUILD ?= build
CC ?= cc
# A file with sanitizers takes four times as long to compile as one without; -O1 -g1 saves half of it.
CFLAGS ?= $(if $(SAN),-O1 -g1,-O2 -g)
PREFIX ?= /usr/local
DESTDIR ?=
SPEC ?= spec
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 600
# `make -jN` overrides this; a make that a recipe starts shares the job slots of the first one. Several
# goals (make clean all, make deps test) run one after another, because their order means something.
ifeq ($(MAKELEVEL)$(word 2,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(JOBS)
endif
VERSION := $(shell sed -n 's/^\#define SEGUE_VERSION "\(.*\)"/\1/p' core/segue.h)
ABI := 0

# ---- Debian packages: each named once -------------------------------------------------------------
# What `make` and `make run` need; `make run` installs what is missing of these, and no more.
RUN_DEPS :=
RUN_DEPS += gcc                # the compiler (and the C library's headers)
RUN_DEPS += libc6-dev
RUN_DEPS += pkg-config         # finds the libraries below
RUN_DEPS += libuv1-dev         # event loop
RUN_DEPS += libyaml-dev        # YAML events
RUN_DEPS += libxxhash-dev      # content hashes
RUN_DEPS += libpcre2-dev       # patterns of schemas
RUN_DEPS += libsqlite3-dev     # the history
RUN_DEPS += libluajit2-5.1-dev # policies; the flavour that lives beside nginx's Lua module
RUN_DEPS += libcurl4-openssl-dev # HTTP client; loaded on first use, never linked
RUN_DEPS += libssl-dev         # TLS of the admin API; loaded on first use, never linked
RUN_DEPS += ca-certificates    # whom curl trusts, where nothing else is said
RUN_DEPS += curl               # asks the daemon; in specs an independent client, to validate our server
# What `make test` needs on top; `make deps` installs both.
DEPS := $(RUN_DEPS)
DEPS += luajit2            # runs the specs
DEPS += lua-busted         # spec framework
DEPS += lua-luv            # processes, sockets and timers in specs
DEPS += lua-cjson          # an independent JSON reader, to validate ours
DEPS += sqlite3            # specs look into the history
DEPS += strace             # shows that files are synced, and in which order
DEPS += util-linux         # specs under limits and in mount namespaces of their own
DEPS += bsdutils           # script: commands on a terminal of their own
DEPS += openssl            # certificates and a TLS server, to validate our client
DEPS += dnsmasq-base       # a name server, to validate look-ups of records
DEPS += etcd-server        # a real server, to validate the source etcd
DEPS += nginx-light        # a real server for URLs, to validate our client; nginx -s reload for `make bench`
DEPS += prometheus         # the server of an example; POST /-/reload for `make bench`
DEPS += wrk                # load on examples; load for the HTTP rows of `make bench`
DEPS += haproxy            # the server of an example; USR2 under load for `make bench`
DEPS += socat              # a client of the runtime API of HAProxy
DEPS += systemd            # validates the units, and runs them: process 1 of namespaces in specs
DEPS += zsh                # tries its completion (bash is there anyway)
DEPS += patch             # applies the differences of texts, to validate ours
DEPS += mandoc             # validates and renders the man pages
DEPS += golang-go          # Go's own text/template, to validate ours
DEPS += golang-github-masterminds-sprig-dev # sprig's functions, to validate ours
DEPS += golang-github-burntsushi-toml-dev # TOML as confd reads it, to validate ours
DEPS += golang-github-hashicorp-hcl-dev # HCL as consul-template reads it, to validate ours
# What `make lint`, the sanitizers and the fuzzers need on top.
DEV_DEPS :=
DEV_DEPS += clang             # second opinion on warnings; libFuzzer
DEV_DEPS += libclang-rt-14-dev # libFuzzer's and the sanitizers' run time for clang
DEV_DEPS += clang-format      # layout of the C files
DEV_DEPS += clang-tidy        # static analysis
DEV_DEPS += g++               # the public header must compile as C++
DEV_DEPS += lua-check         # luacheck
DEV_DEPS += valgrind          # second opinion on memory
PEER_DEPS := libh2o-dev       # an HTTP server on libuv, in spec/bench/h2o.c
DEV_DEPS += $(PEER_DEPS)
AFL_DEPS := afl++        # make fuzz AFL=1
# What `make bench` compares with.
BENCH_DEPS := $(PEER_DEPS)
BENCH_DEPS += caddy       # POST /load
BENCH_DEPS += lua-yaml    # YAML straight into Lua tables
BENCH_DEPS += python3-jsonschema # JSON Schema
BENCH_DEPS += nodejs      # for ajv
BENCH_DEPS += node-ajv    # JSON Schema, compiled
BENCH_DEPS += inotify-tools # the script that people write instead
BENCH_DEPS += g++         # for spdlog
BENCH_DEPS += libspdlog-dev # an asynchronous logger
BENCH_DEPS += libnginx-mod-http-lua # HUP under load, answers by Lua

# ---- Flags ----------------------------------------------------------------------------------------
# Variables that ask pkg-config are expanded when used, because `make deps` may install it first.
PKGS := libuv yaml-0.1 libxxhash libpcre2-8 sqlite3
WARN := -Wall -Wextra -Werror
LUAJIT_A = $(shell pkg-config --variable=libdir luajit)/libluajit-5.1.a
ALL_CPPFLAGS = -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) luajit) $(CPPFLAGS)
ALL_CFLAGS = -std=c11 -fPIC -pthread $(WARN) $(SAN_CFLAGS) $(CFLAGS)
LIBS = $(shell pkg-config --libs $(PKGS)) -lm -ldl -pthread

ifeq ($(SAN),)
OUT := $(BUILD)
else ifeq ($(SAN),address)
OUT := $(BUILD)/asan
SAN_CFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
SAN_PRELOAD = $(shell $(CC) -print-file-name=libasan.so)
else ifeq ($(SAN),thread)
OUT := $(BUILD)/tsan
SAN_CFLAGS := -fsanitize=thread -fno-omit-frame-pointer
SAN_PRELOAD = $(shell $(CC) -print-file-name=libtsan.so)
else
$(error SAN is "address", "thread" or empty, not "$(SAN)")
endif

# ---- Files ----------------------------------------------------------------------------------------
CORE_SRC := $(filter-out core/daemon/%,$(wildcard core/*.c core/*/*.c core/*/*/*.c))
DAEMON_SRC := $(wildcard core/daemon/*.c)
HARNESS_SRC := $(wildcard spec/support/*.c)
HEADERS := $(wildcard core/*.h core/*/*.h core/*/*/*.h spec/support/*.h)
# Each folder is a plugin. Its C files become NAME.so and know nothing of segue but segue.h; its Lua
# files are the modules segue.plugin.NAME (init.lua) and segue.plugin.NAME.x (x.lua).
PLUGIN_NAMES := $(sort $(patsubst plugins/%/,%,$(dir $(wildcard plugins/*/*.c))))
PLUGIN_LUA := $(wildcard plugins/*/*.lua)
PLUGIN_SRC := $(wildcard plugins/*/*.c)
# Sources of the core that are compiled into a plugin, because it cannot call them: they need nothing
# but segue.h and the C library.
PLUGIN_CORE_log := core/os/line_file.c core/os/line_queue.c core/os/thread.c core/os/write.c
PLUGIN_CORE_SRC := $(sort $(foreach name,$(PLUGIN_NAMES),$(PLUGIN_CORE_$(name))))
PLUGINS := $(PLUGIN_NAMES:%=$(OUT)/plugins/%.so)
# An example of several plugins, and the program that puts it under load.
PIPE_SRC := $(wildcard examples/bigpipe/*.c)
PIPE := $(OUT)/bigpipe
PIPE_PRODUCTS := $(addprefix $(PIPE)/plugins/,front.so queue.so dispatcher.so) $(PIPE)/load
CORE_OBJ := $(CORE_SRC:%.c=$(OUT)/obj/%.o)
DAEMON_OBJ := $(DAEMON_SRC:%.c=$(OUT)/obj/%.o)
SPEC_OUT := $(OUT)/spec
SPEC_CORE_OBJ := $(CORE_SRC:%.c=$(SPEC_OUT)/obj/%.o)
SPEC_DAEMON_OBJ := $(DAEMON_SRC:%.c=$(SPEC_OUT)/obj/%.o)
HARNESS_OBJ := $(HARNESS_SRC:%.c=$(SPEC_OUT)/obj/%.o)
C_FILES := $(CORE_SRC) $(DAEMON_SRC) $(wildcard plugins/*/*.c examples/*/*.c spec/*/*.c)
LIBRARIES := $(OUT)/libsegue.a $(OUT)/libsegue.so
# The binary and the libraries appear as soon as there is something to put into them.
PRODUCTS := $(PLUGINS) $(if $(CORE_SRC),$(LIBRARIES)) $(if $(DAEMON_SRC),$(OUT)/segue)
SPEC_PRODUCTS := $(SPEC_OUT)/libsegue-spec.so $(SPEC_OUT)/cdef.h \
  $(if $(DAEMON_SRC),$(SPEC_OUT)/segue) $(PIPE_PRODUCTS)

.PHONY: all
all: $(PRODUCTS) ## build segue, libsegue.a and libsegue.so into build/ (the default)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# ---- Building -------------------------------------------------------------------------------------
# A change of compiler or flags rebuilds everything that was built with the old ones.
FLAGS_NOW = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS)
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || echo '$(subst ','\'',$(FLAGS_NOW))' > $@
.PHONY: FORCE
FORCE:

$(OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc      $<"
	@$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fvisibility=hidden -MMD -MP -c $< -o $@

# Where it is installed concerns one file only: another PREFIX does not rebuild the others.
$(OUT)/prefix: FORCE
	@mkdir -p $(@D)
	@echo '$(PREFIX)' | cmp -s - $@ || echo '$(PREFIX)' > $@
$(OUT)/obj/core/instance/lua_paths.o: $(OUT)/prefix
$(OUT)/obj/core/instance/lua_paths.o: private CPPFLAGS += -DSEGUE_PREFIX='"$(PREFIX)"'

# Test builds: fault points and the failing allocator are in, every symbol can be reached.
$(SPEC_OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc-spec $<"
	@$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -DSEGUE_TEST -I. -Icore -MMD -MP -c $< -o $@

# What a plugin does not define comes from the program that loads it.
CC_PLUGIN = $(CC) -D_GNU_SOURCE -Icore $(CPPFLAGS) $(ALL_CFLAGS) -fvisibility=hidden -MMD -MP -c
$(OUT)/plugins/obj/%.o: plugins/%.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc      plugins/$*.c"
	@$(CC_PLUGIN) $< -o $@
$(OUT)/plugins/obj/core/%.o: core/%.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc      core/$*.c for plugins"
	@$(CC_PLUGIN) $< -o $@

plugin_obj = $(patsubst plugins/%.c,$(OUT)/plugins/obj/%.o,$(wildcard plugins/$(1)/*.c)) \
  $(PLUGIN_CORE_$(1):%.c=$(OUT)/plugins/obj/%.o)
$(foreach name,$(PLUGIN_NAMES),$(eval $(OUT)/plugins/$(name).so: $(call plugin_obj,$(name))))
$(PLUGINS): $(OUT)/sources
	@echo "  link    $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared $(filter %.o,$^) -pthread -o $@

$(PIPE)/obj/%.o: examples/bigpipe/%.c $(OUT)/flags
	@mkdir -p $(@D) $(PIPE)/plugins
	@echo "  cc      examples/bigpipe/$*.c"
	@$(CC_PLUGIN) $< -o $@

pipe_obj = $(patsubst %,$(PIPE)/obj/%.o,$(1))
$(PIPE)/plugins/front.so: $(call pipe_obj,front config)
$(PIPE)/plugins/queue.so: $(call pipe_obj,queue work calls journal config)
$(PIPE)/plugins/dispatcher.so: $(call pipe_obj,dispatcher dispatcher_config delivery config)
$(PIPE)/plugins/dispatcher.so: private LDLIBS = $(shell pkg-config --libs libcurl)
$(PIPE)/load: $(call pipe_obj,$(patsubst examples/bigpipe/%.c,%,$(filter %/load.c examples/bigpipe/load_%,$(PIPE_SRC))))
$(PIPE_PRODUCTS): $(OUT)/sources
	@echo "  link    $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(if $(filter %.so,$@),-shared) $(filter %.o,$^) -pthread \
	  $(LDLIBS) -o $@

# Which files there are is part of what a link depends on: a removed source must go from the result.
$(OUT)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(CORE_SRC) $(DAEMON_SRC) $(HARNESS_SRC) $(PLUGIN_SRC) $(PIPE_SRC)' | cmp -s - $@ || \
	  echo '$(CORE_SRC) $(DAEMON_SRC) $(HARNESS_SRC) $(PLUGIN_SRC) $(PIPE_SRC)' > $@

$(OUT)/libsegue.a: $(CORE_OBJ) $(OUT)/sources
	@rm -f $@
	@echo "  ar      $@"
	@ar rcs $@ $(CORE_OBJ)

# LuaJIT's static library is not position independent enough for a shared one: that links its .so.
$(OUT)/libsegue.so: $(CORE_OBJ) $(OUT)/sources
	@echo "  link    $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libsegue.so.$(ABI) -Wl,--exclude-libs,ALL \
	  $(CORE_OBJ) $(shell pkg-config --libs luajit) $(LIBS) -o $@
	@ln -sf libsegue.so $(OUT)/libsegue.so.$(ABI)

# All of LuaJIT goes in and is exported, so that Lua modules written in C find it in the binary.
LINK_BINARY = $(CC) $(ALL_CFLAGS) $(LDFLAGS) -Wl,-E $(1) \
  -Wl,--whole-archive $(LUAJIT_A) -Wl,--no-whole-archive $(LIBS) -o $(2)

$(OUT)/segue: $(CORE_OBJ) $(DAEMON_OBJ) $(OUT)/sources
	@echo "  link    $@"
	@$(call LINK_BINARY,$(CORE_OBJ) $(DAEMON_OBJ),$@)

$(SPEC_OUT)/segue: $(SPEC_CORE_OBJ) $(SPEC_DAEMON_OBJ) $(OUT)/sources
	@echo "  link    $@"
	@$(call LINK_BINARY,$(SPEC_CORE_OBJ) $(SPEC_DAEMON_OBJ),$@)

# Calls that leave no trace are counted on their way: spec/support/syscalls.h.
SPEC_WRAP := -Wl,--wrap=fsync -Wl,--wrap=fdatasync

# Loaded into luajit by the specs: Lua's own symbols come from that process.
$(SPEC_OUT)/libsegue-spec.so: $(SPEC_CORE_OBJ) $(HARNESS_OBJ) $(OUT)/sources
	@echo "  link    $@"
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(SPEC_WRAP) -shared $(SPEC_CORE_OBJ) $(HARNESS_OBJ) $(LIBS) -o $@

$(SPEC_OUT)/cdef.h: spec/support/cdef.lua $(HEADERS) $(wildcard spec/support/cdef/*) $(OUT)/sources
	@mkdir -p $(@D)
	@echo "  cdef    $@"
	@CC="$(CC)" luajit spec/support/cdef.lua $@ $(HEADERS)

-include $(CORE_OBJ:.o=.d) $(DAEMON_OBJ:.o=.d)
-include $(PLUGIN_SRC:plugins/%.c=$(OUT)/plugins/obj/%.d) $(PLUGIN_CORE_SRC:%.c=$(OUT)/plugins/obj/%.d)
-include $(PIPE_SRC:examples/bigpipe/%.c=$(PIPE)/obj/%.d)
-include $(SPEC_CORE_OBJ:.o=.d) $(SPEC_DAEMON_OBJ:.o=.d) $(HARNESS_OBJ:.o=.d)

# ---- Using it -------------------------------------------------------------------------------------
# A daemon runs on a copy, so that edits and its state folder stay out of the source tree. A copy that
# exists is kept with its edits. The other examples are policies for servers that are not installed:
# their specs run with a simulated clock.
EXAMPLE ?= quickstart
RUN_COPY = mkdir -p $(OUT)/$(EXAMPLE) && cp -Rn examples/$(EXAMPLE)/* $(OUT)/$(EXAMPLE) && \
  cd $(OUT)/$(EXAMPLE) && exec $(abspath $(OUT)/segue) run
RUN_quickstart = $(RUN_COPY)
RUN_apply = $(RUN_COPY)
RUN_front = $(RUN_COPY)
RUN_nginx-upstreams = $(RUN_COPY)
RUN_haproxy = $(RUN_COPY)
RUN_prometheus = $(RUN_COPY)
RUN_exec = $(patsubst run,exec -- sh server.sh,$(RUN_COPY))
RUN_bigpipe = cd $(PIPE) && exec $(abspath $(OUT)/segue) run
.PHONY: run
run: ## install what is missing, build, and run an example: make run [EXAMPLE=quickstart]
	@sh spec/support/deps.sh $(RUN_DEPS) $(if $(RUN_$(EXAMPLE)),,lua-busted)
	@$(MAKE) --no-print-directory $(if $(filter bigpipe,$(EXAMPLE)),bigpipe,all)
	@test -d "examples/$(EXAMPLE)" || { echo "there is no examples/$(EXAMPLE)"; exit 1; }
	@$(or $(RUN_$(EXAMPLE)),$(OUT)/segue test examples/$(EXAMPLE))

# A folder to run it in; a config.yaml that is there already stays as it is.
.PHONY: bigpipe
bigpipe: ## install what is missing, and build examples/bigpipe into build/bigpipe
	@sh spec/support/deps.sh $(RUN_DEPS)
	@$(MAKE) --no-print-directory all $(PIPE_PRODUCTS)
	@mkdir -p $(PIPE)/logs
	@cp examples/bigpipe/reload.lua examples/bigpipe/config.schema.json $(PIPE)
	@test -e $(PIPE)/config.yaml || cp examples/bigpipe/config.yaml $(PIPE)

.PHONY: deps
deps: ## install what building and the specs need and is missing (needs root or sudo)
	@sh spec/support/deps.sh $(DEPS)

.PHONY: dev-deps
dev-deps: deps ## install what lint, sanitizers and fuzzers need as well
	@sh spec/support/deps.sh $(DEV_DEPS)

PLUGIN_DIR = $(PREFIX)/lib/segue/plugins
# On Debian, zsh looks for completions that packages bring elsewhere than for those of an operator.
UNIT_DIR = $(PREFIX)/lib/systemd/system
BASH_DIR = $(PREFIX)/share/bash-completion/completions
ZSH_DIR = $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
MAN_DIR = $(PREFIX)/share/man
# One policy is /etc/segue/reload.lua; the template makes of each of its places one for an instance.
INSTANCE_OF = -e 's|/etc/segue/reload|/etc/segue/%i/reload|g; s|/run/segue/|/run/segue/%i/|g' \
  -e 's,^\(State\|Runtime\)Directory=segue$$,&/%i,; s,^Description=Segue,& %i,' -e '/^\# segue with/d'

.PHONY: install
install: all ## install into PREFIX (default /usr/local), below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include \
	  $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/share/segue
	$(if $(DAEMON_SRC),install -m 755 $(OUT)/segue $(DESTDIR)$(PREFIX)/bin/segue)
	install -m 644 core/segue.h $(DESTDIR)$(PREFIX)/include/segue.h
	install -m 644 $(OUT)/libsegue.a $(DESTDIR)$(PREFIX)/lib/libsegue.a
	install -m 755 $(OUT)/libsegue.so $(DESTDIR)$(PREFIX)/lib/libsegue.so.$(VERSION)
	ln -sf libsegue.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libsegue.so.$(ABI)
	ln -sf libsegue.so.$(ABI) $(DESTDIR)$(PREFIX)/lib/libsegue.so
	cp -R lua $(DESTDIR)$(PREFIX)/share/segue/
	install -d $(DESTDIR)$(PLUGIN_DIR)
	install -m 755 $(PLUGINS) $(DESTDIR)$(PLUGIN_DIR)/
	for file in $(PLUGIN_LUA); do \
	  install -D -m 644 $$file $(DESTDIR)$(PREFIX)/share/segue/$$file || exit 1; done
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' core/dist/segue.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/segue.pc
	install -d $(DESTDIR)$(UNIT_DIR) $(DESTDIR)$(BASH_DIR) $(DESTDIR)$(ZSH_DIR) \
	  $(DESTDIR)$(MAN_DIR)/man1 $(DESTDIR)$(MAN_DIR)/man5
	sed 's|/usr/bin/|$(PREFIX)/bin/|' core/dist/segue.service > $(DESTDIR)$(UNIT_DIR)/segue.service
	install -m 644 core/dist/segue.socket $(DESTDIR)$(UNIT_DIR)/segue.socket
	sed $(INSTANCE_OF) $(DESTDIR)$(UNIT_DIR)/segue.service > $(DESTDIR)$(UNIT_DIR)/segue@.service
	$(OUT)/segue completion bash > $(DESTDIR)$(BASH_DIR)/segue
	$(OUT)/segue completion zsh > $(DESTDIR)$(ZSH_DIR)/_segue
	install -m 644 core/dist/segue.1 $(DESTDIR)$(MAN_DIR)/man1/segue.1
	install -m 644 core/dist/reload.lua.5 $(DESTDIR)$(MAN_DIR)/man5/reload.lua.5
	install -m 644 core/dist/segue-template.5 $(DESTDIR)$(MAN_DIR)/man5/segue-template.5
	install -m 644 core/dist/reload.schema.json $(DESTDIR)$(PREFIX)/share/segue/reload.schema.json

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/segue $(DESTDIR)$(PREFIX)/include/segue.h \
	  $(DESTDIR)$(PREFIX)/lib/libsegue.a $(DESTDIR)$(PREFIX)/lib/libsegue.so* \
	  $(DESTDIR)$(PREFIX)/lib/pkgconfig/segue.pc $(DESTDIR)$(UNIT_DIR)/segue.service \
	  $(DESTDIR)$(UNIT_DIR)/segue.socket \
	  $(DESTDIR)$(UNIT_DIR)/segue@.service $(DESTDIR)$(BASH_DIR)/segue $(DESTDIR)$(ZSH_DIR)/_segue \
	  $(DESTDIR)$(MAN_DIR)/man1/segue.1 $(DESTDIR)$(MAN_DIR)/man5/reload.lua.5 \
	  $(DESTDIR)$(MAN_DIR)/man5/segue-template.5
	rm -rf $(DESTDIR)$(PREFIX)/share/segue $(DESTDIR)$(PREFIX)/lib/segue

# Where it is installed is compiled in, so it is linked apart, from the objects that are there.
DEB := $(OUT)/deb
DEB_OUT = $(DEB)/build$(OUT:$(BUILD)%=%)
.PHONY: deb
deb: all ## pack what install puts into /usr as build/segue_VERSION_ARCH.deb
	@rm -rf $(DEB)
	@mkdir -p $(DEB_OUT)
	@cp -a $(OUT)/obj $(OUT)/plugins $(OUT)/flags $(OUT)/sources $(DEB_OUT)
	@$(MAKE) --no-print-directory install PREFIX=/usr BUILD=$(DEB)/build DESTDIR=$(DEB)/root >/dev/null
	@sh core/dist/deb.sh $(DEB)/root $(VERSION) $(OUT)

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD)

# ---- Checking it ----------------------------------------------------------------------------------
RUN_SPECS = SEGUE_SPEC_BUILD=$(SPEC_OUT) SEGUE_BUILD=$(OUT) SEGUE_SPEC_TOP=$(BUILD) \
  SEGUE_SPEC_SAN=$(SAN) SEGUE_SPEC_CFLAGS="$(SAN_CFLAGS)" SEGUE_SPEC_JOBS=$$((2 * $(JOBS))) \
  SEGUE_SPEC_TIMES=$(SPEC_OUT)/times \
  luajit spec/support/run.lua $(SPEC)

.PHONY: specs-built
specs-built: $(SPEC_PRODUCTS) $(PRODUCTS)

.PHONY: test
test: deps ## install what is missing, build, run the specs: make test [SPEC=path] [JOBS=n]
	@$(MAKE) --no-print-directory specs-built
	@$(RUN_SPECS)

.PHONY: test-templates
test-templates: deps ## random templates, compared with Go: make test-templates [CASES=1000000]
	@$(MAKE) --no-print-directory specs-built
	@SEGUE_SPEC_TIMEOUT=7200 SEGUE_TEMPLATE_CASES=$(or $(CASES),1000000) $(MAKE) --no-print-directory \
	  SPEC=spec/daemon/template_go_spec.lua test

.PHONY: test-long
test-long: deps ## the specs that take minutes (marked #long): soaks, stalls, full fault sweeps: [SPEC=path]
	@$(MAKE) --no-print-directory specs-built
	@SEGUE_SPEC_LONG=1 $(RUN_SPECS)

.PHONY: asan
asan: dev-deps ## the specs of make test under AddressSanitizer, LeakSanitizer and UBSan: [SPEC=path]
	@$(MAKE) --no-print-directory SAN=address specs-built
	@$(MAKE) --no-print-directory SAN=address asan-run

.PHONY: asan-run
asan-run:
	@SEGUE_SPEC_PRELOAD=$(SAN_PRELOAD) SEGUE_SPEC_COLLECT=$${SEGUE_SPEC_COLLECT-some} \
	  ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1 \
	  UBSAN_OPTIONS=print_stacktrace=1 $(RUN_SPECS)

# The specs in which threads meet: the parts, hosts that embed the library, the daemon under load.
NO_THREADS := deb deps install installed_plugins unit
TSAN_SPECS := spec/unit $(filter-out $(NO_THREADS:%=spec/embed/%_spec.lua),\
  $(wildcard spec/embed/*_spec.lua)) \
  $(addprefix spec/daemon/,triggers_spec.lua lifecycle_spec.lua api_spec.lua log_spec.lua \
  url_spec.lua push_spec.lua auth_spec.lua auth_tls_spec.lua numbered_spec.lua ends_spec.lua \
  lua_module_spec.lua lua_module_life_spec.lua lua_answers_spec.lua) \
  spec/plugin/services_spec.lua spec/plugin/bigpipe_spec.lua
.PHONY: tsan
tsan: dev-deps ## the specs in which threads meet under ThreadSanitizer: [SPEC=path]
	@$(MAKE) --no-print-directory SAN=thread specs-built
	@$(MAKE) --no-print-directory SAN=thread \
	  SPEC="$(if $(filter-out spec,$(SPEC)),$(SPEC),$(TSAN_SPECS))" tsan-run

.PHONY: tsan-run
tsan-run:
	@SEGUE_SPEC_PRELOAD=$(SAN_PRELOAD) \
	  TSAN_OPTIONS=halt_on_error=0:exitcode=66:suppressions=$(CURDIR)/spec/support/tsan.supp \
	  $(RUN_SPECS)

.PHONY: mutants
mutants: deps ## remove safeguards from the code one by one; specs must fail: [MUTANT=word] [PART=2/8]
	@$(MAKE) --no-print-directory specs-built
	@SEGUE_SPEC_BUILD=$(SPEC_OUT) SEGUE_SPEC_JOBS=$(JOBS) MUTANT="$(MUTANT)" PART=$(PART) \
	  LUA_PATH="./?.lua;;" luajit spec/support/mutants.lua

# The spec library, or the daemon (DAEMON=1), with FILE compiled from SOURCE instead, into DIR. Without
# debug information, because linking that takes most of the time.
MUTANT_OBJ = $(DIR)/mutant.o $(filter-out %/$(FILE:.c=.o),$(SPEC_CORE_OBJ))
.PHONY: mutant-built
mutant-built: private LDFLAGS += -Wl,-S
mutant-built:
	@$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -w -g0 -DSEGUE_TEST -I. -Icore -iquote $(dir $(FILE)) \
	  -c $(SOURCE) -o $(DIR)/mutant.o
	@$(if $(DAEMON),$(call LINK_BINARY,$(MUTANT_OBJ) \
	    $(filter-out %/$(FILE:.c=.o),$(SPEC_DAEMON_OBJ)),$(DIR)/segue),\
	  $(CC) $(ALL_CFLAGS) $(LDFLAGS) $(SPEC_WRAP) -shared $(MUTANT_OBJ) $(HARNESS_OBJ) $(LIBS) \
	    -o $(DIR)/libsegue-spec.so)

# A plugin with FILE compiled from SOURCE instead, into DIR, which then has all that its specs use.
MUTANT_PLUGIN = $(word 2,$(subst /, ,$(FILE)))
.PHONY: mutant-plugin
mutant-plugin:
	@mkdir -p $(DIR)/plugins
	@cp $(PLUGINS) $(DIR)/plugins/ && cp $(SPEC_OUT)/segue $(DIR)/ && cp $(OUT)/libsegue.so* $(DIR)/
	@$(CC) -D_GNU_SOURCE -Icore $(CPPFLAGS) $(ALL_CFLAGS) -w -fvisibility=hidden \
	  -iquote $(dir $(FILE)) -c $(SOURCE) -o $(DIR)/mutant.o
	@$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared $(DIR)/mutant.o -pthread \
	  $(filter-out %/$(FILE:plugins/%.c=%.o),$(call plugin_obj,$(MUTANT_PLUGIN))) \
	  -o $(DIR)/plugins/$(MUTANT_PLUGIN).so

# Specs of what memcheck does not have: pidfd_send_signal(2), limits of open files below its own
# descriptors, exec(2) that fails, and signals that the process does not catch (it catches all).
VALGRIND_NOT := $(patsubst %,spec/unit/%_spec.lua,process child os_spawn triggers http_limits \
  http_poller)
VALGRIND_SPECS = $(filter-out $(VALGRIND_NOT),$(wildcard spec/unit/*_spec.lua))

.PHONY: valgrind
valgrind: dev-deps ## the unit specs and the quickstart under valgrind's memcheck: [SPEC=path]
	@$(MAKE) --no-print-directory specs-built
	@SEGUE_SPEC_UNDER="valgrind -q --error-exitcode=65 --leak-check=full" SEGUE_SPEC_TIMEOUT=600 \
	  $(MAKE) --no-print-directory SPEC="spec/daemon/readme_spec.lua spec/daemon/triggers_spec.lua" \
	  valgrind-run
	@SEGUE_SPEC_WRAP="valgrind -q --error-exitcode=65 --leak-check=no" \
	  $(MAKE) --no-print-directory \
	  SPEC="$(if $(filter-out spec,$(SPEC)),$(SPEC),$(VALGRIND_SPECS))" \
	  valgrind-run

.PHONY: valgrind-run
valgrind-run:
	@$(RUN_SPECS)

.PHONY: lint
lint: dev-deps ## layout, warnings, clang-tidy, luacheck, the rules of the house: [PART=2/8]
	@$(MAKE) --no-print-directory specs-built
	@CPPFLAGS="$(subst ",\",$(ALL_CPPFLAGS))" sh spec/support/lint.sh $(C_FILES)
	@echo "  lint    texts made from the tables of options"
	@luajit spec/support/options.lua $(OUT)/segue --check
	@echo "  lint    clang-tidy"
	@$(MAKE) --no-print-directory -k -j$$(nproc) tidy
	@echo "lint: clean"

# A file is analysed again when its object had to be built again: it or a header of it has changed.
# The static analyzer takes 2 to 6 s for a file, all other checks 0.1 s. With PART=2/8 it sees every
# eighth file, and those that the last commits changed; the others get the other checks.
TIDY_SRC := $(CORE_SRC) $(DAEMON_SRC) $(HARNESS_SRC)
ifneq ($(and $(PART),$(filter tidy,$(MAKECMDGOALS))),)
ANALYZED := $(shell printf '%s\n' $(TIDY_SRC) | \
  awk -v part=$(PART) '{ split(part, p, "/") } NR % p[2] == p[1] % p[2]') \
  $(filter $(TIDY_SRC),$(shell git diff --name-only HEAD~8 2>/dev/null))
else
ANALYZED := $(TIDY_SRC)
endif
TIDY := $(patsubst %.c,$(OUT)/tidy/%.ok,$(sort $(ANALYZED))) \
  $(patsubst %.c,$(OUT)/tidy/%.quick,$(filter-out $(ANALYZED),$(TIDY_SRC)))
.PHONY: tidy
tidy: $(TIDY)

RUN_TIDY = clang-tidy --quiet $(1) $*.c -- -std=c11 -pthread -I. -Icore -DSEGUE_TEST \
  $(ALL_CPPFLAGS) >$@.log 2>&1 || { grep -A 3 "error:" $@.log; exit 1; }
$(OUT)/tidy/%.ok: $(SPEC_OUT)/obj/%.o .clang-tidy
	@mkdir -p $(@D)
	@$(call RUN_TIDY,)
	@touch $@
$(OUT)/tidy/%.quick: $(SPEC_OUT)/obj/%.o .clang-tidy
	@mkdir -p $(@D)
	@$(call RUN_TIDY,--checks=-clang-analyzer-*)
	@touch $@

.PHONY: options
options: all ## write what is made from the tables of options: manual, types for editors, JSON Schema
	@luajit spec/support/options.lua $(OUT)/segue
	@luajit spec/support/template_page.lua

.PHONY: format
format: ## lay out every C file
	@clang-format -i $(C_FILES) $(HEADERS)

# ---- Fuzzing --------------------------------------------------------------------------------------
FUZZ_SRC := $(wildcard spec/fuzz/*.c)
FUZZERS := $(FUZZ_SRC:spec/fuzz/%.c=$(BUILD)/fuzz/%)
FUZZ_OBJ := $(CORE_SRC:%.c=$(BUILD)/fuzz-obj/%.o)
FUZZ_CFLAGS = -std=c11 -pthread -g -O1 -DSEGUE_TEST -I. -Icore -fno-omit-frame-pointer \
  -fsanitize=address,undefined -fno-sanitize-recover=undefined
$(BUILD)/fuzz-obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc-fuzz $<"
	@clang $(ALL_CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@
$(BUILD)/fuzz/%: spec/fuzz/%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	@echo "  fuzz    $@"
	@clang $(ALL_CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer $< $(FUZZ_OBJ) $(LUAJIT_A) $(LIBS) -o $@
.SECONDARY: $(FUZZ_OBJ)
-include $(FUZZ_OBJ:.o=.d)

# The same targets under AFL++, which mutates otherwise and so finds other things.
AFL_FUZZERS := $(FUZZ_SRC:spec/fuzz/%.c=$(BUILD)/afl/%)
AFL_OBJ := $(CORE_SRC:%.c=$(BUILD)/afl-obj/%.o)
$(BUILD)/afl-obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	@echo "  cc-afl  $<"
	@AFL_QUIET=1 afl-clang-fast $(ALL_CPPFLAGS) $(FUZZ_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/afl/%: spec/fuzz/%.c $(AFL_OBJ)
	@mkdir -p $(@D)
	@echo "  afl     $@"
	@AFL_QUIET=1 afl-clang-fast $(ALL_CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer $< $(AFL_OBJ) \
	  $(LUAJIT_A) $(LIBS) -o $@
.SECONDARY: $(AFL_OBJ)
-include $(AFL_OBJ:.o=.d)

.PHONY: fuzzers
fuzzers: $(FUZZERS)

.PHONY: fuzz
fuzz: dev-deps ## run every fuzzer for FUZZ_SECONDS (default 600) each: [AFL=1] by AFL++
	@$(if $(AFL),sh spec/support/deps.sh $(AFL_DEPS))
	@$(MAKE) --no-print-directory $(if $(AFL),$(AFL_FUZZERS),fuzzers)
	@sh spec/support/$(if $(AFL),afl,fuzz).sh $(BUILD)/$(if $(AFL),afl,fuzz) $(FUZZ_SECONDS)

.PHONY: fuzz-smoke
fuzz-smoke: ## run all fuzzers for a minute in all
	@$(MAKE) --no-print-directory fuzz \
	  FUZZ_SECONDS=$$((60 / $(if $(FUZZ_SRC),$(words $(FUZZ_SRC)),1)))

# ---- Measuring it ---------------------------------------------------------------------------------
BENCH_SRC := $(wildcard spec/bench/*.c)
BENCHES := $(BENCH_SRC:spec/bench/%.c=$(BUILD)/bench/%)
$(BUILD)/bench/%: spec/bench/%.c $(BUILD)/libsegue.a $(HEADERS)
	@mkdir -p $(@D)
	@echo "  bench   $@"
	@$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -I. -Icore $< $(BUILD)/libsegue.a $(LUAJIT_A) $(LIBS) -o $@

# It loads a plugin, which finds here what it calls.
$(BUILD)/bench/log: private ALL_CFLAGS += -Wl,-E -Wl,--whole-archive $(BUILD)/libsegue.a \
  -Wl,--no-whole-archive
$(BUILD)/bench/log: $(PLUGINS)
$(BUILD)/bench/spdlog: spec/bench/spdlog.cpp spec/bench/rounds.h spec/bench/lines.h
	@mkdir -p $(@D)
	@echo "  bench   $@"
	@c++ -D_GNU_SOURCE -std=c++17 -pthread -Wall -Wextra -Werror $(CFLAGS) \
	  $(shell pkg-config --cflags spdlog) $< $(shell pkg-config --libs spdlog) -o $@
$(BUILD)/bench/gate $(BUILD)/bench/read $(BUILD)/bench/log: spec/bench/rounds.h
$(BUILD)/bench/log: spec/bench/lines.h
$(BUILD)/bench/numbered $(BUILD)/bench/ends: spec/bench/numbered.h
# The module of the HTTP rows, for the daemon.
$(BUILD)/bench/numbered.so: spec/plugin/numbered.c spec/bench/numbered.h core/segue.h
	@mkdir -p $(@D)
	@echo "  bench   $@"
	@$(CC) -D_GNU_SOURCE -Icore $(CPPFLAGS) $(ALL_CFLAGS) -shared $< -o $@
$(BUILD)/bench/h2o: private LIBS += -lh2o -lssl -lcrypto
$(BUILD)/bench/tls_idle: private LIBS += -lssl -lcrypto
.PHONY: benches
benches: $(PRODUCTS) $(BENCHES) $(BUILD)/bench/numbered.so $(BUILD)/bench/spdlog

.PHONY: bench
bench: deps ## figures beside what Debian offers: make bench [ROW=name] [CHECK=1]
	@sh spec/support/deps.sh $(BENCH_DEPS)
	@$(MAKE) --no-print-directory benches
	@SEGUE_BUILD=$(BUILD) CHECK=$(CHECK) ROW=$(ROW) luajit spec/bench/run.lua

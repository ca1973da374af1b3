# SPDX-License-Identifier: MIT
# `make help` lists the targets. BUILD=dir chooses where things are built.
BUILD ?= build
CC ?= cc
CFLAGS ?= -O2 -g
LUAJIT_A := /usr/lib/x86_64-linux-gnu/libluajit-5.1.a
WARN := -Wall -Wextra -Werror
CPPFLAGS_ALL := -D_GNU_SOURCE -I/usr/include/luajit-2.1 $(CPPFLAGS)
CFLAGS_ALL := -std=c11 -fPIC -fvisibility=hidden -pthread $(WARN) $(CFLAGS)
LIBS := -luv -lyaml -lxxhash -lm -ldl -pthread

CORE_SRC := $(filter-out core/daemon/%,$(wildcard core/*.c core/*/*.c))
DAEMON_SRC := $(wildcard core/daemon/*.c)
CORE_OBJ := $(CORE_SRC:%.c=$(BUILD)/%.o)
DAEMON_OBJ := $(DAEMON_SRC:%.c=$(BUILD)/%.o)

.PHONY: all
all: $(BUILD)/segue

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(BUILD)/segue: $(CORE_OBJ) $(DAEMON_OBJ)
	$(CC) $(CFLAGS_ALL) $(LDFLAGS) -Wl,-E $^ $(LUAJIT_A) $(LIBS) -o $@

-include $(CORE_OBJ:.o=.d) $(DAEMON_OBJ:.o=.d)

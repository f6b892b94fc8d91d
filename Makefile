# Backstay.  `make demo` and `make check` set up, build and run; see README.md.
#
#   CC=gcc|clang  SAN=address,undefined|thread  V=1  PREFIX=/usr/local  DESTDIR=
#
# Each combination of compiler and sanitizer builds into a folder of its own.

comma := ,
CC ?= gcc
ifeq ($(origin CC),default)
CC = gcc
endif
SAN ?=
V ?=
PREFIX ?= /usr/local
DESTDIR ?=
CFLAGS ?= -O2 -g

ifeq ($(SAN),)
B := build/$(notdir $(CC))
else
B := build/$(notdir $(CC))-$(subst $(comma),-,$(subst undefined,ub,$(SAN)))
SANFLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
Q := $(if $(V),,@)

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wmissing-prototypes \
	-Wstrict-prototypes -Wformat=2 -Wvla -Wundef
override CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP
override CFLAGS += -std=c11 -fPIC -fstack-protector-strong -pthread \
	$(WARN) $(SANFLAGS)
LDLIBS := -lssh -lrocksdb -lcrypto -lzstd -lz -ljansson -lm -pthread

PROTO_SRC := $(wildcard proto/*.c proto/*/*.c)
REPO_SRC := $(filter-out repo/daemon.c,$(wildcard repo/*.c)) \
	$(wildcard repo/store/*.c repo/catalog/*.c repo/serve/*.c)
CONSOLE_SRC := $(wildcard repo/console/*.c)
AGENT_SRC := $(filter-out agent/agent.c agent/cmd_%.c,$(wildcard agent/*.c)) \
	$(wildcard agent/*/*.c)
AGENT_CMD_SRC := agent/agent.c $(wildcard agent/cmd_*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)

objs = $(patsubst %.c,$(B)/%.o,$(1))
PROGRAMS := $(B)/backstayd $(B)/backstay $(B)/backstay-agent
UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))

.PHONY: all
all: $(PROGRAMS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	@$(if $(V),,echo "  CC $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

define archive
	@$(if $(V),,echo "  AR $@")
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)
endef
define link
	@mkdir -p $(@D)
	@$(if $(V),,echo "  LD $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) \
		$(LDLIBS) $(1)
endef

$(B)/libproto.a: $(call objs,$(PROTO_SRC))
	$(archive)
$(B)/librepo.a: $(call objs,$(REPO_SRC))
	$(archive)
$(B)/libagent.a: $(call objs,$(AGENT_SRC))
	$(archive)

$(B)/backstayd: $(B)/repo/daemon.o $(B)/librepo.a $(B)/libproto.a
	$(call link)
$(B)/backstay: $(call objs,$(CONSOLE_SRC)) $(B)/librepo.a $(B)/libproto.a
	$(call link)
$(B)/backstay-agent: $(call objs,$(AGENT_CMD_SRC)) $(B)/libagent.a \
		$(B)/libproto.a
	$(call link)
$(B)/unit/test_store: $(B)/tests/unit/store_fixture.o
$(B)/unit/%: $(B)/tests/unit/%.o $(B)/libagent.a $(B)/librepo.a $(B)/libproto.a
	$(call link,-lcmocka)

.PHONY: units
units: $(UNITS)

.PHONY: clean
clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
.SECONDARY:

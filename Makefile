# Backstay.  `make demo` and `make check` set up, build and run; see README.md.
#
#   CC=gcc|clang  SAN=address,undefined|thread  FAULT=1  V=1  PREFIX=/usr/local  DESTDIR=
#
# Each combination of compiler and sanitizer builds into a folder of its own.

comma := ,
CC ?= gcc
ifeq ($(origin CC),default)
CC = gcc
endif
SAN ?=
FAULT ?=
V ?=
PREFIX ?= /usr/local
DESTDIR ?=
CFLAGS ?= -O2 -g
FUZZ_SECONDS ?= 60
JOBS ?= $(shell nproc)

# SAN=fuzz is what `make fuzz` builds with; libFuzzer is clang's.
ifeq ($(SAN),fuzz)
B := build/fuzz
SAN_LIST := fuzzer-no-link,address,undefined
else ifeq ($(SAN),)
B := build/$(notdir $(CC))
else
B := build/$(notdir $(CC))-$(subst $(comma),-,$(subst undefined,ub,$(SAN)))
SAN_LIST := $(SAN)
endif
# FAULT=1 has the points of proto/base/fault.h; see tests/crash.
ifneq ($(FAULT),)
B := $(B)-fault
endif
ifneq ($(SAN),)
SANFLAGS := -fsanitize=$(SAN_LIST) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer
endif
Q := $(if $(V),,@)

# What Debian 12 calls all that is needed; `make deps` installs what is missing,
# `make build-deps` what building and `make deb` need of it.
BUILD_DEBS := gcc libc6-dev make libssh-dev librocksdb-dev libssl-dev libzstd-dev \
	zlib1g-dev libjansson-dev libinih-dev libnfs-dev libncurses-dev libnbd-dev \
	libvirt-dev libxml2-dev libsystemd-dev libmicrohttpd-dev \
	libarchive-dev dpkg-dev
# Tests and the demonstration.
DEBS := $(BUILD_DEBS) libcmocka-dev qemu-utils e2fsprogs openssh-client openssl python3 \
	zstd spin systemd tzdata tmux
# Who reads metrics.
DEBS += prometheus curl
# Crash tests: disks whose writes are logged.
DEBS += qemu-system-common fuse3 xfsprogs btrfs-progs
# Running guests: QEMU, libvirt, what a guest is made of, and newer ones of both.
DEBS += qemu-system-x86 libvirt-daemon libvirt-clients libnbd-bin \
	busybox-static cpio debootstrap ovmf swtpm swtpm-tools genisoimage
# An NFS server.
DEBS += nfs-ganesha nfs-ganesha-vfs rpcbind libnfs-utils iproute2
# Archives, and others' tools that open them.
DEBS += libarchive-tools unzip libxml2-utils
# Sanitizers by clang, fuzzing, lint.
DEBS += clang libclang-rt-14-dev clang-format-14 clang-tidy-14 cppcheck \
	shellcheck

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wmissing-prototypes \
	-Wstrict-prototypes -Wformat=2 -Wvla -Wundef
# As a system's: its headers are not held to our warnings.
XML := -isystem /usr/include/libxml2
override CPPFLAGS += -I. -D_GNU_SOURCE $(XML) -MMD -MP $(if $(FAULT),-DFAULT)
override CFLAGS += -std=c11 -fPIC -fstack-protector-strong -pthread \
	$(WARN) $(SANFLAGS)
# As needed: a host of VMs has no use for the daemon's libraries.
override LDFLAGS += -Wl,--as-needed -Wl,-z,relro -Wl,-z,now
LDLIBS := -lssh -lnfs -lrocksdb -lcrypto -lzstd -lz -ljansson -linih -lnbd -lvirt \
	-lvirt-qemu -lmicrohttpd -lxml2 -lsystemd -larchive -lm -pthread

PROTO_SRC := $(wildcard proto/*.c proto/*/*.c)
REPO_SRC := $(filter-out repo/daemon.c,$(wildcard repo/*.c)) \
	$(wildcard repo/store/*.c repo/reclaim/*.c repo/catalog/*.c repo/serve/*.c) \
	$(wildcard repo/settings/*.c repo/audit/*.c repo/retain/*.c) \
	$(wildcard repo/notify/*.c repo/dispatch/*.c)
CONSOLE_SRC := $(wildcard repo/console/*.c)
AGENT_SRC := $(filter-out agent/agent.c agent/cmd_%.c,$(wildcard agent/*.c)) \
	$(wildcard agent/*/*.c)
AGENT_CMD_SRC := agent/agent.c $(wildcard agent/cmd_*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
FIXTURE_SRC := $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c))
E2E_SRC := $(wildcard tests/e2e/*.c)
CLOCK_SRC := $(wildcard tests/e2e/clock/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
CRASH_SRC := $(wildcard tests/crash/*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)
ALL_SRC := $(PROTO_SRC) $(REPO_SRC) repo/daemon.c $(CONSOLE_SRC) \
	$(AGENT_SRC) $(AGENT_CMD_SRC) $(UNIT_SRC) $(FIXTURE_SRC) $(E2E_SRC) \
	$(CLOCK_SRC) \
	$(FUZZ_SRC) $(BENCH_SRC)

objs = $(patsubst %.c,$(B)/%.o,$(1))
PROGRAMS := $(B)/backstayd $(B)/backstay $(B)/backstay-agent
UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(UNIT_SRC))
# UNIT= and E2E= choose some: make check UNIT='test_lane test_store' E2E=
UNIT ?= test_*
CHOSEN_UNITS := $(patsubst tests/unit/%.c,$(B)/unit/%,$(sort \
	$(wildcard $(patsubst %,tests/unit/%.c,$(UNIT)))))
E2E_PROGRAMS := $(patsubst tests/e2e/%.c,$(B)/%,$(E2E_SRC)) \
	$(B)/backstayd-clock
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(FUZZ_SRC))
# Calls itself with as many jobs as there are processors, unless told how many.
SELF = $(Q)+$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

# --- programs

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
$(B)/libfixture.a: $(call objs,$(FIXTURE_SRC))
	$(archive)

$(B)/backstayd: $(B)/repo/daemon.o $(B)/librepo.a $(B)/libproto.a
	$(call link)
$(B)/libconsole.a: $(call objs,$(filter-out %/main.c,$(CONSOLE_SRC)))
	$(archive)

$(B)/backstay: $(B)/repo/console/main.o $(B)/libconsole.a $(B)/librepo.a \
		$(B)/libproto.a
	$(call link,-lncursesw)
$(B)/backstay-agent: $(call objs,$(AGENT_CMD_SRC)) $(B)/libagent.a \
		$(B)/libproto.a
	$(call link)

# --- tests

TEST_LIBS := $(B)/libfixture.a $(B)/libconsole.a $(B)/libagent.a $(B)/librepo.a $(B)/libproto.a
$(UNITS): $(B)/unit/%: $(B)/tests/unit/%.o $(TEST_LIBS)
	$(call link,-lcmocka)
# Ends before and after each call that changes a folder.
$(B)/unit/test_swap: override LDFLAGS += $(addprefix -Wl$(comma)--wrap=,renameat \
	linkat unlinkat fsync)
$(filter-out %-clock,$(E2E_PROGRAMS)): $(B)/%: $(B)/tests/e2e/%.o $(TEST_LIBS)
	$(call link)
# The daemon, with clocks that a test sets.
$(B)/backstayd-clock: $(B)/repo/daemon.o $(B)/tests/e2e/clock/clock.o \
		$(B)/librepo.a $(B)/libproto.a
	$(call link,-Wl$(comma)--wrap=time$(comma)--wrap=clock_gettime)
$(FUZZERS): $(B)/fuzz/%: $(B)/tests/fuzz/%.o $(TEST_LIBS)
	$(call link,-fsanitize=fuzzer)
# Programs of tests/crash, with FAULT=1: each of the two has the rest.
CRASH_COMMON := $(filter-out tests/crash/crash.c tests/crash/races.c \
	tests/crash/examine.c,$(CRASH_SRC))
CRASHERS := $(patsubst %,$(B)/crash/%,$(basename $(notdir \
	$(filter-out $(CRASH_COMMON),$(CRASH_SRC)))))
$(CRASHERS): $(B)/crash/%: $(B)/tests/crash/%.o $(call objs,$(CRASH_COMMON)) \
		$(B)/librepo.a $(B)/libproto.a
	$(call link,-lcmocka)

BENCH_PROGRAMS := $(patsubst tests/bench/%.c,$(B)/bench/%,$(BENCH_SRC))
$(BENCH_PROGRAMS): $(B)/bench/%: $(B)/tests/bench/%.o $(B)/librepo.a \
		$(B)/libproto.a
	$(call link)

.PHONY: units test-programs fuzzers crashers
crashers: $(CRASHERS)
units: $(UNITS)
test-programs: $(PROGRAMS) $(CHOSEN_UNITS) $(E2E_PROGRAMS)
fuzzers: $(FUZZERS)

.PHONY: check model demo fuzz
E2E ?= [0-9]*
MODEL ?= *
# Seconds of the random test; nothing: none.
STRESS ?= 45
check: deps
	$(SELF) test-programs
	$(Q)exec env UNIT='$(UNIT)' E2E='$(E2E)' MODEL='$(MODEL)' STRESS='$(STRESS)' \
		JOBS=$(JOBS) tests/run.sh $(B)

# All tests with running guests; LIVE=long: the longer form of each.
.PHONY: check-live
check-live: deps
	$(SELF) test-programs
	$(Q)exec env UNIT= E2E='1[0-9][0-9]-*' GUESTS='*' MODEL= STRESS= LIMIT=3600 \
		LIVE='$(LIVE)' JOBS=$(JOBS) tests/run.sh $(B)

# Everything at once, at random, against an oracle.
.PHONY: stress bench-cost
DURATION ?= 600
SEED ?=
stress: deps
	$(SELF) all
	$(Q)DURATION='$(DURATION)' SEED='$(SEED)' tests/stress/run.sh $(B)

# Beside restic and borg, which it installs where they are missing.
bench-cost: deps
	$(SELF) all
	$(Q)tests/bench/cost.sh $(B) build/bench-cost.json

# Beside restic, borg and qemu-img; QUICK=1: a short form of it.
.PHONY: bench
bench: deps
	$(SELF) all $(B)/bench/limits
	$(Q)tests/bench/speed.sh $(B)

# One question each; what they can be told is said in tests/bench/NAME.sh.
BENCHES := bench-index bench-reads bench-net bench-many bench-ram bench-live bench-nfs bench-rate
.PHONY: $(BENCHES)
$(BENCHES): bench-%: deps
	$(SELF) all $(addprefix $(B)/bench/,index_scale link places)
	$(Q)tests/bench/$*.sh $(B) build/bench/$*.json

# Every fault point, killed and failed and with the power cut; races; real file
# systems.  CRASH=long: more of each.
.PHONY: check-crash
CRASH ?=
check-crash: deps
	$(SELF) FAULT=1 crashers
	$(Q)B=$(B)$(if $(FAULT),,-fault) JOBS=$(JOBS) CRASH=$(CRASH) tests/crash/run.sh

# The short form of it is part of check.
model: deps
	$(Q)JOBS=$(JOBS) tests/model/run.sh complete

demo: deps
	$(SELF) all
	$(Q)BIN=$(abspath $(B)) tests/demo.sh

fuzz: deps
	$(SELF) CC=clang SAN=fuzz fuzzers
	$(Q)tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS) $(JOBS)

# --- lint

TIDY := $(patsubst %.c,build/tidy/%.ok,$(ALL_SRC))
.PHONY: lint tidy
lint: deps
	$(Q)tests/lint/run.sh
tidy: $(TIDY)

# Behind the object, so that a changed header is looked at again.
build/tidy/%.ok: %.c $(B)/%.o .clang-tidy tests/.clang-tidy \
		tests/lint/analyzer.h
	@mkdir -p $(@D)
	@$(if $(V),,echo "  TIDY $<")
	$(Q)clang-tidy-14 --quiet $< -- -std=c11 -I. -D_GNU_SOURCE $(XML) \
		$(if $(filter-out proto/base/err.c proto/base/log.c,$<),-include tests/lint/analyzer.h) \
		2>build/tidy/$*.err || { cat build/tidy/$*.err; exit 1; }
	@touch $@

# --- set up, put in place, clean up

# dpkg-query is asked first: nothing is done where all is there.
.PHONY: deps build-deps install uninstall deb check-package clean help
deps: WANTED := $(DEBS)
build-deps: WANTED := $(BUILD_DEBS)
deps build-deps:
	@missing=; \
	for p in $(WANTED); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | \
			grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	echo "installing:$$missing"; \
	[ $$(id -u) = 0 ] && sudo= || sudo=sudo; \
	log=$$(mktemp); \
	{ $$sudo apt-get -q update && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install \
		--no-install-recommends $$missing; } >$$log 2>&1 </dev/null || \
	{ cat $$log; rm -f $$log; echo "make $@: could not install the" \
		"above; install it by hand, and try again" >&2; exit 1; }; \
	rm -f $$log

MAN := $(wildcard etc/*.1 etc/*.5 etc/*.8)
UNITFILES := $(wildcard etc/*.service)
SAMPLES := $(wildcard etc/agent.conf)
# Where systemd, man and bash look: below PREFIX.
INSTALL_LIB = $(DESTDIR)$(PREFIX)/lib
INSTALL_SHARE = $(DESTDIR)$(PREFIX)/share
COMPLETIONS = $(INSTALL_SHARE)/bash-completion/completions
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/backstayd $(DESTDIR)$(PREFIX)/sbin
	install -m 755 $(B)/backstay $(B)/backstay-agent \
		$(DESTDIR)$(PREFIX)/bin
	$(foreach m,$(MAN),install -D -m 644 $(m) $(INSTALL_SHARE)/man/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m))$(newline))
	install -d $(INSTALL_LIB)/systemd/system
	$(foreach u,$(UNITFILES),sed 's|/usr/local/|$(PREFIX)/|g' $(u) >$(INSTALL_LIB)/systemd/system/$(notdir $(u))$(newline))
	install -D -m 644 etc/backstay.sysusers $(INSTALL_LIB)/sysusers.d/backstay.conf
	install -D -m 644 etc/completion/backstay $(COMPLETIONS)/backstay
	install -m 644 etc/completion/backstay $(COMPLETIONS)/backstay-agent
	$(foreach s,$(SAMPLES),install -D -m 644 $(s) $(INSTALL_SHARE)/doc/backstay-agent/examples/$(notdir $(s))$(newline))

# What install put there; settings, keys and repositories stay.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/backstayd $(addprefix $(DESTDIR)$(PREFIX)/bin/,backstay backstay-agent)
	rm -f $(foreach m,$(MAN),$(INSTALL_SHARE)/man/man$(patsubst .%,%,$(suffix $(m)))/$(notdir $(m)))
	rm -f $(addprefix $(INSTALL_LIB)/systemd/system/,$(notdir $(UNITFILES))) $(INSTALL_LIB)/sysusers.d/backstay.conf
	rm -f $(COMPLETIONS)/backstay $(COMPLETIONS)/backstay-agent
	rm -rf $(INSTALL_SHARE)/doc/backstay-agent

# Two packages in build/: of the NAS and of a host.
VERSION := $(shell sed -n 's/.*_VERSION "\(.*\)"/\1/p' proto/version.h)
deb: build-deps
	$(SELF) all
	$(Q)rm -rf build/deb && mkdir -p build/deb
	$(Q)$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/build/deb PREFIX=/usr >build/deb.log
	$(Q)umask 022 && etc/debian/build.sh build/deb $(VERSION) build

# Installs them in a clean Debian 12, and on a machine with a systemd; as root.
check-package: deps
	$(SELF) all
	$(Q)ROOM=clean BIN=$(abspath $(B)) tests/e2e/280-package.sh
	$(Q)BIN=$(abspath $(B)) tests/live/service.sh

define newline


endef

clean:
	rm -rf build

help:
	@echo "make            backstayd, backstay and backstay-agent, in $(B)"
	@echo "make demo       set up, build, and show two backups and their restores"
	@echo "make check      set up, build, and run all tests; some: UNIT='test_lane' E2E='20-*'"
	@echo "make check-live  all tests with running guests; LIVE=long: the longer form of each"
	@echo "make check-crash  a store hit at every fault point, races, real file systems; CRASH=long"
	@echo "make model      search the models of the store completely: some minutes"
	@echo "make lint       layout, clang-tidy, cppcheck, shellcheck, headers, include directions"
	@echo "make stress     everything at once, at random, for DURATION=$(DURATION) seconds; SEED= to replay"
	@echo "make bench      how fast it all is, beside restic, borg and qemu-img; QUICK=1: under 3 minutes"
	@echo "make bench-cost what deletes and reclaiming cost, beside restic and borg"
	@echo "make bench-index  what the index costs with 1 and with 100 million entries"
	@echo "make bench-reads  in how many reads a restore finds its data after a month of backups"
	@echo "make bench-net  what a long wire carries of backups and restores (root)"
	@echo "make bench-many several VMs at once against one after the other"
	@echo "make bench-ram  pauses and bytes of guests saved with their memory, beside virsh save (root)"
	@echo "make bench-rate how exactly rates hold while they change, and how alike jobs share them"
	@echo "make bench-live an incremental backup of a guest that runs: time, bytes read, its writes meanwhile (root)"
	@echo "make bench-nfs  packs on an NFS export: beside libnfs' nfs-cp, and over a long wire (root)"
	@echo "make fuzz       each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)"
	@echo "make build-deps  install what is missing of the Debian packages that building needs"
	@echo "make deps       install what is missing of the Debian packages that all this needs"
	@echo "make install    into DESTDIR= and PREFIX=$(PREFIX): programs, man pages, systemd units, completion"
	@echo "make uninstall  takes that away; settings, keys and repositories stay"
	@echo "make deb        Debian packages in build/: backstay (NAS) and backstay-agent (KVM host)"
	@echo "make check-package  installs, uses and purges them in a clean Debian 12 (root)"
	@echo "make clean      remove build/"
	@echo "Variants: CC=gcc|clang  SAN=address,undefined|thread  V=1 (show commands)"

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.SECONDARY:
.DELETE_ON_ERROR:

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: no two jobs of a repository have the same number, whatever comes
# between them: a stop, a crash, a file that is damaged, gone or of yesterday.
#
#   tests/e2e/213-job-numbers.sh
. "$(dirname "$0")/lib.sh"

make_repo "$dir/repo"
start_daemon
# next: the number of one more job, which waits for a host that never comes.
next() {
	last=$number
	number=$(console backup web1 --later) || fail "no job"
	[ "$number" -gt "$last" ] || fail "job $number behind job $last"
}
number=0
next
[ "$number" = 1 ] || fail "the first job is $number"
next
next
stop_daemon
cp "$repo/jobs.next" "$dir/yesterday"
start_daemon
next
[ "$number" = 4 ] || fail "after a stop: job $number behind job $last"
ok "numbers go on behind a stop"

kill_daemon
start_daemon
next
[ "$number" -le 2000 ] || fail "a crash leaves out too many: job $number"
stop_daemon
start_daemon
next
[ "$number" = $((last + 1)) ] || fail "job $number behind job $last"
ok "numbers go on behind a crash"

# What the audit log has is known.
stop_daemon
cp "$dir/yesterday" "$repo/jobs.next"
start_daemon
next
[ "$number" = $((last + 1)) ] || fail "job $number behind job $last"
stop_daemon
rm "$repo/jobs.next"
start_daemon
next
[ "$number" = $((last + 100001)) ] || fail "job $number behind job $last"
for at in 0 15 20; do
	stop_daemon
	spoil "$repo/jobs.next" $at
	start_daemon
	grep -q 'error: jobs.next: it is damaged' "$daemon_log" ||
		fail "the start does not tell"
	next
done
# Nobody says what is known by asking for it.
expect_fail 1 "there is no job 777777777" console cancel 777777777
stop_daemon
start_daemon
next
[ "$number" = $((last + 1)) ] || fail "job $number behind job $last"
ok "numbers go on where the file is old, lost or damaged"

# A job is not refused because its number cannot be kept.
stop_daemon
if ! { rm "$repo/jobs.next" && mkdir "$repo/jobs.next"; }; then
	fail "no folder in its place"
fi
start_daemon
next
grep -q 'jobs.next: it cannot be written' "$daemon_log" ||
	fail "nobody tells that it cannot be written"
rmdir "$repo/jobs.next" || fail "the folder is not to be removed"
stop_daemon
start_daemon
next
[ "$number" = $((last + 1)) ] || fail "job $number behind job $last"
ok "jobs run where the file cannot be written"
stop_daemon

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Goal: Prometheus reads what the daemon measures, its promtool has nothing to
# say about it, the numbers are those of the console, and the alerts that README
# shows fire when they should.
#
#   tests/e2e/270-metrics.sh
. "$(dirname "$0")/lib.sh"
need curl prometheus promtool

# http_start [OPTION...]: the daemon, with ${http}, the address of its pages.
http_start() {
	start_daemon --http 127.0.0.1:0 "$@"
	http=$(grep -o 'http://127\.0\.0\.1:[0-9]*' "$daemon_log") ||
		fail "the daemon does not say where its pages are"
}

# page PATH: into page.out; ${status} is its status.
page() {
	status=$(curl -sS -m 20 -o "$dir/page.out" -w '%{http_code}' \
		"$http$1" 2>"$dir/curl.err") ||
		fail "GET $1: $(cat "$dir/curl.err")"
}

# value METRIC: of the last page.
value() {
	awk -v m="$1" '$1 == m { print $2; n++ } END { exit n != 1 }' \
		"$dir/page.out" || fail "not one $1 in: $(cat "$dir/page.out")"
}

# value_is METRIC VALUE: now.
value_is() {
	page /metrics
	[ "$(value "$1")" = "$2" ]
}

checked() {
	page /metrics
	[ "$status" = 200 ] || fail "/metrics: $status"
	promtool check metrics <"$dir/page.out" >"$dir/promtool.out" 2>&1 ||
		fail "promtool check metrics: $(cat "$dir/promtool.out")"
	[ ! -s "$dir/promtool.out" ] ||
		fail "promtool check metrics: $(cat "$dir/promtool.out")"
}

# --- an empty repository

make_repo "$dir/repo"
http_start
checked
[ "$(value backstay_backups)" = 0 ] || fail "an empty repository has backups"
page /healthz
[ "$status $(cat "$dir/page.out")" = "200 ok" ] ||
	fail "/healthz: $status $(cat "$dir/page.out")"
page /
[ "$status" = 404 ] || fail "/: $status"
status=$(curl -sS -m 20 -X POST -d x=1 -o "$dir/page.out" \
	-w '%{http_code}' "$http/metrics") || fail "POST"
[ "$status" = 405 ] || fail "POST: $status"
ok "pages of an empty repository: promtool has nothing to say"

# --- the numbers

enroll_agent kvm01
mkdisk "$dir/d0" 16 d0
backup kvm01 db/web1 --disk "vda=$dir/d0"
put_noise "$dir/d0" 0 65536 other
backup kvm01 db/web1 --disk "vda=$dir/d0"
backup kvm01 web2 --disk "vda=$dir/d0"
restore kvm01 web2@latest --disk "vda=$dir/r.raw"
expect_fail 1 "no backup" agent kvm01 restore nobody@latest \
	--disk "vda=$dir/r2.raw"
console verify -q web2@latest >"$dir/verify.out" 2>&1 ||
	fail "verify: $(cat "$dir/verify.out")"
checked
console status --json >"$dir/status.json" || fail "status"
for pair in backups:backups vms:vms logical_bytes:logical \
	unique_bytes:unique live_bytes:live stored_bytes:stored \
	packs:packs volume_size_bytes:total; do
	[ "$(value "backstay_${pair%:*}")" = \
		"$(json "$dir/status.json" "j['${pair#*:}']")" ] ||
		fail "$pair: $(value "backstay_${pair%:*}"), and status says" \
			"$(cat "$dir/status.json")"
done
[ "$(value 'backstay_vm_backups{vm="db/web1"}')" = 2 ] || fail "db/web1"
nbackups web2 >/dev/null
last=$(date -ud "$(json "$dir/list.json" 'j[-1]["time"]')" +%s)
[ "$(value 'backstay_vm_last_backup_timestamp_seconds{vm="web2"}')" = \
	"$last" ] || fail "web2 was backed up at $last"
[ "$(value 'backstay_vm_last_backup_size_bytes{vm="web2"}')" = \
	$((16 << 20)) ] || fail "size of web2"
wait_for 10 value_is 'backstay_jobs_running{kind="restore"}' 0 ||
	fail "the restore does not end"
ended=backstay_jobs_ended_total
[ "$(value "$ended{kind=\"backup\",outcome=\"done\"}")" = 3 ] ||
	fail "backups that ended"
[ "$(value "$ended{kind=\"restore\",outcome=\"done\"}")" = 1 ] ||
	fail "restores that ended"
[ "$(value "$ended{kind=\"verify\",outcome=\"done\"}")" = 1 ] ||
	fail "verifies that ended"
[ "$(value 'backstay_events_total{event="job-end"}')" = 5 ] ||
	fail "events of jobs"
[ "$(value backstay_received_bytes_total)" -gt $((8 << 20)) ] ||
	fail "bytes received: $(value backstay_received_bytes_total)"
[ "$(value backstay_sent_bytes_total)" -gt $((8 << 20)) ] ||
	fail "bytes sent: $(value backstay_sent_bytes_total)"
[ "$(value backstay_audit_lines_total)" = "$(wc -l <"$repo/audit.log")" ] ||
	fail "lines of the audit log"
ok "metrics are what the console shows"

# --- Prometheus itself, with what README shows

"$PYTHON" - "$top/README.md" "$dir" <<'EOF' || fail "README has no settings of Prometheus"
import re, sys
blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", open(sys.argv[1]).read(), re.S)
assert [b[0] for b in blocks] == ["prometheus.yml", "backstay.rules.yml"], blocks
for name, text in blocks:
    open(sys.argv[2] + "/" + name, "w").write(text)
EOF
promtool check config "$dir/prometheus.yml" >"$dir/promtool.out" 2>&1 ||
	fail "promtool check config: $(cat "$dir/promtool.out")"
promtool check rules "$dir/backstay.rules.yml" >"$dir/promtool.out" 2>&1 ||
	fail "promtool check rules: $(cat "$dir/promtool.out")"
cat >"$dir/rules.test.yml" <<'EOF'
rule_files: [backstay.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'backstay_vm_last_backup_timestamp_seconds{vm="web1"}'
        values: '0+0x3000'
      - series: 'backstay_vm_last_backup_timestamp_seconds{vm="web2"}'
        values: '0+60x3000'
      - series: 'up{job="backstay"}'
        values: '1x60 0x2000'
      - series: 'backstay_healthy'
        values: '1x60'
    alert_rule_test:
      - eval_time: 20h
        alertname: BackupOverdue
      - eval_time: 27h
        alertname: BackupOverdue
        exp_alerts:
          - exp_labels: {vm: web1}
            exp_annotations:
              summary: "web1 was backed up 1d 3h 0m 0s ago"
      - eval_time: 50m
        alertname: BackstayUnwell
      - eval_time: 2h
        alertname: BackstayUnwell
        exp_alerts:
          - exp_labels: {job: backstay}
            exp_annotations:
              summary: "backstayd is down or /healthz does not say ok"
EOF
promtool test rules "$dir/rules.test.yml" >"$dir/promtool.out" 2>&1 ||
	fail "promtool test rules: $(cat "$dir/promtool.out")"
ok "what README shows of Prometheus is sound, and its alerts fire"

sed -i -e 's/scrape_interval: .*/scrape_interval: 1s/' \
	-e "s/127.0.0.1:9722/${http#http://}/" "$dir/prometheus.yml"
prometheus --config.file="$dir/prometheus.yml" \
	--storage.tsdb.path="$dir/tsdb" --web.listen-address=127.0.0.1:0 \
	>"$dir/prometheus.log" 2>&1 &
prometheus_pid=$!
pids+=("$prometheus_pid")
listens() { grep -q 'msg="Listening on" address=' "$dir/prometheus.log"; }
wait_for 20 listens || fail "prometheus: $(cat "$dir/prometheus.log")"
server=http://$(grep -o 'msg="Listening on" address=[0-9.:]*' \
	"$dir/prometheus.log" | sed 's/.*=//')

# query EXPRESSION VALUE: what Prometheus has is that.
query_is() {
	curl -sS -m 20 --data-urlencode "query=$1" "$server/api/v1/query" \
		>"$dir/query.json" 2>"$dir/curl.err" || return 1
	"$PYTHON" - "$dir/query.json" "$2" <<'EOF'
import json, sys
r = json.load(open(sys.argv[1]))
r = r.get("data", {}).get("result", [])
sys.exit(not (len(r) == 1 and r[0]["value"][1] == sys.argv[2]))
EOF
}
wait_for 20 query_is 'up{job="backstay"}' 1 ||
	fail "not scraped: $(cat "$dir/query.json" "$dir/prometheus.log")"
wait_for 20 query_is 'backstay_vm_backups{vm="db/web1"}' 2 ||
	fail "$(cat "$dir/query.json")"
query_is 'backstay_vm_last_backup_timestamp_seconds{vm="web2"}' "$last" ||
	fail "$(cat "$dir/query.json")"
query_is 'sum(backstay_jobs_ended_total{outcome="done"})' 5 ||
	fail "$(cat "$dir/query.json")"
# One more backup, while it is scraped each second.
put_noise "$dir/d0" 0 4194304 third
backup kvm01 web2 --disk "vda=$dir/d0"
wait_for 20 query_is 'backstay_vm_backups{vm="web2"}' 2 ||
	fail "$(cat "$dir/query.json")"
ok "Prometheus scrapes it"

# --- damage

spoil_slice "$dir/d0" 0
console verify -q web2@latest >"$dir/verify.out" 2>&1
status=$?
[ $status = 3 ] || fail "verify of damage: $status: $(cat "$dir/verify.out")"
unwell() {
	page /healthz
	[ "$status" = 503 ] && grep -q '^damage: 1 ' "$dir/page.out"
}
wait_for 10 unwell || fail "/healthz: $status $(cat "$dir/page.out")"
checked
[ "$(value backstay_damaged_records) $(value backstay_healthy)" = "1 0" ] ||
	fail "damage does not show"
wait_for 20 query_is 'backstay_healthy' 0 || fail "$(cat "$dir/query.json")"
ok "damage shows at both pages and in Prometheus"

# --- settings

printf '[daemon]\nmetrics-vms = no\n' >"$repo/backstayd.conf"
kill -HUP "$daemon_pid"
without_vms() {
	page /metrics
	! grep -q '^backstay_vm_' "$dir/page.out"
}
wait_for 10 without_vms || fail "metrics-vms = no does nothing"
checked
kill "$prometheus_pid"
wait "$prometheus_pid" 2>/dev/null
forget "$prometheus_pid"
# While it serves, another cannot.
make_repo "$dir/other"
bounded "$BIN/backstayd" "$dir/other" --no-ssh --http "${http#http://}" \
	>"$dir/other.log" 2>&1
status=$?
[ $status = 1 ] || fail "a second daemon there: $status"
grep -q 'another program listens' "$dir/other.log" ||
	fail "a second daemon there: $status: $(cat "$dir/other.log")"
printf '[daemon]\nhttp = 9722\n' >"$dir/other/backstayd.conf"
expect_fail 1 'http takes ADDR:PORT' bounded "$BIN/backstayd" -t "$dir/other"
repo=$dir/repo
stop_daemon
start_daemon
grep -q 'http://' "$daemon_log" && fail "pages that nobody asked for"
stop_daemon
ok "pages are where the settings say, and nowhere without"

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Functions without bounds, without errors, or with a shell in them, in code
# that is not a test.  Comments and strings may speak of them.
set -u

cd "$(dirname "$0")/../.." || exit 1
banned='strcpy|stpcpy|strcat|strncat|sprintf|vsprintf|gets|strtok|atoi|atol'
banned="$banned|atoll|atof|alloca|system|popen|rand|srand|mktemp|tmpnam"

mapfile -t files < <(find proto repo agent -name '*.[ch]' | sort)
found=0
for f in "${files[@]}"; do
	# -fpreprocessed -dD -E takes the comments away and keeps the lines.
	if list=$(gcc -fpreprocessed -dD -E -P "$f" 2>/dev/null |
		sed 's/"[^"]*"/""/g' |
		grep -oE "(^|[^a-zA-Z0-9_.>])($banned) *\("); then
		echo "$f: ${list//$'\n'/ }"
		found=1
	fi
done
exit $found

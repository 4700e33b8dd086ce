#!/bin/sh
# The account tutorial, without a terminal: each command is printed, then run.
# Usage: examples/tutorial.sh DATABASE (created where it does not exist; ZODBSH names the program).
set -eu

database=${1:-mydata.fs}
zodbsh=${ZODBSH:-zodbsh}
here=$(dirname "$0")

show() {
    # Print the command as it would be typed, with quotes where they are needed.
    printf '\n$ zodbsh'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./=-]*) printf ' "%s"' "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$zodbsh" "$@"
}

if [ ! -e "$database" ]; then
    show init "$database"
    show run "$database" -p "$here" "$here/open_accounts.py" --commit --note "open two accounts"
fi
[ "${2:-}" = create ] && exit

show run "$database" -p "$here" -m account -c "root.accounts['account-1'].deposit(5)"
show status "$database"
show diff "$database"
show commit "$database" -m "deposit 5"
show inspect "$database"
show inspect "$database" "root.accounts['account-1']"
show log "$database"

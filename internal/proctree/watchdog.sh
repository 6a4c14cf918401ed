# Ends the process trees of a program that has died. The program holds the other
# end of our standard input and tells there, one line each:
#
#	+ PGID START    a tree began: its process group, its leader's start time
#	- PGID START    that group is empty
#	off             all trees have ended: go
#
# The end of the input without "off" means that the program is dead. $1 is the
# text in the environment of each process that belongs to it. Everything here
# must run under dash, bash and busybox sh.

trap '' HUP INT QUIT TERM PIPE
mark=$1
groups=

for tool in tail tr awk sleep date; do
	command -v $tool >/dev/null || { echo "no $tool in $PATH"; exit 1; }
done
echo ready
exec >/dev/null

while read -r op pgid start; do
	case $op in
	+) groups="$groups $pgid:$start" ;;
	-)
		rest=
		for g in $groups; do
			[ "$g" = "$pgid:$start" ] || rest="$rest $g"
		done
		groups=$rest
		;;
	off) exit 0 ;;
	esac
done

# marked prints the pids whose environment carries the mark. Where there is no
# /proc it prints nothing. tail, tr and awk go over all processes at once;
# grep would do on some systems, but busybox's sees nothing after a NUL byte.
marked() {
	cd /proc || return
	tail -v -n +1 [0-9]*/environ | tr '\0' '\n' | awk -v mark="$mark" '
		/^==> [0-9]+\/environ <==$/ { pid = $2 + 0; next }
		index($0, mark) == 1 { print pid }'
}

# ours fails when the number of group $1, whose leader started at $2, was given
# to another process since.
ours() {
	[ -r "/proc/$1/stat" ] || return 0
	read -r stat <"/proc/$1/stat" || return 0
	set -- "$2" ${stat##*) }
	[ "$1" = "${21}" ]
}

# signal sends $1 to group $2. dash wants the "--", busybox does not know it.
signal() { kill -s "$1" -- "-$2" || kill -s "$1" "-$2"; }

# strike sends $1 to all groups and all marked processes. It fails when there
# was no marked process.
strike() {
	for g in $groups; do
		ours "${g%:*}" "${g#*:}" && signal "$1" "${g%:*}"
	done
	found=1
	for pid in $(marked); do
		kill -s "$1" "$pid"
		found=0
	done
	return $found
}

pause() { sleep 0.1 || sleep 1; }

# SIGTERM, and a second or so for those who tidy up. The clock bounds it where
# a look takes long, the count where the clock is set back.
begin=$(date +%s)
strike TERM
n=0
while [ $n -lt 10 ] && [ $(($(date +%s) - begin)) -lt 2 ] && strike 0; do
	pause
	n=$((n + 1))
done

# SIGKILL until nothing was found twice in a row: a process that is just
# starting another program shows no environment for an instant.
n=0
clean=0
while [ $n -lt 50 ] && [ $clean -lt 2 ]; do
	if strike KILL; then
		clean=0
		pause
	else
		clean=$((clean + 1))
	fi
	n=$((n + 1))
done

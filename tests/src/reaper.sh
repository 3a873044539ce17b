# Runs beside a test process and outlives it: when that process is gone, whatever the reason, kills everything that it
# started and removes its folder. See reaper.rs.
#
#   bash -c "$(cat reaper.sh)" reaper VARIABLE
set -u
trap '' HUP INT TERM PIPE
root=$(mktemp -d "${TMPDIR:-/tmp}/konductor-tests-XXXXXXXX") || exit 1
printf '%s\n' "$root"
exec >&-
# Nothing is ever written to this pipe: the read ends when the last process that holds its other end is gone.
while read -r _; do :; done
# Again until three looks in a row find none, as a process may fork between being found and being killed, and has no
# environment for a moment while it becomes another program. Half a minute at least: what survives SIGKILL for so long
# hangs in the kernel.
for ((round = 0, quiet = 0; round < 1500 && quiet < 3; round++)); do
  # grep's exit status says nothing here: processes that end meanwhile make it 2.
  found=$(grep -lsF -- "$1=$root/" /proc/[0-9]*/environ)
  if [[ -n $found ]]; then quiet=0; else ((quiet++)); fi
  for file in $found; do
    pid=${file#/proc/}
    kill -KILL "${pid%/environ}"
  done
  sleep 0.02
done
rm -rf -- "$root"

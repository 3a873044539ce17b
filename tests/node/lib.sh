# What up, down and load share; sourced by them.
#
# A node is one tree of processes in namespaces of its own (PIDs, mounts, network), all of them in cgroups named below.
# So there is one way to end it, whatever state it is in: kill what is in those cgroups. The kernel then drops the
# mounts, the bridge and the pods' networks with the namespaces. What is left to remove by hand is the cgroups, the
# folder and the empty mount points.

# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# With sudo, the node is the caller's: their folder, their cache of programs, and a kubeconfig that they can read.
as_caller=()
if [[ $(id -u) == 0 && -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
  HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
  export HOME
  PATH=$HOME/.cargo/bin:$PATH # sudo drops it, and rustup puts cargo there
  as_caller=(runuser -u "$SUDO_USER" --)
fi
state=$(realpath -m "${KONDUCTOR_NODE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/konductor-node}")
kubeconfig=$state/kubeconfig

# Names that are the machine's, not the folder's: hence one node per machine.
cgroup=konductor-node
link=konductor0

# The link between the machine and the node, and the pods behind it. The node's end is also the API server's address.
host_address=10.213.0.1
node_address=10.213.0.2
pod_subnet=10.213.1.0/24

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() {
  [[ $(id -u) == 0 ]] || die "a node needs root (cgroups, namespaces, mounts): run it with sudo."
}

# Two calls at once would take each other's node down: the second waits. The lock is on a folder, to leave no file
# behind.
one_at_a_time() {
  exec 9</sys/fs/cgroup
  flock --wait 600 9 || die "another up or down has been running for ten minutes; look for it with: ps -ef | grep tests/node"
}

# Waits until a command succeeds: eventually SECONDS COMMAND...
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Every cgroup hierarchy of the machine: one with cgroup v2, one per controller with v1.
hierarchies() {
  findmnt --noheadings --list --types cgroup,cgroup2 --output TARGET
}

# The processes of the node: its daemons and everything in its pods.
node_pids() {
  local hierarchy
  while read -r hierarchy; do
    if [[ -d $hierarchy/$cgroup ]]; then
      find "$hierarchy/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null || true # a cgroup may vanish meanwhile
    fi
  done < <(hierarchies) | sort -nu
}

# The folder of the node that runs, if one does: its daemons carry it in their environment.
running_state() {
  local pid
  for pid in $(node_pids); do
    # A process may end meanwhile.
    { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | sed -n 's/^KONDUCTOR_NODE_STATE=//p' || true
  done | sort -u | head -n 1
}

kill_node() {
  local pids
  pids=$(node_pids)
  [[ -n $pids ]] || return 0
  # shellcheck disable=SC2086 # one argument per process
  kill -KILL $pids 2>/dev/null || true # some end by themselves meanwhile
  return 1
}

remove_cgroups() {
  local hierarchy left=0
  while read -r hierarchy; do
    if [[ -d $hierarchy/$cgroup ]]; then
      find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ ! -d $hierarchy/$cgroup ]] || left=1
    fi
  done < <(hierarchies)
  return $left
}

# Removes a node in whatever state it is, also one of which only parts are left; nothing to remove is fine.
remove_node() {
  local owner mount_point
  owner=$(running_state)
  [[ -z $owner || $owner == "$state" ]] ||
    die "the node that runs here keeps its state in $owner; take it down with: KONDUCTOR_NODE_DIR=$owner $here/down"
  eventually 60 kill_node || die "these processes of the node do not end: $(node_pids | tr '\n' ' ')"
  eventually 60 remove_cgroups || die "the kernel does not let go of the node's cgroups ($cgroup under /sys/fs/cgroup)"
  if ip link show "$link" &>/dev/null; then
    # It may go by itself, with the node's network, at this moment.
    ip link delete "$link" 2>/dev/null || ! ip link show "$link" &>/dev/null || die "cannot remove the link $link"
  fi
  [[ -e $state ]] || return 0
  if [[ -z $(ls -A "$state") ]]; then
    rmdir "$state"
    return 0
  fi
  # A folder is deleted only if up made it: KONDUCTOR_NODE_DIR may be a slip of the fingers.
  [[ -e $state/.konductor-node ]] || die "$state is not empty and was not made by up; name another folder in KONDUCTOR_NODE_DIR"
  if [[ -e $state/mount-points ]]; then
    tac "$state/mount-points" | while read -r mount_point; do
      rmdir --ignore-fail-on-non-empty "$mount_point"
    done
  fi
  rm -rf --one-file-system "$state"
}

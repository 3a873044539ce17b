# What the steps of a release share; sourced by them. Each writes into the folder that is its first argument:
#
#   binaries/linux-ARCH/   the programs, static
#   files/                 what the page of the release offers: archives, resources, krew manifest, SBOMs, checksums
#   images/NAME/           OCI layouts, each an index of all architectures
#   chart/                 the chart as a classic repository, and in oci/ as an OCI layout
#   book/                  the book, as a site

# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=(konductor-run koncli konductor-operator)

die() {
  printf 'release/%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need() { # program, Debian package...
  command -v "$1" >/dev/null || die "needs $1: apt-get install ${*:2}"
}

# A value of the workspace's package: version, repository.
workspace() {
  sed -n "/^\[workspace.package\]/,/^\[/ s/^$1 = \"\(.*\)\"/\1/p" "$root/Cargo.toml"
}

[[ ${1:-} && ${1:-} != -* ]] || die "wanted the folder to write into as the first argument, found '${1:-}'"
out=$(realpath -m "$1")
version=$(workspace version)
download=$(workspace repository)/releases/download/v$version

# Architectures have three names: of Debian, images and Kubernetes; of the kernel; and as a target of Rust.
machine_of() { # architecture
  case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) die "unknown architecture '$1' (known: amd64, arm64)" ;;
  esac
}

# The C compiler for an architecture: it links, and compiles ring's assembler.
compiler_of() { # architecture
  local machine
  machine=$(machine_of "$1")
  if [[ $machine == "$(uname -m)" ]]; then echo cc; else echo "$machine-linux-gnu-gcc"; fi
}

# The architectures that there are binaries of.
architectures() {
  local folder
  for folder in "$out"/binaries/linux-*; do
    [[ -d $folder ]] || die "no binaries in $out yet: release/binaries $out"
    echo "${folder##*/linux-}"
  done
}

# The versions in an index of charts: of what is in the lists below `entries`, not of what such a chart depends on.
versions() { # index
  sed -n 's/^    version: "\?\([^"]*\)"\?$/\1/p' "$1" | sort
}

# The versions of one index that another one lacks.
lost() { # previous index, new index
  comm -23 <(versions "$1") <(versions "$2")
}

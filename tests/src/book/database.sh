# A PostgreSQL with nothing in it, as the user ann, on a socket in this folder. It refuses to run as root, and whoever is
# root here may be somebody else there.
set -eu
if [ "$(id -u)" = 0 ]; then exec unshare --user --map-user=1000 --map-group=1000 bash "$0"; fi
# Its words and its order of letters are no machine's own.
export LC_ALL=C.UTF-8
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1)
if ! [ -x "$bin/initdb" ]; then
  echo "The pages' SQL is run by PostgreSQL: apt-get install postgresql" >&2
  exit 1
fi
"$bin/initdb" --no-sync --auth trust --encoding UTF8 --username ann --pgdata data >/dev/null
exec "$bin/postgres" -D data -c listen_addresses= -c "unix_socket_directories=$PWD" -c fsync=off

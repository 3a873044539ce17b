# A PostgreSQL with nothing in it, as the user ann, with its files in this folder, on the abstract socket that is the
# argument: a path may be longer than a socket's can be.
set -eu
# It refuses to run as root, who becomes nobody for it, and may still get to this folder. (To make a user namespace instead
# is not allowed in every container.)
if [ "$(id -u)" = 0 ]; then
  chown nobody .
  exec setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups \
    --inh-caps +dac_override --ambient-caps +dac_override bash "$0" "$@"
fi
# Its words and its order of letters are no machine's own.
export LC_ALL=C.UTF-8
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1)
if ! [ -x "$bin/initdb" ]; then
  echo "The pages' SQL is run by PostgreSQL: apt-get install postgresql" >&2
  exit 1
fi
"$bin/initdb" --no-sync --auth trust --encoding UTF8 --username ann --pgdata data >/dev/null
exec "$bin/postgres" -D data -c listen_addresses= -c "unix_socket_directories=$1" -c fsync=off

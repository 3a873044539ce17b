# Read by bash before each block of a page (BASH_ENV): goes on where the block before has left off, and keeps for the
# next one what a terminal would: variables, functions, the folder.
unset BASH_ENV
exec 2>&1
book_begun=" $(compgen -v | tr '\n' ' ') "
book_state=$BOOK_STATE
unset BOOK_STATE
if [[ -e $book_state ]]; then . "$book_state"; fi
book_keep() {
  set +eu
  local book_name book_names=()
  for book_name in $(compgen -v); do
    case $book_name in
      BASH* | SHELLOPTS | SHLVL | PWD | OLDPWD | PIPESTATUS | FUNCNAME | HARNESS_PROCESS | book_* | _) continue ;;
    esac
    # What bash brings along stays as it is, unless others are to see it.
    if [[ $book_begun != *" $book_name "* || $(declare -p "$book_name" 2>/dev/null) == "declare -x"* ]]; then
      book_names+=("$book_name")
    fi
  done
  {
    declare -p "${book_names[@]}"
    unset -f book_keep
    declare -f
    printf 'cd %q\n' "$PWD"
  } >"$book_state" 2>/dev/null
}
trap book_keep EXIT

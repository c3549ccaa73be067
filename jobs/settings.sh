# shellcheck shell=bash
# Settings are declared in the script (SETTINGS), in lib.sh and in the site file, one a line, with what they are: NAME!
# must be given, NAME=DEFAULT need not, NAME may stay empty; what is given as empty (STAGE=) is empty, whatever the
# default. `hpcauxvae submit` reads the same lines.
settings() {
    local word meaning name
    while read -r word meaning; do
        name=${word%%[=!]*}
        [ -z "$name" ] || [ -n "${!name:-}" ] || case $word in
        *!) echo "error: $name is not set: $meaning" >&2 && exit 2 ;;
        *=*) [ -v "$name" ] || printf -v "$name" %s "${word#*=}" ;;
        *) printf -v "$name" %s '' ;;
        esac
    done <<<"$1"
}

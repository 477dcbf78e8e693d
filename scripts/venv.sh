#!/bin/sh
# Brings .venv to what requirements-dev.lock says; a few milliseconds when it is there already.
#
#   scripts/venv.sh           make or repair .venv
#   scripts/venv.sh --check   only say whether that could start (exit 2 and a hint if not)
#
# PYTHON names the interpreter. Without it a .venv that works is kept, and a new one is made with
# the first of python3.13, 3.12, 3.11 and python3 that is at least 3.11.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*"; }
refuse() { printf '%s\n' "$*" >&2; exit 2; }

# A name on the PATH is not enough: version managers leave stubs there that only print an error.
suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
runs() { "$@" >/dev/null 2>&1; }
identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || refuse "PYTHON=$PYTHON is not a working Python 3.11 or newer."
        python=$PYTHON
        return
    fi
    for python in python3.13 python3.12 python3.11 python3; do
        ! suits "$python" || return 0
    done
    refuse "No Python 3.11 or newer was found. Install one, or name one: make PYTHON=/path/to/python3"
}

# Debian and its kin ship Python without ensurepip, and then venv cannot make an environment.
find_maker() {
    if runs "$python" -c 'import venv, ensurepip; ensurepip.version()'; then
        maker=venv
    elif runs uv --version; then
        maker=uv
    elif runs virtualenv --version; then
        maker=virtualenv
    else
        hint
    fi
}

hint() {
    become=
    [ "$(id -u)" = 0 ] || become="sudo "
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    package=python$version-venv
    [ "$(identity /usr/bin/python3)" != "$(identity "$python")" ] || package=python3-venv
    if runs command -v apt-get; then
        refuse "Python's venv module is missing. Install it with: ${become}apt install $package"
    fi
    refuse "Python's venv module is missing. Install it, or uv, or virtualenv, with your package manager."
}

# The place is part of it: an editable install and its scripts hold absolute paths.
stamp_now() {
    pwd -P
    # Of pyproject.toml, what an installation depends on; not the settings of the linters.
    { cat requirements.lock requirements-dev.lock; sed '/^\[tool\.ruff/,$d' pyproject.toml; } |
        { sha256sum 2>/dev/null || shasum -a 256; } | cut -d ' ' -f 1
}

usable() {
    [ ! -e "$unfinished" ] || return 1
    suits "$venv/bin/python" || return 1
    if [ -e "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$(pwd -P)" ]; then return 1; fi
    [ -z "${PYTHON:-}" ] || [ "$(identity "$venv/bin/python")" = "$(identity "$PYTHON")" ]
}

make_venv() {
    find_python
    find_maker
    if [ -e "$venv" ] || [ -L "$venv" ]; then
        rm -rf "$venv" 2>/dev/null || refuse "$venv cannot be removed; was it made by another user?"
    fi
    mkdir "$venv" 2>/dev/null || refuse "$(pwd -P) cannot be written to; use a checkout of your own."
    : >"$unfinished"
    say "Making .venv with $("$python" --version)"
    case $maker in
        venv) "$python" -m venv "$venv" ;;
        uv) uv venv --quiet --allow-existing --python "$(command -v "$python")" "$venv" ;;
        virtualenv) virtualenv --quiet --python "$(command -v "$python")" "$venv" ;;
    esac
}

install() {
    if runs "$venv/bin/python" -m pip --version; then
        "$venv/bin/python" -m pip install -qq --no-input --disable-pip-version-check "$@"
    else  # made by uv, which puts no pip into it
        uv=uv
        runs uv --version || uv=$venv/bin/uv
        "$uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" "$@"
    fi
}

venv=.venv
stamp=$venv/.installed
unfinished=$venv/.unfinished  # there from the first step of an installation to its last

if [ "${1:-}" = --check ]; then
    usable || { find_python && find_maker; }
    exit 0
fi

# `make run` and `make test` may start at once: the second waits for the first's installation.
if runs command -v flock; then
    exec 9<scripts/venv.sh
    flock 9
fi

usable || make_venv
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(stamp_now)" ]; then exit 0; fi

say "Installing what requirements-dev.lock names into .venv (about a minute the first time)"
trap 'exit 130' INT TERM
rm -f "$stamp"
: >"$unfinished" || refuse "$venv cannot be written to; was it made by another user?"
install --require-hashes -r requirements-dev.lock
install --no-build-isolation --no-deps -e .
# An editable installation is not compiled, and the first command would pay for it.
"$venv/bin/python" -m compileall -q migrations models sandbox worker
stamp_now >"$stamp"
rm -f "$unfinished"

#!/usr/bin/env bash
# Make the Python environment, once.
#
#   scripts/setup.sh                  install what is missing; prints the environment's python
#   scripts/setup.sh --print-python   only print where that python is, or will be
#
# Progress goes to standard error; standard output is the path alone, so that another script can
# say python="$(scripts/setup.sh)". A finished environment is not installed again; one that was
# interrupted is made anew.
#
# Where the environment lies:
#   default             .venv in the repository, with the project installed editable
#   R1OMNI_VENV         that folder instead, otherwise the same
#   R1OMNI_VENV_ROOT    a folder under it, named by the sha256 of pyproject.toml, constraints.txt
#                       and the version of Python, holding dependencies only. Several checkouts
#                       may share it, and an automatic build can keep it from run to run. Run the
#                       code of a checkout with PYTHONPATH=src, as the scripts here do.
#
# PYTHON names the interpreter to use (3.11 to 3.13); default: the first on PATH that runs.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

# An interpreter may be on PATH and still not run (pyenv's shims), or come without venv.
usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
        >/dev/null 2>&1
}

find_python() {
    local venv="$1" name candidate
    if [[ -n "${PYTHON:-}" ]]; then
        usable "$PYTHON" ||
            fail "PYTHON=$PYTHON does not run as a Python 3.11 to 3.13 with venv and ensurepip"
        command -v "$PYTHON"
        return
    fi
    if [[ "$(stamp_of "$venv")" != unfinished ]] && usable "$venv/bin/python"; then
        printf '%s\n' "$venv/bin/python"  # an environment that is there keeps its Python
        return
    fi
    for name in python3.11 python3.12 python3.13 python3 python; do
        while IFS= read -r candidate; do
            if usable "$candidate"; then
                printf '%s\n' "$candidate"
                return
            fi
        done < <(type -aP "$name" || true)
    done
    fail "no Python 3.11 to 3.13 with venv found on PATH; install one (on Debian and Ubuntu" \
        "also its python3.x-venv package), or name it: PYTHON=/path/to/python scripts/setup.sh"
}

version_of() { "$1" -c 'import sys; print(sys.version)' 2>/dev/null || true; }

# The key of a finished environment, "unfinished", or nothing.
stamp_of() { cat "$1/r1omni-environment" 2>/dev/null || true; }

# What an environment depends on, in one word.
environment_key() {
    "$1" - "$root/pyproject.toml" "$root/constraints.txt" <<'PYTHON'
import hashlib
import sys

key = hashlib.sha256(sys.version.encode())
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        key.update(hashlib.sha256(file.read()).digest())
print(key.hexdigest())
PYTHON
}

# Dependencies as pyproject.toml lists them, those for development and all extras that these name
# included, without the project itself.
requirements() {
    "$1" - "$root/pyproject.toml" <<'PYTHON'
import re
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]


def entries(extra):
    for entry in project["optional-dependencies"][extra]:
        own = re.fullmatch(project["name"] + r"\[(.+)\]", entry)
        if own is None:
            yield entry
        else:
            for name in own[1].split(","):
                yield from entries(name.strip())


print(*project["dependencies"], *entries("dev"), sep="\n")
PYTHON
}

install() {
    local base="$1" venv="$2" key="$3" shared="$4" clear=()
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check)
    if [[ "$(stamp_of "$venv")" == unfinished ]]; then
        say "an earlier installation was interrupted; starting anew"
        clear=(--clear)
    elif [[ -e "$venv/bin/python" || -L "$venv/bin/python" ]] &&
        [[ "$(version_of "$venv/bin/python")" != "$(version_of "$base")" ]]; then
        say "the environment has another Python; starting anew"
        clear=(--clear)
    fi
    say "making $venv with $("$base" --version)"
    if [[ -e "$venv/bin/python" && ${#clear[@]} -eq 0 ]]; then
        rm -f "$venv/r1omni-environment"  # it was whole before: bring it up to date in place
        "$base" -m venv "$venv" >&2
    else
        "$base" -m venv ${clear[@]+"${clear[@]}"} "$venv" >&2
        echo unfinished >"$venv/r1omni-environment"
    fi
    say "installing dependencies (several GB, some minutes)"
    requirements "$base" >"$venv/requirements.txt"
    # Bytecode is written by all cores; pip would use one. What does not compile is not imported.
    "${pip[@]}" install --no-compile --progress-bar off -c "$root/constraints.txt" \
        -r "$venv/requirements.txt" >&2 || fail "pip failed; its last lines above say why"
    "$venv/bin/python" -m compileall -q -j 0 "$venv/lib" >&2 ||
        say "some packages have files that do not compile, see above; they are used without"
    if [[ "$shared" == no ]]; then
        say "installing r1omni itself, editable"
        "${pip[@]}" install --quiet --no-deps -e "$root" >&2
    fi
    printf '%s\n' "$key" >"$venv/r1omni-environment"
    say "done"
}

finished() {
    local venv="$1" key="$2"
    [[ "$(stamp_of "$venv")" == "$key" ]] && "$venv/bin/python" -c '' 2>/dev/null
}

main() {
    local print_only=no base key venv shared=no
    case "${1:-}" in
        '') ;;
        --print-python) print_only=yes ;;
        -h | --help)
            sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"
            return
            ;;
        *) fail "unknown option $1; see scripts/setup.sh --help" ;;
    esac

    if [[ -n "${R1OMNI_VENV:-}" ]]; then
        venv="$R1OMNI_VENV"
    elif [[ -n "${R1OMNI_VENV_ROOT:-}" ]]; then
        venv="$R1OMNI_VENV_ROOT"
        shared=yes
    else
        venv="$root/.venv"
    fi
    [[ "$venv" == /* ]] || venv="$PWD/$venv"
    base="$(find_python "$venv")"
    key="$(environment_key "$base")"
    [[ "$shared" == no ]] || venv="$venv/$key"

    if [[ "$print_only" == no ]] && ! finished "$venv" "$key"; then
        mkdir -p "$(dirname "$venv")"
        if command -v flock >/dev/null; then
            exec 9>"$venv.lock"  # two scripts started at once: the second waits for the first
            flock 9
        fi
        finished "$venv" "$key" || install "$base" "$venv" "$key" "$shared"
    fi
    printf '%s\n' "$venv/bin/python"
}

main "$@"

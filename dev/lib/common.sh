# Shared by up, down, demo and test: where things are, messages, the lock, and which processes are ours.
# shellcheck shell=bash

set -euo pipefail
unset CDPATH

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf 'dev: %s\n' "$*" >&2; }

# The environment is not fit: one line with the remedy, nothing was started.
refuse() {
    printf 'dev: error: %s\n' "$*" >&2
    exit 2
}

# Something broke on the way.
fail() {
    printf 'dev: error: %s\n' "$*" >&2
    exit 1
}

# ---- where things are ------------------------------------------------------------------------------------------------

# Sets the paths of the dev home. Everything that the stack writes to a disk is in there.
locate_home() {
    home=${SKIFF_DEV_HOME:-${HOME:?is not set: set SKIFF_DEV_HOME}/.cache/skiff-dev}
    [[ $home == /* ]] || home=$PWD/$home
    home=$(realpath -m -- "$home")
    # A Unix socket's path ends at 107 bytes, and the longest that containerd and the engine add is about 45.
    ((${#home} <= 60)) || refuse "SKIFF_DEV_HOME is too long for Unix sockets (${#home} of 60 bytes): choose a shorter path than $home"
    [[ $home =~ ^/[A-Za-z0-9._@/+-]+$ ]] || refuse "SKIFF_DEV_HOME may hold letters, digits and ._@/+- only: $home"

    id=$(printf '%s' "$home" | sha256sum | cut -c1-8)
    bridge=skiff$id                # network device and firewall rules; 15 bytes at most
    cgroup=skiff-dev-$id
    packages=$home/packages        # .deb files
    stack=$home/stack              # ... unpacked
    run=$home/run                  # pid files and sockets
    logs=$home/logs
    socket=$run/docker.sock
    aws=$home/aws                  # moto
    libdir=$(compgen -G "$stack/usr/lib/*-linux-gnu*") || libdir='' # of the machine's architecture
}

# ---- preconditions ---------------------------------------------------------------------------------------------------

require_root() {
    ((EUID == 0)) || refuse "a Docker Engine needs root: run it with sudo, or as root"
    unshare --mount true 2>/dev/null || refuse "root may not mount here (a container without privileges?): use a privileged one, or a VM"
}

require_debian() {
    local ID='' VERSION_ID='' VERSION_CODENAME=''
    # shellcheck source=/dev/null
    [[ -r /etc/os-release ]] && . /etc/os-release
    if [[ $ID != debian ]]; then
        refuse "this machine is no Debian (${ID:-unknown}): the stack is made of Debian's packages; use Debian 12 or later, or a container or VM of it"
    fi
    [[ -z $VERSION_ID || ${VERSION_ID%%.*} -ge 12 ]] || refuse "Debian $VERSION_ID is too old: the stack needs Debian 12 or later"
    codename=${VERSION_CODENAME:-bookworm}
}

# require_tools COMMAND:PACKAGE...
require_tools() {
    local tool missing=()
    for tool in "$@"; do
        command -v "${tool%%:*}" >/dev/null || [[ " ${missing[*]} " == *" ${tool##*:} "* ]] || missing+=("${tool##*:}")
    done
    ((${#missing[@]} == 0)) || refuse "missing tools: run \`apt-get install ${missing[*]}\`"
}

# require_space GIGABYTES
require_space() {
    local dir=$home free
    while [[ ! -d $dir ]]; do dir=$(dirname "$dir"); done
    free=$(df --output=avail -BM -- "$dir" | tail -n 1 | tr -dc 0-9)
    ((free >= $1 * 1024)) || refuse "$home needs $1 GB of disk, $((free / 1024)).$((free % 1024 * 10 / 1024)) GB are free: make room, or set SKIFF_DEV_HOME to a larger disk"
}

# ---- the dev home and its lock ---------------------------------------------------------------------------------------

# Makes the home, and refuses a folder that holds something else: `down --purge` deletes it.
make_home() {
    if [[ ! -e $home/.skiff-dev-home ]]; then
        if [[ -e $home && ! -d $home ]] || compgen -G "$home/*" >/dev/null; then
            refuse "$home exists and is no skiff dev home: choose an empty or a new folder as SKIFF_DEV_HOME"
        fi
        mkdir -p -- "$home" 2>/dev/null || refuse "cannot make $home: set SKIFF_DEV_HOME to a folder that can be written"
        : 2>/dev/null >"$home/.skiff-dev-home" || refuse "cannot write to $home: set SKIFF_DEV_HOME to a folder that can be written"
    fi
}

# One up or down at a time per home (descriptor 9). A purge deletes the lock file, so look whether it is still the one.
lock_home() {
    while :; do
        make_home
        exec 9>>"$home/lock"
        if ! flock -n 9; then
            say "waiting for another dev/up or dev/down in $home"
            flock 9
        fi
        [[ /dev/fd/9 -ef $home/lock ]] && return
    done
}

# ---- our processes ---------------------------------------------------------------------------------------------------
# A pid file holds "PID STARTTIME", so that a number that was given to another process since is never taken for ours.

# Prints the start time of a running process, in ticks since boot; fails if there is none or it is dead already.
start_time() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

# Prints the pid of our daemon NAME if it runs.
daemon_pid() {
    local pid started
    read -r pid started 2>/dev/null <"$run/$1.pid" || return 1
    [[ $(start_time "$pid") == "$started" ]] || return 1
    grep -qzF -- "$home" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# stop_daemon NAME SECONDS: asks, waits, kills.
stop_daemon() {
    local pid tick
    if pid=$(daemon_pid "$1"); then
        kill -TERM "$pid" 2>/dev/null || true
        for ((tick = 0; tick < $2 * 20; tick++)); do
            daemon_pid "$1" >/dev/null || break
            sleep 0.05
        done
        if daemon_pid "$1" >/dev/null; then
            say "$1 does not stop: killing it"
            kill -KILL "$pid" 2>/dev/null || true
            while daemon_pid "$1" >/dev/null; do sleep 0.05; done
        fi
    fi
    rm -f -- "$run/$1.pid"
}

# show_log NAME: why a daemon did not start.
show_log() {
    printf 'dev: last lines of %s:\n' "$logs/$1.log" >&2
    tail -n 15 -- "$logs/$1.log" | sed 's/^/    /' >&2 || true
}

# ---- questions to the running stack ----------------------------------------------------------------------------------

local_curl() { curl -q --silent --fail --noproxy '*' --max-time 5 "$@"; }

# port_of registry|aws
port_of() { cat -- "$home/$1.port" 2>/dev/null; }

registry_port() { port_of registry; }

registry_up() {
    local port
    port=$(registry_port) && daemon_pid registry >/dev/null && local_curl -o /dev/null "http://127.0.0.1:$port/v2/"
}

engine_up() {
    daemon_pid engine >/dev/null && local_curl -o /dev/null --unix-socket "$socket" http://engine/_ping
}

aws_up() {
    local port
    port=$(port_of aws) && daemon_pid aws >/dev/null && local_curl -o /dev/null "http://127.0.0.1:$port/moto-api/"
}

stack_up() { registry_up && aws_up && engine_up; }

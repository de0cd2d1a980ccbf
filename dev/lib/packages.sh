# Debian's packages for the stack, beside the system's: own apt state, own folder, nothing is installed.
# The mirror is the one in the machine's own apt sources; only the suite is changed. Debian's keyring verifies it.
# shellcheck shell=bash

# The engine is the one of CodeBuild standard:7.0 (28.5). It is in the unstable suite, and needs a libc that Debian 12
# has; when that has moved on, the next older suite will do (26.1).
engine_suites=(unstable trixie)
engine_packages=(docker.io docker-cli docker-buildx containerd)
declare -A init_package=([unstable]=tini-static [trixie]=tini)
machine_packages=(
    runc libseccomp2
    iptables libip4tc2 libip6tc2 libxtables12 libmnl0 libnetfilter-conntrack3 libnfnetlink0 libnftnl11
    docker-registry busybox-static mmdebstrap
)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# apt with a state of its own and the machine's settings (proxies and such), but without its hooks, pins and sources.
own_apt() {
    local tool=$1
    shift
    APT_CONFIG=$home/apt/apt.conf "$tool" \
        -o Dir::Etc::main=/dev/null -o Dir::Etc::parts=/dev/null \
        -o Dir::Etc::sourcelist="$home/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
        -o Dir::State="$home/apt/state" -o Dir::State::status="$home/apt/status" -o Dir::Cache="$home/apt/cache" \
        -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=false \
        "$@"
}

# Lists "URI SUITE" of the machine's own sources, those of its release first.
machine_sources() {
    # shellcheck disable=SC2016
    apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && !seen[$1, $2]++ { print $1, $2 }'
}

# update_apt SUITE...: fetches the package lists of these suites from the machine's mirror, and says so when it cannot.
# Others than Debian use its suite names as well; their signature tells them apart.
update_apt() {
    local uri
    mkdir -p "$home/apt/state/lists/partial" "$home/apt/cache/archives/partial"
    : >"$home/apt/status"
    apt-config dump | grep -vE '^((Dir|DPkg|APT::Update)[: ]|Acquire::IndexTargets::deb::(DEP-11|CNF|Contents))' >"$home/apt/apt.conf"
    for uri in $(machine_sources | awk -v suite="$codename" '$2 == suite || $2 == "stable" { print $1 }'); do
        printf "deb [signed-by=$keyring] $uri %s main\n" "$@" >"$home/apt/sources.list"
        if own_apt apt-get -q -o APT::Update::Error-Mode=any update >"$logs/apt.log" 2>&1; then
            echo "$uri" >"$home/apt/mirror"
            return
        fi
    done
    return 1
}

# download_packages SUITE PACKAGE...
download_packages() {
    local suite=$1
    shift
    (cd "$packages" && own_apt apt-get -q download "${@/%//$suite}") >>"$logs/apt.log" 2>&1
}

# The binaries run here: a package of a newer suite may want a newer libc.
engine_runs() {
    "$stack/usr/sbin/dockerd" --version && "$stack/usr/bin/containerd" --version && "$stack/usr/bin/docker" --version
} >>"$logs/apt.log" 2>&1

# Downloads and unpacks the engine from SUITE and all else from the machine's release.
unpack_stack() {
    local deb
    update_apt "$codename" "$1" && download_packages "$codename" "${machine_packages[@]}" &&
        download_packages "$1" "${engine_packages[@]}" "${init_package[$1]}" || return 1
    mkdir "$stack.new"
    for deb in "$packages"/*.deb; do dpkg -x "$deb" "$stack.new"; done
    mv "$stack.new" "$stack"
    engine_runs
}

# Puts the stack's programs into $stack, once. The .deb files stay, so that a changed list downloads only what is new.
install_packages() {
    local wanted suite
    wanted="$codename ${engine_suites[*]} ${engine_packages[*]} ${machine_packages[*]}"
    [[ -e $stack && $(cat "$stack.is" 2>/dev/null) == "$wanted" ]] && return
    [[ -r $keyring ]] || refuse "Debian's keyring is missing: run \`apt-get install debian-archive-keyring\`"
    stop_stack
    for suite in "${engine_suites[@]}"; do
        say "installing the engine from Debian's $suite suite into $stack"
        rm -rf -- "$stack" "$stack.new" "$stack.is"
        mkdir -p "$packages"
        if unpack_stack "$suite"; then
            printf '%s\n' "$wanted" >"$stack.is"
            locate_home
            return
        fi
        say "the $suite suite's engine is not to be had or does not run here ($logs/apt.log)"
        rm -f -- "$packages"/*.deb
    done
    show_log apt
    fail "no Docker Engine could be installed: check the machine's apt sources and network, then run dev/up again"
}

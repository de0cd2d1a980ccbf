# The engine, its network, and the registry: start, stop (AWS's APIs too), and clear what an unclean end left behind.
# shellcheck shell=bash

# detach NAME COMMAND...: starts a daemon in a session of its own; nothing of ours (terminal, pipes, locks) stays open in
# it. It gets a clean environment: variables of a user's Docker or of systemd are not for it.
detach() {
    local name=$1 keep=() variable
    shift
    for variable in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY SSL_CERT_FILE SSL_CERT_DIR; do
        [[ -z ${!variable:-} ]] || keep+=("$variable=${!variable}")
    done
    # A log that has grown starts anew.
    [[ $(stat -c %s "$logs/$name.log" 2>/dev/null || echo 0) -lt 20000000 ]] || rm -f -- "$logs/$name.log"
    # `container` is what AppArmor's users look at: this engine must not replace the profiles of the machine's own.
    env -i "${keep[@]}" PATH="$stack/usr/sbin:$stack/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin" LD_LIBRARY_PATH="$libdir" \
        HOME="$home" LANG=C.UTF-8 container=skiff-dev \
        setsid "$@" </dev/null >>"$logs/$name.log" 2>&1 8>&- 9>&- &
    disown
}

# ---- registry --------------------------------------------------------------------------------------------------------

# `localhost` may be either of these, so nobody else must be on them.
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && ! (exec 3<>"/dev/tcp/::1/$1") 2>/dev/null; }

# ports_to_try NAME USUAL: the port of the last start, else the usual one, else any free one.
ports_to_try() {
    local n
    port_of "$1" || true
    echo "$2"
    for ((n = 0; n < 20; n++)); do echo $((20000 + RANDOM % 10000)); done
}

start_registry() {
    local port pid tick
    registry_up && return
    stop_daemon registry 5
    for port in $(ports_to_try registry 5000); do
        port_is_free "$port" || continue
        cat >"$run/registry.yml" <<-EOF
			version: 0.1
			log: { level: error, formatter: text }
			storage:
			  filesystem: { rootdirectory: $home/registry }
			  delete: { enabled: true }
			  maintenance: { uploadpurging: { enabled: false } }
			http: { addr: "127.0.0.1:$port" }
		EOF
        detach registry docker-registry serve "$run/registry.yml"
        pid=$!
        echo "$pid $(start_time "$pid")" >"$run/registry.pid" # execs keep both
        for ((tick = 0; tick < 100; tick++)); do
            # An answer counts only if ours lives: somebody else may have taken the port meanwhile.
            if local_curl -o /dev/null "http://127.0.0.1:$port/v2/" && daemon_pid registry >/dev/null; then
                printf '%s\n' "$port" >"$home/registry.port"
                return
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        stop_daemon registry 5
    done
    show_log registry
    fail "the registry does not start"
}

# ---- network ---------------------------------------------------------------------------------------------------------
# The engine has a bridge of its own and manages no firewall: two engines that do would rewrite each other's rules. The
# three rules that its containers need are put here, each with our bridge's name in it.

firewall() {
    local command
    command=$(PATH=$PATH:/usr/sbin:/sbin command -v iptables) || command=
    if [[ -n $command ]]; then
        "$command" -w "$@"
    else
        LD_LIBRARY_PATH=$libdir XTABLES_LIBDIR=$libdir/xtables "$stack/usr/sbin/xtables-nft-multi" iptables -w "$@"
    fi
}

# A subnet that nothing on this machine routes to, other than by the default route.
free_subnet() {
    local n first subnet
    first=$((16#${id:0:4} % 200))
    for ((n = 0; n < 200; n++)); do
        subnet=10.213.$(((first + n) % 200))
        if [[ -z $(ip -4 route show table all root "$subnet.0/24") ]] &&
            ! ip -4 route show table all match "$subnet.0/24" | grep -qv '^default' &&
            ! grep -q "^nameserver $subnet\." /etc/resolv.conf; then
            echo "$subnet"
            return
        fi
    done
    return 1
}

start_network() {
    local subnet
    stop_network
    subnet=$(free_subnet) || fail "no free subnet in 10.213.0.0/16 for the engine's bridge"
    ip link add name "$bridge" type bridge
    ip addr add "$subnet.1/24" dev "$bridge"
    ip link set "$bridge" up
    firewall -t nat -A POSTROUTING -s "$subnet.0/24" ! -o "$bridge" -j MASQUERADE
    firewall -I FORWARD -i "$bridge" -j ACCEPT
    firewall -I FORWARD -o "$bridge" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    if [[ $(</proc/sys/net/ipv4/ip_forward) == 0 ]]; then
        : >"$home/forwarding-was-off"
        echo 1 >/proc/sys/net/ipv4/ip_forward
    fi
}

stop_network() {
    local table rule rules
    if [[ -e $stack.is ]]; then
        for table in nat filter; do
            rules=$(firewall -t "$table" -S 2>/dev/null | grep -wF -- "$bridge") || continue
            while read -ra rule; do
                firewall -t "$table" -D "${rule[@]:1}"
            done <<<"$rules"
        done
    fi
    ip link del "$bridge" 2>/dev/null || true
    # Forwarding goes back to off, unless somebody else's bridge may rely on it by now.
    if [[ -e $home/forwarding-was-off ]]; then
        [[ -n $(ip -brief link show type bridge) ]] || echo 0 >/proc/sys/net/ipv4/ip_forward
        rm -f -- "$home/forwarding-was-off"
    fi
}

# ---- engine ----------------------------------------------------------------------------------------------------------

write_engine_config() {
    local uplink mtu
    uplink=$(ip -4 route show default | grep -oE ' dev [^ ]+' | head -n 1) || true
    # shellcheck disable=SC2086
    mtu=$([[ -z $uplink ]] || ip link show $uplink | grep -oE ' mtu [0-9]+' | tr -dc 0-9)
    mkdir -p "$run/containerd"
    # A containerd of its own, else dockerd would use the machine's. Only what runs and stores containers is switched on.
    cat >"$run/containerd.toml" <<-EOF
		version = 2
		root = "$home/containerd"
		state = "$run/containerd/state"
		disabled_plugins = [
		  "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri",
		  "io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing",
		  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
		  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
		]
		[grpc]
		  address = "$run/containerd/containerd.sock"
	EOF
    # The cgroup driver is set, so that machines with and without systemd are served alike.
    cat >"$run/daemon.json" <<-EOF
		{
		  "features": { "containerd-snapshotter": true },
		  "hosts": ["unix://$socket"],
		  "group": "root",
		  "containerd": "$run/containerd/containerd.sock",
		  "data-root": "$home/docker",
		  "exec-root": "$run/docker",
		  "pidfile": "$run/docker/dockerd.pid",
		  "bridge": "$bridge",
		  "mtu": ${mtu:-1500},
		  "iptables": false,
		  "ip6tables": false,
		  "ip-forward": false,
		  "cgroup-parent": "/$cgroup",
		  "exec-opts": ["native.cgroupdriver=cgroupfs"],
		  "init-path": "$stack/usr/bin/tini-static",
		  "shutdown-timeout": 5
		}
	EOF
}

# Empty folders of the machine, each covered by one of our own. They stay: to remove one would also take it, and what
# covers it, from another engine of this kind.
fixed_dirs=(/run/containerd /run/docker /run/runc)

# The first process of the engine's own mount and pid namespaces. Whatever way it ends, kill -9 included, the kernel then
# ends every process in there (daemons, shims, RUN steps) and drops their mounts: nothing is left to be cleaned up.
engine_init() {
    local home=$1 run=$1/run pid dir containerd dockerd
    # /proc is still the machine's, and so is our pid in it.
    read -r pid _ </proc/self/stat
    echo "$pid $(start_time "$pid")" >"$run/engine.pid"
    mount -t proc proc /proc
    # Shims, runc and plugins have fixed places, where those of the machine's own engine may live. Ours get other ones.
    for dir in "${fixed_dirs[@]}"; do mkdir -p "$dir" && mount -t tmpfs -o mode=711 tmpfs "$dir"; done
    ulimit -n "$(ulimit -Hn)"
    containerd --config "$run/containerd.toml" &
    containerd=$!
    until [[ -S $run/containerd/containerd.sock ]]; do
        kill -0 "$containerd" || exit 1
        sleep 0.05
    done
    dockerd --config-file "$run/daemon.json" &
    dockerd=$!
    trap 'kill -TERM $dockerd' TERM
    # The first of the two that ends, ends both; a signal only interrupts the wait.
    while kill -0 "$containerd" && kill -0 "$dockerd"; do wait -n "$containerd" "$dockerd"; done 2>/dev/null
    kill -TERM "$containerd" && wait "$containerd"
}

start_engine() {
    local pid tick
    engine_up && return
    stop_engine
    # No process and no mount of an earlier run is left by now; what it left in files would only mislead the next one.
    rm -rf --one-file-system -- "$run/docker" "$run/containerd" "$socket"
    write_engine_config
    start_network
    # shellcheck disable=SC2016
    detach engine unshare --mount --propagation slave --pid --fork --kill-child -- \
        bash -c "$(declare -p fixed_dirs; declare -f start_time engine_init)"'; engine_init "$1"' skiff-dev-engine "$home"
    pid=$!
    for ((tick = 0; tick < 600; tick++)); do
        engine_up && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    show_log engine
    stop_engine
    fail "the engine does not start: see $logs/engine.log"
}

stop_engine() {
    local dir
    stop_daemon engine 20
    stop_network
    rm -f -- "$socket"
    for dir in /sys/fs/cgroup/"$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
        [[ ! -d $dir ]] || find "$dir" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}

# Stops all; also what is left of a stack that was killed.
stop_stack() {
    stop_engine
    stop_daemon registry 5
    stop_daemon aws 5
}

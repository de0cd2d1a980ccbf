# Base images in the registry: debian:12, python:3.11, gcc:12 and busybox:1, made of Debian's packages by the engine.
# Inside RUN, apt-get and pip reach the package registries as the machine does: same mirrors, same certificates.
# shellcheck shell=bash

images=(busybox:1 debian:12 python:3.11 gcc:12)
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

docker() { DOCKER_HOST=unix://$socket DOCKER_CONFIG=$home/docker-config "$stack/usr/bin/docker" "$@"; }

# ---- what the machine says about package registries ------------------------------------------------------------------

image_apt_sources() {
    local mirror
    mirror=$(<"$home/apt/mirror")
    echo "deb $mirror bookworm main"
    echo "deb $mirror bookworm-updates main"
    machine_sources | awk '$2 ~ /-security$/ { print "deb " $1 " bookworm-security main"; exit }'
}

image_apt_options() {
    echo 'Acquire::Retries "3";'
    apt-config dump Acquire | grep -iE '^Acquire::(Check-Valid-Until|Check-Date|https?::(Proxy|CaInfo|Timeout))[: ]' || true
}

# The machine's pip settings that say where packages come from. An address with a password stays out of the images.
machine_pip_settings() {
    { python3 -m pip config list 2>/dev/null || true; } |
        sed -nE "s/^(global|install|:env:)\.(index-url|extra-index-url|trusted-host|proxy|timeout|default-timeout)='([^@]*)'\$/\2 = \3/p" |
        awk '!seen[$1]++'
}

image_pip_conf() {
    echo '[global]'
    echo 'cert = /etc/ssl/certs/ca-certificates.crt'
    echo 'disable-pip-version-check = true'
    echo 'root-user-action = ignore'
    machine_pip_settings
}

image_uv_toml() { machine_pip_settings | sed -nE 's/^(index-url|extra-index-url) = (.*)$/\1 = "\2"/p' | sed -E '/^extra/s/"(.*)"/["\1"]/'; }

# ---- are they there? -------------------------------------------------------------------------------------------------

# Changes with all that the images are made of.
recipe() {
    {
        declare -f make_debian_rootfs make_busybox_rootfs image_apt_sources image_apt_options image_pip_conf image_uv_toml
        cat "$repo"/dev/images/* "$bundle" "$home/apt/mirror"
    } | sha256sum | cut -d' ' -f1
}

images_up() {
    local image port
    port=$(registry_port)
    [[ $(cat "$home/images.are" 2>/dev/null) == "$(recipe)" ]] || return 1
    for image in "${images[@]}"; do
        local_curl -o /dev/null --head -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
            "http://127.0.0.1:$port/v2/${image%:*}/manifests/${image#*:}" || return 1
    done
}

# ---- making them -----------------------------------------------------------------------------------------------------

# The files of a small Debian, as a tar file.
make_debian_rootfs() {
    local dir=$home/images/debian option options=() certificate
    mkdir -p "$dir/files"/{etc/uv,usr/local/share/ca-certificates}
    image_apt_sources >"$dir/sources.list"
    image_pip_conf >"$dir/files/etc/pip.conf"
    printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,locale,man}/'*' path-include=/usr/share/doc/'*'/copyright >"$dir/dpkg.conf"
    image_uv_toml >"$dir/files/etc/uv/uv.toml"
    for certificate in /usr/local/share/ca-certificates/*.crt; do
        [[ ! -e $certificate ]] || cp -- "$certificate" "$dir/files/usr/local/share/ca-certificates/"
    done
    while read -r option; do options+=(--aptopt="$option"); done < <(image_apt_options)
    # In a mount namespace, so that no mount outlives it, and in memory (300 MB for a minute): dpkg waits for disks a lot.
    # shellcheck disable=SC2016
    SOURCE_DATE_EPOCH=0 PATH=$stack/usr/bin:$PATH:/usr/sbin:/sbin unshare --mount \
        env TMPDIR="$home/tmp" sh -c 'mount -t tmpfs tmpfs "$TMPDIR" && exec "$@"' sh \
        mmdebstrap --mode=root --format=tar --variant=minbase --include=ca-certificates \
        --keyring="$keyring" --dpkgopt="$dir/dpkg.conf" "${options[@]}" \
        --customize-hook="sync-in $dir/files /" \
        --customize-hook='chroot "$1" update-ca-certificates' \
        --customize-hook="upload $bundle /etc/ssl/certs/ca-certificates.crt" \
        bookworm "$dir/rootfs.tar" "$dir/sources.list"
}

make_busybox_rootfs() {
    local dir=$home/images/busybox root=$home/images/busybox/root
    mkdir -p "$root"/{bin,sbin,dev,etc,proc,sys,root,tmp,usr/bin,usr/sbin,var}
    cp "$stack/bin/busybox" "$root/bin/"
    chroot "$root" /bin/busybox --install -s
    chmod 1777 "$root/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    tar -C "$root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$dir/rootfs.tar" .
}

# push_image NAME:TAG [ARGUMENT...]: a single Docker v2 manifest, which the engine builds and pushes.
push_image() {
    local image=$1 name=${1%:*} store=false
    shift
    # An older client pushes what the engine has stored; today's lets the builder push, which needs no storing.
    [[ $(docker version --format '{{.Client.Version}}') != 2[0-7].* ]] || store=true
    docker buildx build --builder default --progress plain --provenance=false "$@" \
        --output "type=image,name=localhost:$(registry_port)/$image,push=true,store=$store,oci-mediatypes=false" \
        --file "$repo/dev/images/$name.Dockerfile" "$home/images/$name"
}

# Each step's output goes to a log of its own, since they run side by side.
logged() {
    local log=$1
    shift
    "$@" >"$logs/$log.log" 2>&1
}

# The slow part needs no engine: start it before the engine. `finish_images` waits for it.
begin_images() {
    rm -rf --one-file-system -- "$home/images" "$home/images.are" "$home/tmp"
    mkdir -p "$home/tmp" "$home"/images/{busybox,debian,python,gcc}
    [[ -r $bundle ]] || refuse "the machine's CA certificates are missing ($bundle): run \`apt-get install ca-certificates\`"
    logged rootfs-debian make_debian_rootfs 9>&- &
    rootfs_job=$!
}

finish_images() {
    local base jobs=() image
    base=localhost:$(registry_port)/debian:12
    logged rootfs-busybox make_busybox_rootfs || { show_log rootfs-busybox; fail "the files of busybox:1 could not be made"; }
    logged image-busybox push_image busybox:1 || { show_log image-busybox; fail "busybox:1 could not be made"; }
    wait "$rootfs_job" || { show_log rootfs-debian; fail "the files of debian:12 could not be made"; }
    logged image-debian push_image debian:12 || { show_log image-debian; fail "debian:12 could not be made"; }
    for image in python:3.11 gcc:12; do
        logged "image-${image%:*}" push_image "$image" --build-arg BASE="$base" 9>&- &
        jobs+=("$!")
    done
    for image in python gcc; do
        wait "${jobs[0]}" || { show_log "image-$image"; fail "the base image $image could not be made"; }
        jobs=("${jobs[@]:1}")
    done
    rm -rf --one-file-system -- "$home/images" "$home/tmp"
    recipe >"$home/images.are"
}

# AWS's APIs for ECR and S3, emulated by moto. What they know lives as long as the process; images are in the registry.
# shellcheck shell=bash

# Flask is what moto's own extra for its server would bring, among much that these two services do not need.
aws_packages=('moto[ecr,s3]==5.2.5' 'flask>=3,<4' 'flask-cors>=5')

# Debian 12 need not have pip, and python3 alone cannot make it: its wheel is in a package of its own, and runs as it is.
pip_of_debian() {
    local wheel
    wheel=$(compgen -G "$home/pip/usr/share/python-wheels/pip-*.whl") || {
        { download_packages "$codename" python3-pip-whl || { update_apt "$codename" && download_packages "$codename" python3-pip-whl; }; } &&
            dpkg -x "$packages"/python3-pip-whl_*.deb "$home/pip" || return 1
        wheel=$(compgen -G "$home/pip/usr/share/python-wheels/pip-*.whl") || return 1
    }
    /usr/bin/python3 "$wheel/pip" --quiet --disable-pip-version-check "$@"
}

make_aws() {
    rm -rf --one-file-system -- "$aws" "$aws.new" "$aws.is"
    pip_of_debian install --no-compile --root-user-action=ignore --target "$aws.new" "${aws_packages[@]}" &&
        mv "$aws.new" "$aws" && printf '%s\n' "${aws_packages[*]}" >"$aws.is"
}

# Needs neither engine nor registry: start it before them. `start_aws` waits for it.
begin_aws() {
    aws_job=
    [[ $(cat "$aws.is" 2>/dev/null) != "${aws_packages[*]}" ]] || return 0
    say "installing ${aws_packages[0]} into $aws"
    stop_daemon aws 5
    make_aws >"$logs/aws-install.log" 2>&1 9>&- &
    aws_job=$!
}

start_aws() {
    local port pid tick
    if [[ -n $aws_job ]] && ! wait "$aws_job"; then
        show_log aws-install
        fail "moto could not be installed: check that pip reaches its index, then run dev/up again"
    fi
    aws_up && return
    stop_daemon aws 5
    for port in $(ports_to_try aws 5001); do
        port_is_free "$port" || continue
        detach aws env PYTHONPATH="$aws" /usr/bin/python3 "$aws/bin/moto_server" -H 127.0.0.1 -p "$port"
        pid=$!
        echo "$pid $(start_time "$pid")" >"$run/aws.pid"
        for ((tick = 0; tick < 300; tick++)); do
            if local_curl -o /dev/null "http://127.0.0.1:$port/moto-api/" && daemon_pid aws >/dev/null; then
                printf '%s\n' "$port" >"$home/aws.port"
                return
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        stop_daemon aws 5
    done
    show_log aws
    fail "AWS's APIs (moto) do not start"
}

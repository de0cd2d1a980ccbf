# For scripts that use the stack for a while: demo and test.
# shellcheck shell=bash

# Every such run holds a shared lock (descriptor 8). One that has to start the stack leaves a note, and the last run to
# go then stops it. A dev/up by hand takes the note away: from then on the stack stays.
# Starts the stack in the background, to be awaited by finish_stack.
begin_stack() {
    stack_job='' tool_job='' environment=''
    make_home
    mkdir -p "$logs"
    exec 8>>"$home/users"
    flock -s 8
    trap end_run EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    stack_up || : >"$home/stop-when-idle"
    environment=$(mktemp "$home/env.XXXXXX")
    SKIFF_DEV_RUN=1 setsid "$repo/dev/up" --env >"$environment" 8>&- &
    stack_job=$!
}

# Points this shell at the stack.
finish_stack() {
    wait "$stack_job" || return
    stack_job=
    # shellcheck source=/dev/null
    . "$environment"
}

end_run() {
    local status=$? job
    trap '' INT TERM
    for job in $stack_job $tool_job; do kill -TERM -- "-$job" 2>/dev/null || true; done
    [[ -z $environment ]] || rm -f -- "$environment"
    if [[ -e $home/stop-when-idle ]] && flock -n 8; then
        say "stopping the stack that this run has started"
        "$repo/dev/down" 8>&- || status=1
    fi
    exit "$status"
}

# keep_stack: it stays up when this run ends.
keep_stack() { rm -f -- "$home/stop-when-idle"; }

#!/usr/bin/env bash
# The legacy script, re-enacted: one container after the other; `latest` is pulled to build on, the cache is inline and
# local, the image is loaded into the engine, and three tags are pushed at once.
set -euo pipefail

(($#)) || set -- features train inference report
for name; do
    image=$REGISTRY/$name
    docker pull "$image:latest" || echo "no $image:latest to build on"
    docker buildx build \
        --platform linux/amd64 \
        --cache-from "$image:latest" \
        --cache-from "$image:cache" \
        --cache-to "type=local,dest=$CACHE/$name" \
        --cache-to type=inline \
        --tag "$image:latest" --tag "$image:$RELEASE" --tag "$image:cache" \
        --load \
        "containers/$name"
    pushes=()
    for tag in latest "$RELEASE" cache; do
        docker push "$image:$tag" &
        pushes+=($!)
    done
    for push in "${pushes[@]}"; do wait "$push"; done
done

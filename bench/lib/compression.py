"""What a layer of packages costs to export, by compression: those of skiff's profiles, and others that it could use.

The export is the builder's work, with the attributes of `src/profile.rs`: `docker buildx build` asks for it alike.
"""

import os
import shutil
from dataclasses import dataclass

import steps
from registry import Registry
from stack import REPO, BenchError, Stack, say
from timed import run

NAMESPACE = "compression"
GZIP = "gzip: profiles docker, sagemaker, lambda"
# Title → attributes of the image exporter. The first is what the others are compared with.
COMPRESSIONS = {
    GZIP: "oci-mediatypes=false,compression=gzip,force-compression=true",
    "gzip, level 1": "oci-mediatypes=false,compression=gzip,force-compression=true,compression-level=1",
    "zstd: profile oci": "oci-mediatypes=true,compression=zstd",
    "uncompressed": "oci-mediatypes=true,compression=uncompressed",
}

# The layer is another one each time, or it would neither be compressed nor pushed again.
_DOCKERFILE = """\
FROM localhost:5000/python:3.11 AS packages
COPY requirements.txt ./
RUN pip install --no-cache-dir --target /packages -r requirements.txt
FROM localhost:5000/python:3.11
ARG TURN
RUN --mount=from=packages,source=/packages,target=/from cp -a /from /packages && echo "$TURN" > /packages/turn
"""


@dataclass
class CompressionRun:
    compression: str
    seconds: float  # of the export with its push
    bytes: int  # of the layer as it was pushed


class Compressions:
    LIMIT = 600  # seconds for one command

    def __init__(self, stack: Stack, registry: Registry):
        self._stack, self._registry = stack, registry
        self._folder = stack.home / "compression"
        self._count = 0

    def measure(self, rounds: int) -> list[CompressionRun]:
        """On one engine: packages are installed once, by a turn that is not counted."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        (self._folder / "Dockerfile").write_text(_DOCKERFILE.replace("localhost:5000", self._stack.registry))
        shutil.copy(REPO / "bench/workload/containers/train/requirements.txt", self._folder)
        self._stack.fresh_runner()
        names = list(COMPRESSIONS)
        self._once(GZIP)
        runs = []
        for turn in range(rounds):
            first = turn % len(names)
            runs += [self._once(name) for name in names[first:] + names[:first]]
        self._registry.forget(NAMESPACE)
        shutil.rmtree(self._folder)
        return runs

    def _once(self, compression: str) -> CompressionRun:
        self._count += 1
        name = f"{self._count:03}-compression"
        log = self._stack.home / "runs" / f"{name}.log"
        image = f"{self._stack.registry}/{NAMESPACE}/packages:{name}"
        output = f"type=image,name={image},push=true,store=false,{COMPRESSIONS[compression]}"
        build = ["docker", "buildx", "build", "--progress", "rawjson", "--provenance=false"]
        build += ["--build-arg", f"TURN={name}", "--output", output, str(self._folder)]
        os.sync()
        timed = run(build, cwd=self._folder, env=self._stack.env, log=log, limit=self.LIMIT)
        if timed.code:
            raise BenchError(f"{name}: exit code {timed.code}, see {log}")
        exports = [step.seconds for step in steps.from_rawjson(log, timed.started) if "exporting to image" in step.name]
        if not exports:
            raise BenchError(f"{name}: nothing was exported, see {log}")
        size = self._registry.last_layer(f"{NAMESPACE}/packages", name)
        say(f"{name}: {compression}: {exports[0]:.2f} s, {size / 1e6:.1f} MB")
        return CompressionRun(compression, exports[0], size)

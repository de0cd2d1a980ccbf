"""The registry from behind: its files and its access log. Measures every peer alike, without standing in its way.

A peer has a namespace of its own (`bake/train`). docker-registry keeps no state in memory, so namespaces can be deleted,
kept and put back below it; the blobs stay where they are.
"""

import gzip
import json
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from stack import BenchError, Stack

_BLOB_GET = re.compile(rb'"GET /v2/\S+/blobs/sha256:([0-9a-f]{64}) HTTP/[\d.]+" 20[06] (\d+) ')


@dataclass
class Traffic:
    layer_gets: int
    bytes: int  # of layers


class Registry:
    def __init__(self, stack: Stack):
        self._stack = stack
        self._root = stack.home / "registry/docker/registry/v2"
        self._kept = stack.home / "kept"
        self._log = stack.home / "logs/registry.log"

    # ---- namespaces ---------------------------------------------------------------------------------------------------

    def forget(self, namespace: str) -> None:
        shutil.rmtree(self._repositories(namespace), ignore_errors=True)

    def keep(self, namespace: str) -> None:
        """Remembers a namespace as it is now."""
        shutil.rmtree(self._kept / namespace, ignore_errors=True)
        shutil.copytree(self._repositories(namespace), self._kept / namespace)

    def put_back(self, namespace: str) -> None:
        self.forget(namespace)
        shutil.copytree(self._kept / namespace, self._repositories(namespace))

    def collect_garbage(self) -> None:
        """Deletes the blobs that no namespace holds any more. Nobody may push meanwhile."""
        binary = self._stack.home / "stack/usr/bin/docker-registry"
        command = [binary, "garbage-collect", self._stack.home / "run/registry.yml"]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def _repositories(self, namespace: str) -> Path:
        return self._root / "repositories" / namespace

    # ---- traffic ------------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """Now, for `traffic_since`."""
        return self._log.stat().st_size

    def traffic_since(self, mark: int) -> Traffic:
        with self._log.open("rb") as log:
            log.seek(mark)
            found = _BLOB_GET.findall(log.read())
        layers = [int(size) for digest, size in found if self._is_layer(digest.decode())]
        return Traffic(len(layers), sum(layers))

    def _is_layer(self, digest: str) -> bool:
        """Configs are blobs as well; they begin with a brace."""
        with self._blob(digest).open("rb") as blob:
            return blob.read(1) != b"{"

    # ---- what was released --------------------------------------------------------------------------------------------

    def released_at(self, repository: str, release: str) -> float:
        """When `latest` and the release's tag stood on one image, in seconds since the epoch; an error if they do not."""
        links = [self._tag(repository, tag) for tag in [release, "latest"]]
        if len({link.read_text() for link in links if link.exists()}) != 1 or not all(map(Path.exists, links)):
            raise BenchError(f"{repository}: {release} and latest are not one image")
        return max(link.stat().st_mtime for link in links)

    def image_holds(self, repository: str, release: str, file: Path) -> bool:
        """Whether the newest file of this name in the image is this one."""
        manifest = self._json(self._tag(repository, release).read_text())
        if "manifests" in manifest:
            amd64 = [m for m in manifest["manifests"] if m["platform"]["architecture"] == "amd64"]
            manifest = self._json(amd64[0]["digest"])
        wanted = file.read_bytes()
        # Small ones first: a layer of sources is, one of packages is not.
        for layer in sorted(manifest["layers"], key=lambda layer: layer["size"]):
            found = self._in_layer(layer["digest"], file.name)
            if found is not None:
                return found == wanted
        return False

    def last_layer(self, repository: str, tag: str) -> int:
        """The bytes of an image's newest layer."""
        return self._json(self._tag(repository, tag).read_text())["layers"][-1]["size"]

    def _in_layer(self, digest: str, name: str) -> bytes | None:
        with gzip.open(self._blob(digest)) as data, tarfile.open(fileobj=data, mode="r|") as layer:
            for member in layer:
                if member.isfile() and Path(member.name).name == name:
                    return layer.extractfile(member).read()
        return None

    def _tag(self, repository: str, tag: str) -> Path:
        return self._repositories(repository) / "_manifests/tags" / tag / "current/link"

    def _json(self, digest: str) -> dict:
        return json.loads(self._blob(digest).read_bytes())

    def _blob(self, digest: str) -> Path:
        digest = digest.removeprefix("sha256:")
        return self._root / "blobs/sha256" / digest[:2] / digest / "data"

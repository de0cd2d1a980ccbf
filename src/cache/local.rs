//! A build cache in a folder: an OCI image layout (image spec 1.1) with one manifest, as BuildKit's own clients make it
//! (`type=local`). The blobs are the builder's to write; the index, which says what they are, is ours.
//!
//! Everything here blocks.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::stored::Seen;
use crate::atomic_file;
use crate::buildkit::session::content::store::BlobStore;
use crate::reference::Digest;
use crate::registry::image::RawManifest;

/// The name of the manifest in its index, as BuildKit's clients look for it (`client/ociindex`).
const NAME: &str = "latest";

/// The annotation that gives it (OCI image spec 1.1, "Pre-Defined Annotation Keys").
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// Why a folder's cache is not imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot read {0}: {1}")]
    Unread(&'static str, std::io::Error),
    #[error("its index.json is damaged: {0}")]
    Index(serde_json::Error),
    #[error("{0} is missing or not whole")]
    Blob(Digest),
    #[error("what its index names is no build cache")]
    Foreign,
}

/// The manifest of the cache in this folder, if there is one. All of its blobs are there.
pub(crate) fn find(folder: &Path) -> Result<Option<Digest>, LocalError> {
    let Some(index) = read(folder)? else {
        return Ok(None);
    };
    let Some(entry) = index.manifests.last() else {
        return Ok(None);
    };
    let store = BlobStore::new(folder.to_owned());
    let whole = |digest: &Digest, size: u64| store.size(digest) == Some(size);
    let damaged = || LocalError::Blob(entry.digest.clone());
    if entry.size > MAX_MANIFEST || !whole(&entry.digest, entry.size) {
        return Err(damaged());
    }
    let path = store.path(&entry.digest).ok_or_else(damaged)?;
    let bytes = std::fs::read(path).map_err(|error| LocalError::Unread("its manifest", error))?;
    let raw = RawManifest {
        digest: Digest::of(&bytes),
        media_type: entry.media_type.clone(),
        bytes: Bytes::from(bytes),
    };
    if raw.digest != entry.digest {
        return Err(damaged());
    }
    let Seen::Cache(_, blobs) = Seen::of(&raw) else {
        return Err(LocalError::Foreign);
    };
    match blobs.iter().find(|(digest, size)| !whole(digest, **size)) {
        Some((digest, _)) => Err(LocalError::Blob(digest.clone())),
        None => Ok(Some(raw.digest)),
    }
}

fn read(folder: &Path) -> Result<Option<Index>, LocalError> {
    match std::fs::read(folder.join("index.json")) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(LocalError::Index),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LocalError::Unread("its index.json", error)),
    }
}

/// Names what a builder has written there, by its descriptor (BuildKit's answer `cache.manifest`), and takes away the
/// blobs that only the cache before it had.
pub(crate) fn keep(folder: &Path, descriptor: &str) -> std::io::Result<()> {
    let mut entry: Entry = serde_json::from_str(descriptor)?;
    entry.annotations.insert(REF_NAME.into(), NAME.into());
    let index = Index {
        schema_version: 2,
        manifests: vec![entry],
    };
    atomic_file::write(
        &folder.join("oci-layout"),
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    let text = serde_json::to_vec(&index)?;
    atomic_file::write(&folder.join("index.json"), &text)?;
    sweep(folder, &index.manifests[0])
}

fn sweep(folder: &Path, entry: &Entry) -> std::io::Result<()> {
    let store = BlobStore::new(folder.to_owned());
    let Some(path) = store.path(&entry.digest) else {
        return Ok(());
    };
    let raw = RawManifest {
        bytes: std::fs::read(path)?.into(),
        media_type: entry.media_type.clone(),
        digest: entry.digest.clone(),
    };
    // What is not understood is not tidied up.
    let Seen::Cache(_, blobs) = Seen::of(&raw) else {
        return Ok(());
    };
    let needed = blobs.keys().filter_map(|digest| store.path(digest));
    let needed: BTreeSet<OsString> = needed
        .filter_map(|path| Some(path.file_name()?.to_owned()))
        .collect();
    for found in std::fs::read_dir(store.blobs())? {
        let found = found?;
        if !needed.contains(&found.file_name()) {
            std::fs::remove_file(found.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a cache of one layer; returns its descriptor.
    fn written(folder: &Path, content: &str) -> String {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            let name = digest.as_str().strip_prefix("sha256:").unwrap().to_owned();
            std::fs::write(blobs.join(name), bytes).unwrap();
            digest
        };
        let part = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": put(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": part("application/vnd.buildkit.cacheconfig.v0", b"{}"),
            "layers": [part("application/vnd.oci.image.layer.v1.tar+gzip", content.as_bytes())],
        });
        part(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        )
        .to_string()
    }

    #[test]
    fn a_cache_is_found_once_it_is_named_and_its_predecessor_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        assert_eq!(find(folder).unwrap(), None);
        let first = written(folder, "one");
        assert_eq!(find(folder).unwrap(), None, "not named yet");
        keep(folder, &first).unwrap();
        assert!(find(folder).unwrap().is_some());
        let second = written(folder, "two");
        keep(folder, &second).unwrap();
        assert!(second.contains(find(folder).unwrap().unwrap().as_str()));
        // Manifest, config and layer.
        assert_eq!(
            std::fs::read_dir(folder.join("blobs/sha256"))
                .unwrap()
                .count(),
            3
        );
    }

    #[test]
    fn a_damaged_cache_is_not_imported_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        keep(folder, &written(folder, "one")).unwrap();
        let layer = BlobStore::new(folder.into())
            .path(&Digest::of(b"one"))
            .unwrap();
        std::fs::write(&layer, "o").unwrap();
        assert!(matches!(find(folder), Err(LocalError::Blob(_))));
        std::fs::write(folder.join("index.json"), "{").unwrap();
        assert!(matches!(find(folder), Err(LocalError::Index(_))));
    }
}

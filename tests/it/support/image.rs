//! What is in an image: the paths of a tar archive, each with what it is.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{registry, stack};

/// Path (without a trailing `/`) → type, mode, and size or target. The same text whoever lists.
pub(crate) type Listing = BTreeMap<String, String>;

fn described(kind: &str, mode: u32, size: u64, target: &str) -> String {
    match kind {
        // Everybody agrees on the mode of a link: it has none.
        "symlink" => format!("symlink -> {target}"),
        "hardlink" => format!("hardlink = {target}"),
        "directory" => format!("directory {mode:04o}"),
        kind => format!("{kind} {mode:04o} {size}"),
    }
}

/// Lists a tar archive: POSIX's format with its extended headers, which hold any name (POSIX.1-2001, pax).
pub(crate) fn of_tar(mut archive: impl Read) -> Listing {
    let mut listing = Listing::new();
    let mut extended = BTreeMap::<String, String>::new();
    let mut header = [0; 512];
    while archive.read_exact(&mut header).is_ok() && header[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = header[range].split(|&byte| byte == 0).next().unwrap();
            String::from_utf8(field.to_vec()).unwrap()
        };
        let octal = |range| u64::from_str_radix(text(range).trim(), 8).unwrap_or(0);
        let size = match extended.get("size") {
            Some(size) => size.parse().unwrap(),
            None => octal(124..136),
        };
        let kind = match header[156] {
            b'0' => "file",
            b'1' => "hardlink",
            b'2' => "symlink",
            b'5' => "directory",
            b'6' => "fifo",
            b'x' => {
                extended = records(&content(&mut archive, size));
                continue;
            }
            other => panic!("an entry of type {:?}", char::from(other)),
        };
        let path = extended
            .remove("path")
            .unwrap_or_else(|| match text(345..500) {
                prefix if prefix.is_empty() => text(0..100),
                prefix => format!("{prefix}/{}", text(0..100)),
            });
        let target = extended
            .remove("linkpath")
            .unwrap_or_else(|| text(157..257));
        let mode = u32::try_from(octal(100..108) & 0o7777).unwrap();
        extended.clear();
        skip(&mut archive, size);
        let path = path.trim_start_matches("./").trim_end_matches('/');
        if !path.is_empty() {
            listing.insert(path.to_owned(), described(kind, mode, size, &target));
        }
    }
    listing
}

/// The content of an entry; it ends with the block.
fn content(archive: &mut impl Read, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size.next_multiple_of(512)).unwrap()];
    archive.read_exact(&mut bytes).unwrap();
    bytes.truncate(usize::try_from(size).unwrap());
    bytes
}

fn skip(archive: &mut impl Read, size: u64) {
    let padded = size.next_multiple_of(512);
    let skipped = std::io::copy(&mut archive.take(padded), &mut std::io::sink()).unwrap();
    assert_eq!(skipped, padded, "the archive is cut short");
}

/// `length key=value\n` each, where the length counts all of it: a value may have line breaks.
fn records(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&byte| byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&bytes[..space])
            .unwrap()
            .parse()
            .unwrap();
        let record = std::str::from_utf8(&bytes[space + 1..length - 1]).unwrap();
        let (key, value) = record.split_once('=').unwrap();
        records.insert(key.to_owned(), value.to_owned());
        bytes = &bytes[length..];
    }
    records
}

/// Lists each layer of an image in the stack's registry.
pub(crate) fn of_layers(repository: &str, reference: &str) -> Vec<Listing> {
    registry::layers(repository, reference)
        .iter()
        .map(|digest| of_tar(&*layer(repository, digest)))
        .collect()
}

/// A layer's archive.
pub(crate) fn layer(repository: &str, digest: &str) -> Vec<u8> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let (status, packed) = registry::get(stack::registry(), &path);
    assert_eq!(status, 200, "{path}");
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let feed = std::thread::spawn(move || stdin.write_all(&packed).unwrap());
    let output = gzip.wait_with_output().unwrap();
    feed.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The contexts that `skiff inputs --format json` lists, by name.
pub(crate) fn of_inputs(json: &str) -> BTreeMap<String, Listing> {
    let inputs: Value = serde_json::from_str(json).unwrap();
    let contexts = inputs["contexts"].as_array().unwrap().iter();
    contexts
        .map(|context| {
            let files = context["files"].as_array().unwrap().iter();
            let listing = files.map(|file| {
                let text = |key: &str| file[key].as_str().unwrap_or_default().to_owned();
                let (kind, target) = match text("hard_link") {
                    first if first.is_empty() => (text("type"), text("target")),
                    first => ("hardlink".to_owned(), first),
                };
                let mode = u32::from_str_radix(&text("mode"), 8).unwrap();
                let size = file["size"].as_u64().unwrap();
                (text("path"), described(&kind, mode, size, &target))
            });
            (
                context["name"].as_str().unwrap().to_owned(),
                listing.collect(),
            )
        })
        .collect()
}

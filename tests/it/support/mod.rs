//! What tests stand on: the stack of `dev/`, throw-away monorepos, eyes on the registry, and a gate before it.

pub(crate) mod aws;
pub(crate) mod bridge;
pub(crate) mod builder_image;
pub(crate) mod gate;
pub(crate) mod guarded;
pub(crate) mod image;
pub(crate) mod quotas;
pub(crate) mod registry;
pub(crate) mod releases;
pub(crate) mod s3_builder;
pub(crate) mod stack;
pub(crate) mod terminal;
pub(crate) mod trees;
pub(crate) mod workspace;

pub(crate) fn base64(text: &str) -> String {
    let mut child = std::process::Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

//! Generated folders and ignore files: the same for the same seed.

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;

/// A build context.
pub(crate) struct Tree {
    /// Path → what is there. Folders are there because something is in them, or as [`Node::Folder`].
    pub nodes: BTreeMap<String, Node>,
    /// The ignore file's bytes.
    pub ignore: Vec<u8>,
}

pub(crate) enum Node {
    File { mode: u32 },
    Folder,
    Link { target: String },
}

/// Plain names come often, so that patterns of one path meet another; the rest are what breaks parsers.
const NAMES: [&str; 44] = [
    "a",
    "a",
    "a",
    "b",
    "b",
    "b",
    "ab",
    "abc",
    "x.py",
    "x.py",
    "y.py",
    "z.md",
    ".env",
    ".cache",
    "A",
    "node_modules",
    "x y",
    " lead",
    "trail ",
    "é",
    "学",
    "..x",
    "...",
    "-d",
    "!x",
    "#h",
    "*",
    "**",
    "?",
    "a[b]",
    "[",
    "]",
    "a\\b",
    "a+b",
    "(y)",
    "{c}",
    "$x",
    "^z",
    "x|y",
    "%41",
    "a,b",
    "new\nline",
    "a~",
    "'q\"",
];

impl Tree {
    pub(crate) fn generate(rng: &mut Rng) -> Self {
        let mut nodes = BTreeMap::new();
        for _ in 0..rng.usize(1..14) {
            let depth = rng.usize(1..5);
            let path: Vec<_> = (0..depth)
                .map(|_| *rng.choice(NAMES).as_ref().unwrap())
                .collect();
            let path = path.join("/");
            let node = match rng.u8(..10) {
                0 => Node::Folder,
                1 => Node::Link {
                    target: (*rng.choice(&["a", "../b", "/etc", "nowhere"]).unwrap()).to_owned(),
                },
                _ => Node::File {
                    mode: *rng.choice(&[0o644, 0o755, 0o600]).unwrap(),
                },
            };
            // Nothing stands below a file, or in the place of a folder.
            let below = format!("{path}/");
            let fits = nodes.keys().all(|other: &String| {
                *other != path
                    && !other.starts_with(&below)
                    && !(path.starts_with(&format!("{other}/")))
            });
            if fits {
                nodes.insert(path, node);
            }
        }
        let ignore = ignore_file(rng, &nodes.keys().map(String::as_str).collect::<Vec<_>>());
        Self { nodes, ignore }
    }

    /// Makes it below `root`.
    pub(crate) fn write(&self, root: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        for (path, node) in &self.nodes {
            let full = root.join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            match node {
                Node::Folder => std::fs::create_dir(full).unwrap(),
                Node::Link { target } => std::os::unix::fs::symlink(target, full).unwrap(),
                Node::File { mode } => {
                    std::fs::write(&full, path).unwrap();
                    let mode = std::fs::Permissions::from_mode(*mode);
                    std::fs::set_permissions(&full, mode).unwrap();
                }
            }
        }
    }
}

fn ignore_file(rng: &mut Rng, paths: &[&str]) -> Vec<u8> {
    let mut lines = Vec::new();
    if rng.u8(..4) == 0 {
        lines.push((*rng.choice(&["*", "**", "*/*", "**/*"]).unwrap()).to_owned());
    }
    for _ in 0..rng.usize(1..7) {
        lines.push(match rng.u8(..12) {
            0 => "# a comment".to_owned(),
            1 => " \t".to_owned(),
            _ => pattern(rng, paths),
        });
    }
    let mut bytes = Vec::new();
    if rng.u8(..8) == 0 {
        bytes.extend(b"\xef\xbb\xbf");
    }
    bytes.extend(
        lines
            .join(if rng.u8(..4) == 0 { "\r\n" } else { "\n" })
            .bytes(),
    );
    if rng.bool() {
        bytes.push(b'\n');
    }
    bytes
}

/// A pattern that has something to do with one of these paths.
fn pattern(rng: &mut Rng, paths: &[&str]) -> String {
    let path = match rng.u8(..10) {
        0 => *rng.choice(NAMES).as_ref().unwrap(),
        _ => rng.choice(paths).copied().unwrap_or("Dockerfile"),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let depth = rng.usize(1..=parts.len());
    let parts: Vec<_> = parts[..depth]
        .iter()
        .map(|part| component(rng, part))
        .collect();
    let mut pattern = parts.join("/").replace('\n', "?");
    if rng.u8(..8) == 0 {
        pattern = pattern.to_uppercase();
    }
    let front = [
        "", "", "", "", "", "", "/", "./", "**/", "**/", "*/", "x/../", "//",
    ];
    let back = [
        "", "", "", "", "", "", "/", "/", "/**", "/*", "/.", "*", "**", " ", "/**/x.py",
    ];
    let sign = ["", "", "", "!", "!", "! ", " "];
    [
        *rng.choice(&sign).unwrap(),
        *rng.choice(&front).unwrap(),
        &pattern,
        *rng.choice(&back).unwrap(),
    ]
    .concat()
}

/// One name of a pattern. What would make it malformed is behind a `\`: a builder's refusal is another test's.
fn component(rng: &mut Rng, name: &str) -> String {
    let escaped = |part: &str| {
        let mut text = String::new();
        for c in part.chars() {
            if matches!(c, '[' | '\\' | '^') {
                text.push('\\');
            }
            text.push(c);
        }
        text
    };
    let first = name.chars().next().unwrap();
    let rest = &name[first.len_utf8()..];
    match rng.u8(..14) {
        0 => "*".to_owned(),
        1 => "**".to_owned(),
        2 => format!("?{}", escaped(rest)),
        3 => format!("*{}", escaped(rest)),
        4 => format!("{}*", escaped(&first.to_string())),
        5 => format!("{}**", escaped(&first.to_string())),
        6 => format!("[a-y]{}", escaped(rest)),
        7 => format!("[^a]{}", escaped(rest)),
        8 if first.is_ascii_punctuation() => format!("\\{first}{}", escaped(rest)),
        9 => format!("{}?", escaped(name)),
        _ => escaped(name),
    }
}

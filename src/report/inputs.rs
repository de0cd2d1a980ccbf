//! What a container is made from, for people and as JSON. The JSON's shape is part of the contract: members are added,
//! never changed.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::cells::escaped;
use super::output::table;
use crate::context::entry::{self, Entry, Kind};
use crate::context::file_id::BlobId;
use crate::context::inputs::{BuildContext, MAIN};
use crate::key::{self, Key};
use crate::plan::PlannedContainer;
use crate::project::shown;
use crate::resolve::Unknown;

/// Everything that can change a container's image.
#[derive(Debug, Serialize)]
pub(crate) struct Listing<'a> {
    container: &'a str,
    /// `None`: it has none, or not all of its inputs are known.
    key: Option<&'a str>,
    inputs: &'a key::Inputs,
    /// Why there is no key.
    unknown: &'a [Unknown],
    /// The main context first.
    contexts: Vec<ContextFiles<'a>>,
}

/// A context with what its ignore rules leave of it.
#[derive(Debug, Serialize)]
pub(crate) struct ContextFiles<'a> {
    /// `context`, or the name that the manifest gives it.
    name: &'a str,
    /// Relative to the manifest, where it is below it.
    root: String,
    /// The ignore file that holds, if there is one.
    ignore_file: Option<String>,
    /// In the order in which builders get them: a folder before what is in it.
    files: Vec<File>,
}

#[derive(Debug, Serialize)]
struct File {
    /// Relative to the context, with `/`.
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Permissions in four octal digits, the first one for setuid, setgid and sticky.
    mode: String,
    /// Bytes; 0 for a folder, the length of its target for a link.
    size: u64,
    /// Git's blob id of the content; only files have one.
    id: Option<BlobId>,
    /// Where a symlink leads, as it stands in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The path further up that is the same file.
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_link: Option<String>,
}

impl<'a> ContextFiles<'a> {
    /// `base`: the manifest's folder.
    pub(crate) fn new(context: &'a BuildContext, entries: Vec<Entry>, base: &Path) -> Self {
        let root = match shown(&context.root, base) {
            root if root.is_empty() => ".".to_owned(),
            root => root,
        };
        let ignore = context.ignore.as_ref();
        Self {
            name: &context.name,
            root,
            ignore_file: ignore.map(|file| shown(&file.path, base)),
            files: entries.into_iter().map(File::new).collect(),
        }
    }
}

impl File {
    fn new(entry: Entry) -> Self {
        let (kind, target) = match entry.kind {
            Kind::Directory => ("directory", None),
            Kind::File => ("file", None),
            Kind::Symlink { target } => ("symlink", Some(target)),
            Kind::Fifo => ("fifo", None),
            Kind::Socket => ("socket", None),
            Kind::Device { .. } => ("device", None),
        };
        Self {
            path: entry.path,
            kind,
            mode: format!("{:04o}", entry::permissions(entry.mode)),
            size: entry.size,
            id: entry.id,
            target,
            hard_link: entry.hard_link,
        }
    }

    fn row(&self) -> Vec<String> {
        let mut path = escaped(&self.path);
        if let Some(target) = &self.target {
            path = format!("{path} -> {}", escaped(target));
        }
        if let Some(first) = &self.hard_link {
            path = format!("{path} = {}", escaped(first));
        }
        vec![
            self.kind.to_owned(),
            self.mode.clone(),
            self.size.to_string(),
            self.id.map_or("-".to_owned(), |id| id.to_string()),
            path,
        ]
    }
}

impl<'a> Listing<'a> {
    pub(crate) fn new(planned: &'a PlannedContainer, contexts: Vec<ContextFiles<'a>>) -> Self {
        let keyed = &planned.keyed;
        Self {
            container: &planned.container.name,
            key: keyed.key.as_ref().map(Key::as_str),
            inputs: &keyed.inputs,
            unknown: &keyed.unknown,
            contexts,
        }
    }

    pub(crate) fn json(&self) -> String {
        // Text and numbers only: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn human(&self) -> String {
        let contexts = self.contexts.iter().map(human);
        let parts: Vec<_> = std::iter::once(self.keyed()).chain(contexts).collect();
        parts.join("\n\n")
    }

    /// The key, and what it is made of.
    fn keyed(&self) -> String {
        let mut text = match self.key {
            Some(key) => format!("key {key}\n"),
            None => String::new(),
        };
        for unknown in self.unknown {
            _ = writeln!(text, "no key: {}", escaped(&unknown.why));
        }
        let known = self.inputs.iter();
        let known = known.map(|(name, value)| vec![escaped(name), escaped(value)]);
        let unknown = self.unknown.iter().filter_map(|unknown| {
            let name = unknown.input.as_ref()?;
            Some(vec![escaped(name), "not known".to_owned()])
        });
        let mut rows: Vec<_> = known.chain(unknown).collect();
        rows.sort_unstable();
        rows.insert(0, ["INPUT", "VALUE"].map(str::to_owned).to_vec());
        text + &table(&rows)
    }
}

fn human(context: &ContextFiles<'_>) -> String {
    let mut text = match context.name {
        MAIN => format!("context {}", escaped(&context.root)),
        name => format!("context {name}: {}", escaped(&context.root)),
    };
    match &context.ignore_file {
        Some(file) => _ = write!(text, ", without what {} excludes", escaped(file)),
        None => text.push_str(", all of it"),
    }
    if context.files.is_empty() {
        text.push_str("\nempty");
        return text;
    }
    let header = ["TYPE", "MODE", "SIZE", "ID", "PATH"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header.to_vec())
        .chain(context.files.iter().map(File::row))
        .collect();
    let is_file = |file: &&File| file.kind == "file";
    let files = || context.files.iter().filter(is_file);
    let bytes: u64 = files().map(|file| file.size).sum();
    let count = files().count();
    _ = write!(text, "\n{}\n{count} files, {bytes} bytes", table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::ignore::IgnoreFile;

    fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
        Entry {
            path: path.to_owned(),
            mode,
            size: if kind == Kind::Directory { 0 } else { 5 },
            seconds: 0,
            nanos: 0,
            hard_link: None,
            xattrs: vec![],
            id: (kind == Kind::File).then_some(BlobId([0xab; 20])),
            kind,
        }
    }

    fn example(json: bool) -> String {
        let context = BuildContext {
            name: MAIN.to_owned(),
            root: "/w/etl".into(),
            ignore: Some(IgnoreFile {
                path: "/w/etl/.dockerignore".into(),
                text: String::new(),
                lines: vec![],
            }),
        };
        let named = BuildContext {
            name: "libs".to_owned(),
            root: "/w".into(),
            ignore: None,
        };
        let link = Kind::Symlink {
            target: "../x".to_owned(),
        };
        let second = Entry {
            hard_link: Some("d/run".to_owned()),
            ..entry("z", Kind::File, 0o755)
        };
        let entries = vec![
            entry("d", Kind::Directory, (1 << 31) | (1 << 20) | 0o777),
            entry("d/run", Kind::File, (1 << 23) | 0o755),
            entry("l\u{1b}[2J\n", link, (1 << 27) | 0o777),
            second,
        ];
        let base = Path::new("/w");
        let mut known = key::Inputs::default();
        known.set("arg:TOKEN", key::sha256(b"hunter2"));
        known.set("attribute:add-hosts", "a=1\nb");
        known.set("dockerfile", "c".repeat(40));
        let unknown = [Unknown {
            input: Some("image:python:3.11".into()),
            why: "its base image `python:3.11` is not known: no answer within 15 s".into(),
        }];
        let inputs = Listing {
            container: "etl",
            key: None,
            inputs: &known,
            unknown: &unknown,
            contexts: vec![
                ContextFiles::new(&context, entries, base),
                ContextFiles::new(&named, vec![], base),
            ],
        };
        if json { inputs.json() } else { inputs.human() }
    }

    #[test]
    fn people_get_tables_that_no_name_can_garble() {
        insta::assert_snapshot!(example(false), @r"
        no key: its base image `python:3.11` is not known: no answer within 15 s
        INPUT                VALUE
        arg:TOKEN            f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7
        attribute:add-hosts  a=1\nb
        dockerfile           cccccccccccccccccccccccccccccccccccccccc
        image:python:3.11    not known

        context etl, without what etl/.dockerignore excludes
        TYPE       MODE  SIZE  ID                                        PATH
        directory  1777  0     -                                         d
        file       4755  5     abababababababababababababababababababab  d/run
        symlink    0777  5     -                                         l\u{1b}[2J\n -> ../x
        file       0755  5     abababababababababababababababababababab  z = d/run
        2 files, 10 bytes

        context libs: ., all of it
        empty
        ");
    }

    #[test]
    fn machines_get_names_as_they_are() {
        insta::assert_snapshot!(example(true), @r#"{"container":"etl","key":null,"inputs":{"arg:TOKEN":"f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7","attribute:add-hosts":"a=1\nb","dockerfile":"cccccccccccccccccccccccccccccccccccccccc"},"unknown":[{"input":"image:python:3.11","why":"its base image `python:3.11` is not known: no answer within 15 s"}],"contexts":[{"name":"context","root":"etl","ignore_file":"etl/.dockerignore","files":[{"path":"d","type":"directory","mode":"1777","size":0,"id":null},{"path":"d/run","type":"file","mode":"4755","size":5,"id":"abababababababababababababababababababab"},{"path":"l\u001b[2J\n","type":"symlink","mode":"0777","size":5,"id":null,"target":"../x"},{"path":"z","type":"file","mode":"0755","size":5,"id":"abababababababababababababababababababab","hard_link":"d/run"}]},{"name":"libs","root":".","ignore_file":null,"files":[]}]}"#);
    }
}

//! `containers.lock`: the digests that names of base images stand for, so that all who build take the same images until
//! somebody renews them.
//!
//! A TOML file beside the manifest: `version`, and under `[images]` a line for each image, sorted by its name in full, so
//! that two branches which lock different images merge. The digest of an image for several platforms is that of its list:
//! the file is the same whatever platform is built.
//!
//! What must stay true: a file that is damaged, or that another version may have meant otherwise, is an error with its
//! line, and is never replaced; it is written whole or not at all.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::atomic_file;
use crate::diagnostic::{Diagnostic, SourceText, Span};
use crate::reference::{Digest, ImageRef};

/// The version of the format.
const VERSION: u64 = 1;

/// The largest file, in bytes: room for more than ten thousand images.
const MAX_BYTES: u64 = 4 << 20;

const REMEDY: &str = "take it from git as it was, or delete it and run `skiff lock`";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Digests by the names of images in full, as `ImageRef` writes them, without digest.
    pub(crate) images: BTreeMap<String, Digest>,
}

impl Lock {
    /// Reads the file, which diagnostics call `shown`; `None`: there is none.
    pub(crate) fn read(path: &Path, shown: &str) -> Result<Option<Self>, Vec<Diagnostic>> {
        let failed = |why: &dyn std::fmt::Display| {
            vec![Diagnostic::error(format!("cannot read {shown}: {why}")).help(REMEDY)]
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(&"it is larger than 4 MiB"));
        }
        let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8"))?;
        parse(&SourceText::new(shown, text)).map(Some)
    }

    /// Writes the file whole.
    pub(crate) fn write(&self, path: &Path, shown: &str) -> Result<(), Diagnostic> {
        atomic_file::write(path, self.text().as_bytes()).map_err(|error| {
            Diagnostic::error(format!("cannot write {shown}: {error}"))
                .help("see that its folder may be written to")
        })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# The base images of this project. Written by skiff: `skiff lock --update` renews it.\n\
             version = {VERSION}\n\n[images]\n"
        );
        for (name, digest) in &self.images {
            // Neither names nor digests have characters that TOML would escape.
            let _ = writeln!(text, "\"{name}\" = \"{}\"", digest.as_str());
        }
        text
    }
}

/// All that is wrong with a text, or what it says.
fn parse(source: &Arc<SourceText>) -> Result<Lock, Vec<Diagnostic>> {
    let at = |range: Range<usize>| Span::new(source, range);
    if let Some(conflict) = conflict(source) {
        let error = Diagnostic::error(format!("{} has a conflict of a merge", source.name));
        let help = "keep the lines of both sides, one for each image, and run `skiff lock`";
        return Err(vec![error.at(conflict, "").help(help)]);
    }
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    if let Some(error) = errors.into_iter().next() {
        let place = at(error.span().unwrap_or(0..0));
        let title = format!("{} is damaged: {}", source.name, error.message());
        return Err(vec![Diagnostic::error(title).at(place, "").help(REMEDY)]);
    }
    let table = table.get_ref();
    version(table, source).map_err(|error| vec![error])?;
    let mut lock = Lock::default();
    let mut wrong = Vec::new();
    for (key, value) in table {
        match (key.get_ref().as_ref(), value.get_ref()) {
            ("version", _) => {}
            ("images", DeValue::Table(images)) => {
                for (name, digest) in images {
                    match entry(name, digest, source) {
                        Ok((name, digest)) => drop(lock.images.insert(name, digest)),
                        Err(error) => wrong.push(error),
                    }
                }
            }
            ("images", _) => wrong.push(
                Diagnostic::error("`images` is not a table")
                    .at(at(value.span()), "")
                    .help(REMEDY),
            ),
            (other, _) => wrong.push(
                Diagnostic::error(format!("a lock file has no `{other}`"))
                    .at(at(key.span()), "")
                    .help(REMEDY),
            ),
        }
    }
    if wrong.is_empty() {
        Ok(lock)
    } else {
        Err(wrong)
    }
}

/// The first mark that git left where two sides differ.
fn conflict(source: &Arc<SourceText>) -> Option<Span> {
    let lines = source.text.lines().enumerate();
    let mut marks = lines.filter(|(_, line)| {
        line.starts_with("<<<<<<<") || line.starts_with("=======") || line.starts_with(">>>>>>>")
    });
    let (number, _) = marks.next()?;
    Some(Span::new(source, source.line_range(number + 1)))
}

/// That this version of skiff knows what the file means.
fn version(table: &DeTable<'_>, source: &Arc<SourceText>) -> Result<(), Diagnostic> {
    let Some(said) = table.get("version") else {
        let error = Diagnostic::error(format!("{} is no lock file of skiff", source.name));
        return Err(error
            .at(Span::new(source, 0..0), "it has no `version`")
            .help(REMEDY));
    };
    let number = match said.get_ref() {
        DeValue::Integer(number) => number.as_str().parse::<u64>().ok(),
        _ => None,
    };
    match number {
        Some(VERSION) => Ok(()),
        Some(number) if number > VERSION => Err(Diagnostic::error(format!(
            "{} is of a newer skiff: its format has version {number}",
            source.name
        ))
        .at(
            Span::new(source, said.span()),
            format!("this skiff reads version {VERSION}"),
        )
        .help("update skiff")),
        _ => Err(Diagnostic::error("this is no version of a lock file")
            .at(
                Span::new(source, said.span()),
                format!("this skiff reads version {VERSION}"),
            )
            .help(REMEDY)),
    }
}

fn entry(
    name: &Spanned<DeString<'_>>,
    digest: &Spanned<DeValue<'_>>,
    source: &Arc<SourceText>,
) -> Result<(String, Digest), Diagnostic> {
    let wrong = |title: String, range| {
        Err(Diagnostic::error(title)
            .at(Span::new(source, range), "")
            .help("delete the line, and run `skiff lock`"))
    };
    let text = name.get_ref().as_ref();
    match text.parse::<ImageRef>() {
        Ok(image) if image.digest.is_none() && image.to_string() == text => {}
        Ok(image) if image.digest.is_none() => {
            let title = format!("`{text}` is not an image's name in full, which is `{image}`");
            return wrong(title, name.span());
        }
        Ok(_) => return wrong(format!("`{text}` has a digest of its own"), name.span()),
        Err(why) => return wrong(why.to_string(), name.span()),
    }
    let DeValue::String(said) = digest.get_ref() else {
        return wrong("a digest is a text".to_owned(), digest.span());
    };
    match Digest::new(said) {
        Ok(digest) => Ok((text.to_owned(), digest)),
        Err(why) => wrong(why.to_string(), digest.span()),
    }
}

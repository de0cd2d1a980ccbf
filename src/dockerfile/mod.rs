//! Dockerfiles, as far as skiff has to understand them before BuildKit does: stages, and the images they are made of.
//!
//! What must stay true: where BuildKit can build, reading here never stops a deploy, and no image is guessed. What
//! cannot be known is said ([`Unclear`]), what cannot be read is one [`Diagnostic`](crate::diagnostic::Diagnostic).
//!
//! The rules are those of BuildKit v0.32.2 (`frontend/dockerfile/{parser,instructions,shell,dockerfile2llb}`); v0.25.1,
//! the one in Docker Engine 28.5, has the same. Lines are read here and not by the crate `parse-dockerfile` 0.1.9,
//! since that one takes the body of `RUN cat <<EOF > file` for instructions (a `FROM` in it becomes a stage), lets
//! `RUN echo \\` swallow the next line, and refuses `ENTRYPOINT []`.

mod arguments;
mod heredoc;
mod image_use;
mod images;
mod instruction;
mod line;
pub(crate) mod mount;
mod parse;
mod pattern;
mod shell;
mod sources;

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{SourceText, Span};

pub(crate) use image_use::{ImageUse, ImageUses, Unclear, UnclearReason, UseKind};
pub(crate) use instruction::{Instruction, Word};
pub(crate) use line::syntax_directive;
pub(crate) use parse::parse;
pub(crate) use sources::{Reads, Sources};

/// A Dockerfile that has at least one stage.
#[derive(Debug, Clone)]
pub(crate) struct Dockerfile {
    pub source: Arc<SourceText>,
    /// The character that escapes and joins lines: `\`, or what `# escape=` says.
    pub escape: char,
    /// The `ARG` instructions before the first `FROM`: the only ones that `FROM` sees.
    pub global_args: Vec<Instruction>,
    /// In the file's order; never empty.
    pub stages: Vec<Stage>,
}

/// A `FROM` and what follows it, up to the next one.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    /// What follows `AS`, in lower case: stage names ignore case.
    pub name: Option<Word>,
    /// The image or stage as written, variables unexpanded.
    pub base: Word,
    pub instructions: Vec<Instruction>,
}

impl Dockerfile {
    pub(crate) fn span(&self, range: &Range<usize>) -> Span {
        Span::new(&self.source, range.clone())
    }

    /// The stage of this name, the last one where two have it, as `--target` and `COPY --from` find it.
    pub(crate) fn stage(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages
            .iter()
            .rposition(|stage| stage.name.as_ref().is_some_and(|n| n.text == name))
    }
}

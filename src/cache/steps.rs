//! The `RUN` steps of a Dockerfile, each with a hash of what decides whether a builder has it already, as far as a few files
//! say it: the instructions before it, and the plain files that these copy or mount. By it caches are compared, and versions
//! of cache mounts; no build is skipped for it.

use std::path::Path;

use crate::diagnostic::SourceText;
use crate::dockerfile::mount::{self, Mounted};
use crate::dockerfile::{self, Dockerfile, Instruction, UseKind};
use crate::manifest::model::{Container, Platform};
use crate::reference::Digest;

/// A step.
pub(super) struct Run<'a> {
    pub(super) instruction: &'a Instruction,
    /// The image that its stage begins with, variables expanded.
    pub(super) base: &'a str,
    pub(super) inputs: &'a Inputs,
}

/// The hashes of a container's steps, those that have one. Blocks: it reads the Dockerfile and a few files.
pub(crate) fn hashes(container: &Container, platform: &Platform) -> Vec<String> {
    let mut hashes = Vec::new();
    each_run(container, platform, |run| hashes.extend(run.inputs.hash()));
    hashes
}

/// Goes through the steps of all stages. What cannot be read has none.
pub(super) fn each_run(container: &Container, platform: &Platform, mut visit: impl FnMut(Run<'_>)) {
    let Ok(bytes) = std::fs::read(&container.dockerfile) else {
        return;
    };
    let source = SourceText::new("Dockerfile", String::from_utf8_lossy(&bytes));
    let Ok(dockerfile) = dockerfile::parse(&source) else {
        return;
    };
    let Ok(images) = dockerfile.images(&container.args, container.target.as_deref(), platform)
    else {
        return;
    };
    let base_of = |stage: usize| {
        let range = &dockerfile.stages[stage].base.range;
        let mut uses = images.uses.iter();
        let from = uses.find(|found| found.kind == UseKind::From && found.span.range == *range)?;
        Some(from.name.clone())
    };
    for index in 0..dockerfile.stages.len() {
        let chain = stages_below(&dockerfile, index);
        let Some(base) = chain.first().and_then(|first| base_of(*first)) else {
            continue;
        };
        let mut inputs = Inputs::new(container, platform, &base);
        for (at, stage) in chain.iter().enumerate() {
            for instruction in &dockerfile.stages[*stage].instructions {
                inputs.add(instruction, &source, &container.context);
                if at + 1 == chain.len() && instruction.keyword == "RUN" {
                    visit(Run {
                        instruction,
                        base: &base,
                        inputs: &inputs,
                    });
                }
            }
        }
    }
}

/// The stages that a stage continues, the first one first, and itself.
fn stages_below(dockerfile: &Dockerfile, stage: usize) -> Vec<usize> {
    let mut chain = vec![stage];
    let mut at = stage;
    loop {
        let base = dockerfile.stages[at].base.text.to_lowercase();
        let mut earlier = dockerfile.stages[..at].iter();
        let named = |s: &dockerfile::Stage| s.name.as_ref().is_some_and(|name| name.text == base);
        match earlier.rposition(named) {
            Some(below) => {
                chain.insert(0, below);
                at = below;
            }
            None => return chain,
        }
    }
}

/// What decides whether the builder has a step already, as far as a few files say it.
pub(super) struct Inputs {
    said: Option<Vec<u8>>,
}

impl Inputs {
    fn new(container: &Container, platform: &Platform, base: &str) -> Self {
        let args = &container.args;
        Self {
            said: Some(format!("{platform}\0{base}\0{args:?}\0").into_bytes()),
        }
    }

    /// An instruction, and the files that it copies or mounts from the context.
    fn add(&mut self, instruction: &Instruction, source: &SourceText, context: &Path) {
        let Some(said) = &mut self.said else { return };
        said.extend(source.text[instruction.range()].as_bytes());
        match instruction.keyword.as_str() {
            "RUN" => {
                for (_, flag) in instruction.flags_named("mount") {
                    match mount::reads(flag) {
                        Mounted::Nothing => {}
                        Mounted::Path(file) => self.file(file, context),
                        Mounted::Unclear => self.said = None,
                    }
                }
            }
            "COPY" | "ADD" if instruction.flags_named("from").next().is_none() => {
                let words: Vec<_> = instruction.words().map(|word| word.text).collect();
                for file in words.split_last().map_or(&[][..], |(_, files)| files) {
                    self.file(file, context);
                }
            }
            _ => {}
        }
    }

    /// One plain file of the context; a folder or a pattern may hold anything.
    fn file(&mut self, file: &str, context: &Path) {
        let Some(said) = &mut self.said else { return };
        let path = context.join(file.trim_start_matches('/'));
        let inside = path.canonicalize().ok();
        let inside = inside.filter(|path| path.starts_with(context) && path.is_file());
        let small = |path: &Path| path.metadata().is_ok_and(|m| m.len() <= MAX_FILE);
        match inside.filter(|path| small(path)).map(std::fs::read) {
            Some(Ok(bytes)) => said.extend(Digest::of(&bytes).as_str().as_bytes()),
            _ => self.said = None,
        }
    }

    pub(super) fn hash(&self) -> Option<String> {
        let said = self.said.as_ref()?;
        Some(Digest::of(said).short().to_owned())
    }
}

/// Largest file that is looked at, in bytes: lock files are smaller.
const MAX_FILE: u64 = 8 << 20;

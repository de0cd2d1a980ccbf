//! What a target reads of its build context: the sources of `COPY` and `ADD` and the bind mounts of every stage it is
//! made of.
//!
//! The rules are BuildKit's (v0.32.2, `dockerfile2llb/convert.go` `ctxPaths`, `convert_runmount.go`), which asks its client
//! for these paths and no others. What must stay true: never less than what BuildKit reads. Where a path cannot be told,
//! it is the whole context.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::{Arguments, quoted_words};
use super::image_use::ImageUses;
use super::mount::{self, Mounted};
use super::shell::{self, Rules, Variable};
use super::{Dockerfile, Instruction};
use crate::manifest::model::Platform;

/// Paths of a context, relative, as fsutil's follow list takes them: links are followed, the last name may have wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reads {
    Whole,
    /// Perhaps none.
    Paths(BTreeSet<String>),
}

/// What a target is made of beside images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    pub context: Reads,
    /// Variables that `context` was found with. A base image whose environment has one of them overrules it.
    pub variables: BTreeSet<String>,
    /// What an `ADD` fetches and nothing pins: the same Dockerfile may give another image tomorrow.
    pub unpinned: Option<String>,
}

impl Sources {
    /// Of a target for several platforms.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.context = match (self.context, other.context) {
            (Reads::Paths(mut all), Reads::Paths(more)) => {
                all.extend(more);
                Reads::Paths(all)
            }
            _ => Reads::Whole,
        };
        self.variables.extend(other.variables);
        self.unpinned = self.unpinned.or(other.unpinned);
        self
    }
}

/// The instructions of which is known what they read.
const KNOWN: [&str; 17] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

impl Dockerfile {
    /// For the stages that [`Dockerfile::images`] has found with the same arguments.
    pub(crate) fn sources(
        &self,
        build_args: &BTreeMap<String, String>,
        target: Option<&str>,
        platform: &Platform,
        uses: &ImageUses,
    ) -> Sources {
        let last = self.stages.last().and_then(|stage| stage.name.as_ref());
        let target = target.or(last.map(|name| name.text.as_str()));
        let mut reader = Reader {
            dockerfile: self,
            arguments: Arguments::new(self, build_args, target, platform),
            build_args,
            found: Sources {
                context: Reads::Paths(BTreeSet::new()),
                variables: BTreeSet::new(),
                unpinned: None,
            },
        };
        // Earlier stages first, since a stage continues with the variables of the one it is built from.
        let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
        for (&stage, &base) in &uses.stages {
            let mut scope = base
                .and_then(|base| scopes.get(&base))
                .cloned()
                .unwrap_or_default();
            reader.stage(stage, base, &mut scope);
            scopes.insert(stage, scope);
        }
        reader.found
    }
}

/// The variables of a stage so far.
#[derive(Debug, Clone, Default)]
struct Scope {
    /// `ENV` wins over `ARG`.
    env: BTreeMap<String, Variable>,
    args: BTreeMap<String, Variable>,
}

struct Reader<'a> {
    dockerfile: &'a Dockerfile,
    arguments: Arguments,
    build_args: &'a BTreeMap<String, String>,
    found: Sources,
}

impl Reader<'_> {
    fn stage(&mut self, stage: usize, base: Option<usize>, scope: &mut Scope) {
        let dockerfile = self.dockerfile;
        let triggers = base
            .iter()
            .flat_map(|base| &dockerfile.stages[*base].instructions)
            .filter_map(|instruction| instruction.trigger.as_deref());
        for instruction in triggers.chain(&dockerfile.stages[stage].instructions) {
            match instruction.keyword.as_str() {
                "ARG" => self.arg(instruction, scope),
                "ENV" => self.env(instruction, scope),
                "COPY" | "ADD" => self.copy(instruction, scope),
                "RUN" => self.run(instruction),
                keyword if KNOWN.contains(&keyword) => {}
                _ => self.found.context = Reads::Whole,
            }
        }
    }

    fn arg(&mut self, instruction: &Instruction, scope: &mut Scope) {
        for word in quoted_words(instruction.arguments(), self.dockerfile.escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(default)),
                None => (word.clone(), None),
            };
            let value = match (self.build_args.get(&name), default) {
                (Some(given), _) => Variable::Set(given.clone()),
                (None, Some(default)) => self
                    .expand(default, scope)
                    .map_or(Variable::Unknown, Variable::Set),
                (None, None) => self.arguments.value(&name),
            };
            scope.args.insert(name, value);
        }
    }

    fn env(&mut self, instruction: &Instruction, scope: &mut Scope) {
        let words = quoted_words(instruction.arguments(), self.dockerfile.escape);
        let pairs: Vec<(String, String)> = if words.first().is_some_and(|word| word.contains('=')) {
            let pairs = words.iter().filter_map(|word| word.split_once('='));
            pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        } else {
            // `ENV name all the rest`.
            let text = instruction.arguments();
            let pair = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            vec![(pair.0.to_owned(), pair.1.trim().to_owned())]
        };
        let values: Vec<_> = pairs
            .into_iter()
            .map(|(name, value)| {
                let value = self.expand(&value, scope);
                (name, value.map_or(Variable::Unknown, Variable::Set))
            })
            .collect();
        scope.env.extend(values);
    }

    fn copy(&mut self, instruction: &Instruction, scope: &Scope) {
        // From a stage, an image or a named context: not from this one.
        let mut from = instruction.flags_named("from");
        if instruction.keyword == "COPY" && from.any(|(_, value)| !value.is_empty()) {
            return;
        }
        let text = instruction.arguments();
        let words: Vec<String> = match serde_json::from_str::<Vec<String>>(text) {
            Ok(words) if text.starts_with('[') => words,
            _ => instruction.words().map(|word| word.text).collect(),
        };
        let Some((_, sources)) = words.split_last() else {
            return;
        };
        let adds = instruction.keyword == "ADD";
        let pinned = instruction.flags_named("checksum").next().is_some();
        for source in sources.iter().filter(|source| !source.starts_with("<<")) {
            let expanded = self.expand(source, scope);
            match &expanded {
                Some(path) if adds && is_remote(path) => {
                    if !pinned && !names_a_commit(path) {
                        self.found.unpinned.get_or_insert_with(|| path.clone());
                    }
                    // In case that it is a path after all.
                    if !path.contains("://") {
                        self.read(path);
                    }
                }
                Some(path) => self.read(path),
                None => {
                    if adds && !pinned {
                        self.found.unpinned.get_or_insert_with(|| source.clone());
                    }
                    self.found.context = Reads::Whole;
                }
            }
        }
    }

    fn run(&mut self, instruction: &Instruction) {
        for (_, mount) in instruction.flags_named("mount") {
            match mount::reads(mount) {
                Mounted::Nothing => {}
                Mounted::Path(path) => self.read(path),
                Mounted::Unclear => self.found.context = Reads::Whole,
            }
        }
    }

    fn read(&mut self, path: &str) {
        let path = crate::context::relative(path);
        match &mut self.found.context {
            Reads::Paths(_) if path == "." => self.found.context = Reads::Whole,
            Reads::Paths(paths) => {
                paths.insert(path);
            }
            Reads::Whole => {}
        }
    }

    /// `None`: a variable's value is not known here.
    fn expand(&mut self, word: &str, scope: &Scope) -> Option<String> {
        let rules = Rules {
            escape: self.dockerfile.escape,
            keep_quotes: false,
            keep_unset: false,
        };
        let asked = std::cell::RefCell::new(BTreeSet::new());
        let expanded = shell::expand(word, rules, &|name| {
            if let Some(value) = scope.env.get(name) {
                return value.clone();
            }
            match scope.args.get(name) {
                Some(Variable::Set(value)) => {
                    asked.borrow_mut().insert(name.to_owned());
                    Variable::Set(value.clone())
                }
                // A base image may have it in its environment.
                _ => Variable::Unknown,
            }
        });
        self.found.variables.extend(asked.into_inner());
        expanded.ok().map(|expanded| expanded.text)
    }
}

/// Whether `ADD` may fetch this from somewhere (BuildKit: `isHTTPSource`, `dfgitutil.ParseGitRef`).
fn is_remote(source: &str) -> bool {
    source.contains("://")
        || source.starts_with("github.com/")
        || source
            .split_once(':')
            .is_some_and(|(user, _)| user.contains('@'))
}

/// `…#<commit>` or `…?checksum=<commit>`: git's content cannot change under a full commit id.
fn names_a_commit(source: &str) -> bool {
    let commit =
        |text: &str| matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let fragment = source.split_once('#').map(|(_, fragment)| fragment);
    fragment.is_some_and(|f| commit(f.split(':').next().unwrap_or_default()))
        || source
            .split(['?', '&'])
            .filter_map(|part| part.strip_prefix("checksum="))
            .any(|value| commit(value.split('#').next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::SourceText;
    use crate::dockerfile::parse;
    use proptest::prelude::*;

    fn sources(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Sources {
        let args = args
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let platform = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        };
        let dockerfile = parse(&SourceText::new("Dockerfile", text)).unwrap();
        let uses = dockerfile.images(&args, target, &platform).unwrap();
        dockerfile.sources(&args, target, &platform, &uses)
    }

    fn reads(text: &str) -> String {
        match sources(text, &[], None).context {
            Reads::Whole => "all".into(),
            Reads::Paths(paths) => paths.into_iter().collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn paths_are_those_of_copy_add_and_bind_mounts() {
        let text = "FROM a AS x\nCOPY --link src/ ./b /app/\nCOPY [\"with blank\", \"/c/../d\", \"/\"]\n\
                    ADD *.tar <<EOF /x/\nCOPY gone /\nEOF\nCOPY --from=b /not /\n\
                    RUN --mount=type=cache,target=/c --mount=type=bind,src=req.txt,target=/r --mount=type=secret,id=s x\n\
                    RUN --mount=from=b,source=/not,target=/y x\n";
        assert_eq!(reads(text), "*.tar b d req.txt src with blank");
        for text in [
            "FROM a\nCOPY . /",
            "FROM a\nCOPY a/.. /",
            "FROM a\nRUN --mount=target=/src x",
            "FROM a\nRUN --mount=type=tmpfs,target=/src x",
            "FROM a\nRUN --mount=type=$T,target=/src x",
            "FROM a\nCOPY $X /",
            "FROM a\nPASTE x /",
        ] {
            assert_eq!(reads(text), "all", "{text}");
        }
        assert_eq!(reads("FROM a\nRUN x"), "");
    }

    #[test]
    fn only_stages_of_the_target_read() {
        let text = "FROM a AS one\nCOPY one /\nFROM b AS two\nCOPY two /\nFROM one AS three\nCOPY three /\nCOPY --from=two / /";
        let of = |target| match sources(text, &[], Some(target)).context {
            Reads::Paths(paths) => paths.into_iter().collect::<Vec<_>>(),
            Reads::Whole => vec![],
        };
        assert_eq!(of("one"), ["one"]);
        assert_eq!(of("two"), ["two"]);
        assert_eq!(of("three"), ["one", "three", "two"]);
        assert_eq!(reads("FROM a AS x\nONBUILD COPY later /\nFROM x"), "later");
        assert_eq!(reads("FROM a\nONBUILD COPY later /"), "");
    }

    #[test]
    fn variables_of_the_stage_are_expanded_and_remembered() {
        let text = "ARG G=g\nFROM a AS x\nARG A=1 B G\nENV E=$A-e\nFROM x\nCOPY $A/$B/${G} $E /";
        let found = sources(text, &[("B", "2")], None);
        assert_eq!(
            found.context,
            Reads::Paths(["1-e", "1/2/g"].map(String::from).into())
        );
        assert_eq!(
            found.variables.into_iter().collect::<Vec<_>>(),
            ["A", "B", "G"]
        );
        // Set in the base image or nowhere: not known.
        assert_eq!(reads("FROM a\nARG A\nCOPY src$A /"), "all");
        assert_eq!(reads("FROM a\nARG A\nENV A=x\nCOPY src$A /"), "srcx");
    }

    #[test]
    fn what_is_fetched_must_be_pinned() {
        let unpinned = |line: &str| sources(&format!("FROM a\n{line}"), &[], None).unpinned;
        for line in [
            "ADD https://x/y /",
            "ADD git@github.com:a/b.git /",
            "ADD https://github.com/a/b.git#main /",
            "ADD github.com/a/b /",
            "ADD $URL /",
        ] {
            assert!(unpinned(line).is_some(), "{line}");
        }
        let commit = "0123456789012345678901234567890123456789";
        for line in [
            "ADD --checksum=sha256:00 https://x/y /".to_owned(),
            format!("ADD https://github.com/a/b.git#{commit}:sub /"),
            format!("ADD https://github.com/a/b.git?ref=v1&checksum={commit} /"),
            "ADD file.tar /".to_owned(),
            "COPY a:b /".to_owned(),
        ] {
            assert_eq!(unpinned(&line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            text in "(COPY |ADD |RUN |ENV |ARG |--mount=|--from=|type=|src=|<<E|\\[\"|[$\\{}'\"=,/. \n]|\\PC)*"
        ) {
            let source = SourceText::new("Dockerfile", format!("FROM a\n{text}"));
            if let Ok(dockerfile) = parse(&source) {
                let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
                let args = BTreeMap::new();
                let uses = dockerfile.images(&args, None, &platform).unwrap();
                dockerfile.sources(&args, None, &platform, &uses);
            }
        }
    }
}

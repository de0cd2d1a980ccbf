//! Which images a Dockerfile's target is made of: what `FROM`, `COPY --from` and `RUN --mount=from=` name, stages
//! followed and variables expanded.
//!
//! BuildKit's rules (v0.32.2, `dockerfile2llb/convert.go` and `convert_runmount.go`; the same in v0.25.1):
//!
//! | names an image | variables | a stage of that name |
//! |---|---|---|
//! | `FROM` | global `ARG`s, the platform's | an earlier one; a later one does not count |
//! | `COPY --from` | none: an error there | any, by name or number; a later one is an error there |
//! | `RUN --mount=from=` | none: an error there | any, by name only; a later one is an error there |
//!
//! `ADD` reads no image. An `ONBUILD` of a stage runs in the stages built from it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::arguments::Arguments;
use super::image_use::{ImageUse, ImageUses, Unclear, UnclearReason, UnknownTarget, UseKind};
use super::shell::{self, Rules, Variable};
use super::{Dockerfile, Instruction, mount};
use crate::diagnostic::nearest;
use crate::manifest::model::Platform;
use crate::reference::ImageRef;

/// The image without content; BuildKit looks for no image of this name.
const SCRATCH: &str = "scratch";

impl Dockerfile {
    /// Every image that the stages of this target use, the last stage being the target unless it is named. (BuildKit
    /// finds targets by name only.)
    pub(crate) fn images(
        &self,
        build_args: &BTreeMap<String, String>,
        target: Option<&str>,
        platform: &Platform,
    ) -> Result<ImageUses, UnknownTarget> {
        let last = self.stages.len() - 1;
        let index = match target {
            Some(name) => self.stage(name).ok_or_else(|| self.unknown_target(name))?,
            None => last,
        };
        let last_name = self.stages[last].name.as_ref().map(|n| n.text.as_str());
        let arguments = Arguments::new(self, build_args, target.or(last_name), platform);
        let mut reader = Reader {
            dockerfile: self,
            arguments,
            found: ImageUses::default(),
        };
        reader.read_all(index);
        Ok(reader.found)
    }

    /// What there is to say when no stage has this name.
    pub(crate) fn unknown_target(&self, target: &str) -> UnknownTarget {
        let names = self.stages.iter().filter_map(|s| s.name.as_ref());
        let names: Vec<_> = names.map(|n| n.text.as_str()).collect();
        UnknownTarget {
            target: target.to_owned(),
            dockerfile: self.source.name.clone(),
            nearest: nearest(target, names.iter().copied()).map(str::to_owned),
            stages: names.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Text that may name an image or a stage.
#[derive(Clone)]
struct Mention<'a> {
    text: &'a str,
    kind: UseKind,
    range: Range<usize>,
}

struct Reader<'a> {
    dockerfile: &'a Dockerfile,
    arguments: Arguments,
    found: ImageUses,
}

impl Reader<'_> {
    /// Follows the stages from the target; what was found is in the file's order at the end.
    fn read_all(&mut self, target: usize) {
        for instruction in &self.dockerfile.stages[target].instructions {
            let trigger = instruction.trigger.as_deref();
            for mention in trigger.into_iter().flat_map(mentions).flatten() {
                self.unclear(&mention, UnclearReason::OnBuild);
            }
        }
        let mut waiting = vec![target];
        let mut seen = BTreeSet::new();
        while let Some(stage) = waiting.pop() {
            if seen.insert(stage) {
                waiting.extend(self.read(stage));
            }
        }
        self.found.uses.sort_by_key(|u| u.span.range.start);
        self.found.uses.dedup();
        self.found.unclear.sort_by_key(|u| u.span.range.start);
        self.found.unclear.dedup();
    }

    /// The stages that this one is made of.
    fn read(&mut self, stage: usize) -> Vec<usize> {
        let dockerfile = self.dockerfile;
        let base = self.base(stage);
        self.found.stages.insert(stage, base);
        let triggers = base
            .iter()
            .flat_map(|base| &dockerfile.stages[*base].instructions)
            .filter_map(|instruction| instruction.trigger.as_deref());
        let mut stages: Vec<_> = base.into_iter().collect();
        for instruction in triggers.chain(&dockerfile.stages[stage].instructions) {
            for mention in mentions(instruction) {
                match mention {
                    Ok(mention) => stages.extend(self.source(stage, &mention)),
                    Err((mention, reason)) => {
                        self.unclear(&mention, UnclearReason::Expression(reason.into()));
                    }
                }
            }
        }
        stages
    }

    /// The earlier stage that a stage continues, or else its image.
    fn base(&mut self, stage: usize) -> Option<usize> {
        let base = &self.dockerfile.stages[stage].base;
        let mention = Mention {
            text: &base.text,
            kind: UseKind::From,
            range: base.range.clone(),
        };
        let expanded = match self.arguments.expand(&base.text) {
            Ok(expanded) => expanded,
            Err(problem) => {
                self.unclear(&mention, UnclearReason::Expression(problem.to_string()));
                return None;
            }
        };
        // BuildKit compares case here, yet a name in upper case can only be meant for a stage: it is no image name.
        let name = expanded.text.to_lowercase();
        let earlier = &self.dockerfile.stages[..stage];
        let found = earlier
            .iter()
            .rposition(|s| s.name.as_ref().is_some_and(|n| n.text == name));
        if found.is_some() || expanded.text == SCRATCH {
            return found;
        }
        // A variable without value is nothing, as in BuildKit; that may or may not leave an image's name.
        if expanded.unset.is_empty() || expanded.text.parse::<ImageRef>().is_ok() {
            self.image(&mention, expanded.text);
        } else {
            self.unclear(&mention, UnclearReason::Unset(expanded.unset));
        }
        None
    }

    /// The stage that a `--from` names, or else its image.
    fn source(&mut self, stage: usize, mention: &Mention<'_>) -> Option<usize> {
        if mention.kind == UseKind::CopyFrom && !self.is_literal(mention.text) {
            let reason =
                "BuildKit expands nothing in `COPY --from`: name it by a stage with `FROM`";
            self.unclear(mention, UnclearReason::Expression(reason.into()));
            return None;
        }
        let by_number = match mention.kind {
            UseKind::CopyFrom => mention.text.parse::<i64>().ok(),
            UseKind::From | UseKind::Mount => None,
        };
        let found = match by_number {
            Some(number) => usize::try_from(number)
                .ok()
                .filter(|n| *n < self.dockerfile.stages.len()),
            None => self.dockerfile.stage(mention.text),
        };
        match found {
            Some(source) if source < stage => return Some(source),
            Some(_) => self.unclear(mention, UnclearReason::NotEarlier),
            None if by_number.is_some() => self.unclear(mention, UnclearReason::NoSuchStage),
            None if mention.text == SCRATCH => {}
            None => self.image(mention, mention.text.to_owned()),
        }
        None
    }

    /// Whether the shell's rules leave the text as it is.
    fn is_literal(&self, text: &str) -> bool {
        let rules = Rules {
            escape: self.dockerfile.escape,
            keep_quotes: false,
            keep_unset: false,
        };
        shell::expand(text, rules, &|_| Variable::Unset).is_ok_and(|e| e.text == text)
    }

    fn image(&mut self, mention: &Mention<'_>, name: String) {
        if let Err(invalid) = name.parse::<ImageRef>() {
            return self.unclear(mention, UnclearReason::Expression(invalid.to_string()));
        }
        let mut found = ImageUse {
            name,
            kind: mention.kind,
            span: self.dockerfile.span(&mention.range),
            hidden_by: None,
        };
        found.hidden_by = found
            .context_name()
            .and_then(|name| self.dockerfile.stage(name))
            .and_then(|stage| self.dockerfile.stages[stage].name.as_ref())
            .map(|name| self.dockerfile.span(&name.range));
        self.found.uses.push(found);
    }

    fn unclear(&mut self, mention: &Mention<'_>, reason: UnclearReason) {
        self.found.unclear.push(Unclear {
            text: mention.text.to_owned(),
            kind: mention.kind,
            span: self.dockerfile.span(&mention.range),
            reason,
        });
    }
}

/// What an instruction reads from stages or images, or what keeps it from being told.
fn mentions(instruction: &Instruction) -> Vec<Result<Mention<'_>, (Mention<'_>, &'static str)>> {
    let (name, kind) = match instruction.keyword.as_str() {
        "COPY" => ("from", UseKind::CopyFrom),
        "RUN" => ("mount", UseKind::Mount),
        _ => return Vec::new(),
    };
    let mut mentions = Vec::new();
    for (flag, value) in instruction.flags_named(name) {
        let mention = |text| Mention {
            text,
            kind,
            range: flag.range.clone(),
        };
        let from = match kind {
            UseKind::Mount => mount::from(value),
            UseKind::From | UseKind::CopyFrom => Ok(Some(value).filter(|v| !v.is_empty())),
        };
        match from {
            Ok(from) => mentions.extend(from.map(|from| Ok(mention(from)))),
            Err(reason) => mentions.push(Err((mention(value), reason))),
        }
    }
    mentions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{SourceText, human};
    use crate::dockerfile::parse;

    fn read(
        text: &str,
        args: &[(&str, &str)],
        target: Option<&str>,
    ) -> Result<ImageUses, UnknownTarget> {
        let args = args
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let platform = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        };
        let source = SourceText::new("Dockerfile", text);
        parse(&source).unwrap().images(&args, target, &platform)
    }

    /// The names, with what stands at their places.
    fn uses(text: &str, args: &[(&str, &str)], target: Option<&str>) -> Vec<String> {
        let found = read(text, args, target).unwrap();
        assert_eq!(found.unclear, [], "{text}");
        let shown = found.uses.iter().map(|u| {
            let place = &text[u.span.range.clone()];
            format!("{:?} {} at {place}", u.kind, u.name)
        });
        shown.collect()
    }

    fn unclear(text: &str) -> Vec<UnclearReason> {
        let found = read(text, &[], None).unwrap().unclear;
        found.into_iter().map(|u| u.reason).collect()
    }

    #[test]
    fn every_way_to_use_an_image_is_found() {
        let text = "ARG V=3.11\nFROM python:${V} AS deps\nRUN --mount=type=cache,target=/c \\\n  \
                    --mount=from=tools,target=/t \\\n  x\nCOPY --link --from=base:latest /a /b\nADD https://x /y\n\
                    FROM scratch\nCOPY --from=deps / /\nCOPY --from=scratch / /\n";
        assert_eq!(
            uses(text, &[("V", "3.12")], None),
            [
                "From python:3.12 at python:${V}",
                "Mount tools at --mount=from=tools,target=/t",
                "CopyFrom base:latest at --from=base:latest",
            ]
        );
    }

    #[test]
    fn only_what_the_target_reaches_counts() {
        let text =
            "FROM a AS one\nFROM b AS two\nFROM c AS three\nCOPY --from=0 / /\nFROM d AS four\n";
        assert_eq!(
            uses(text, &[], Some("THREE")),
            ["From a at a", "From c at c"]
        );
        assert_eq!(uses(text, &[], Some("two")), ["From b at b"]);
        assert_eq!(uses(text, &[], None), ["From d at d"]);
    }

    #[test]
    fn a_stage_shadows_an_image_only_further_down() {
        assert_eq!(
            uses(
                "FROM a AS Base\nFROM BASE\nRUN --mount=from=baSe x",
                &[],
                None
            ),
            ["From a at a"]
        );
        let found = read("FROM base AS x\nFROM x AS base\n", &[], None).unwrap();
        assert_eq!(found.uses[0].name, "base");
        assert_eq!(found.uses[0].hidden_by.as_ref().unwrap().range, 25..29);
        assert!(
            read("FROM base AS x", &[], None).unwrap().uses[0]
                .hidden_by
                .is_none()
        );
    }

    #[test]
    fn numbers_are_stages_for_copy_and_images_for_mounts() {
        assert_eq!(
            uses(
                "FROM a\nFROM b\nCOPY --from=0 / /\nRUN --mount=from=0 x",
                &[],
                None
            ),
            ["From a at a", "From b at b", "Mount 0 at --mount=from=0"]
        );
        assert_eq!(
            unclear("FROM a\nCOPY --from=7 / /\nCOPY --from=-1 / /"),
            [UnclearReason::NoSuchStage, UnclearReason::NoSuchStage]
        );
    }

    #[test]
    fn a_stage_that_comes_later_is_an_error_of_buildkit_not_an_image() {
        let text = "FROM a AS x\nCOPY --from=later / /\nRUN --mount=from=x y\nFROM x AS later";
        assert_eq!(
            unclear(text),
            [UnclearReason::NotEarlier, UnclearReason::NotEarlier]
        );
    }

    #[test]
    fn triggers_run_in_the_stages_built_from_theirs() {
        let text = "FROM a AS x\nONBUILD COPY --from=tools / /\nFROM x AS y\nFROM y\n";
        assert_eq!(
            uses(text, &[], None),
            ["From a at a", "CopyFrom tools at --from=tools"]
        );
        assert_eq!(
            unclear("FROM a AS x\nONBUILD RUN --mount=from=tools x"),
            [UnclearReason::OnBuild]
        );
    }

    #[test]
    fn variables_without_value_are_nothing_when_a_name_remains() {
        let text = "ARG SUFFIX\nFROM base$SUFFIX";
        assert_eq!(uses(text, &[], None), ["From base at base$SUFFIX"]);
        assert_eq!(
            uses(text, &[("SUFFIX", "-gpu")], None),
            ["From base-gpu at base$SUFFIX"]
        );
        for text in ["FROM python:$V", "FROM $V"] {
            assert_eq!(unclear(text), [UnclearReason::Unset(vec!["V".into()])]);
        }
    }

    #[test]
    fn what_cannot_be_known_is_said_and_not_guessed() {
        for text in [
            "FROM tools-$BUILDARCH",
            "FROM ${V:?set-it}",
            "FROM ${V",
            "ARG V\nFROM \"$V\"\"\"",
            "FROM a/B:1",
            "ARG V=1\nFROM a\nCOPY --from=b:$V / /",
            "FROM a\nCOPY --from='\"b\"' / /",
            "FROM a\nRUN --mount=from=b:$V x",
        ] {
            assert_eq!(unclear(text).len(), 1, "{text}");
        }
        let found = read("FROM python:$V", &[], None).unwrap();
        insta::assert_snapshot!(human::render(&[found.unclear[0].diagnostic()], human::Screen::default()), @r"
        warning: cannot tell which image `python:$V` is
         --> Dockerfile:1:6
          |
        1 | FROM python:$V
          |      ^^^^^^^^^ no value for `V`
          |
          = help: if it is a container of this project, name it in `needs`
        ");
    }

    #[test]
    fn an_unknown_target_names_the_nearest_and_all() {
        let error = read("FROM a AS build\nFROM b AS runtime", &[], Some("runtme")).unwrap_err();
        assert_eq!(error.nearest.as_deref(), Some("runtime"));
        insta::assert_snapshot!(human::render(&[error.diagnostic()], human::Screen::default()), @r"
        error: Dockerfile has no stage `runtme`
         |
         = note: its stages: build, runtime
         = help: did you mean `runtime`?
        ");
        let error = read("FROM a", &[], Some("0")).unwrap_err();
        insta::assert_snapshot!(human::render(&[error.diagnostic()], human::Screen::default()), @r"
        error: Dockerfile has no stage `0`
         |
         = note: none of its stages has a name
         = help: name the stage: `FROM … AS name`
        ");
    }

    #[test]
    fn a_context_is_found_under_the_familiar_name() {
        for (image, name) in [
            ("base", Some("base")),
            ("base:latest", Some("base")),
            ("library/base", Some("base")),
            ("docker.io/base", Some("base")),
            ("docker.io/library/base:latest", Some("base")),
            ("index.docker.io/library/base", Some("base")),
            ("base:1", None),
            ("team/base", None),
            ("quay.io/base", None),
            ("localhost:5000/base", None),
        ] {
            let found = read(&format!("FROM {image}"), &[], None).unwrap();
            assert_eq!(found.uses[0].context_name(), name, "{image}");
        }
    }
}

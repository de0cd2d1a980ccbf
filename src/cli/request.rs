//! From the command line and the environment to what was asked for: validated, with no flag and no variable left to
//! interpret. Flags win over the environment.

use std::path::PathBuf;
use std::time::Duration;

use super::args::{
    ColorArg, DeployArgs, FormatArg, Global, PlanArgs, PlanFormatArg, ProgressArg, WhyArgs,
};
use crate::clock;
use crate::diagnostic::Diagnostic;
use crate::engine::stall;
use crate::environment::Environment;
use crate::manifest;
use crate::manifest::model::Platform;
use crate::plan::ImageOutput;
use crate::plan_file::PlanFile;
use crate::reference::Tag;
use crate::release::channel::ChannelRequest;
use crate::report::Progress;

/// Which containers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    All {
        reason: &'static str,
    },
    Named(Vec<String>),
    /// Those of a plan: all, or these.
    Planned(Vec<String>),
    /// Those that changed.
    Changed {
        /// `--since`.
        since: Option<String>,
    },
}

/// What holds for every command.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The manifest, if it was named.
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) progress: Progress,
    pub(crate) events: Option<PathBuf>,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct DeployRequest {
    pub(crate) selection: Selection,
    pub(crate) dry_run: bool,
    /// Only the plan is wanted, and how.
    pub(crate) plan: Option<PlanRequest>,
    /// What was found out before is to be done.
    pub(crate) given: Option<PlanFile>,
    pub(crate) no_cache: bool,
    /// The command line gives names: they go to what is not built again too.
    pub(crate) tag_unchanged: bool,
    pub(crate) jobs: Option<usize>,
    pub(crate) channels: ChannelRequest,
    pub(crate) force_promote: bool,
    /// For the record.
    pub(crate) reason: Option<String>,
    pub(crate) release: Tag,
    /// Nobody gave the release its name: it is the time.
    pub(crate) named_by_clock: bool,
    /// Immutable tags for every released container.
    pub(crate) tags: Vec<Tag>,
    /// Instead of the manifest's; empty: as the manifest says.
    pub(crate) platforms: Vec<Platform>,
    pub(crate) keep_going: bool,
    pub(crate) output: ImageOutput,
    /// The longest silence of the builder's own work.
    pub(crate) stall: Duration,
    pub(crate) metadata_file: Option<PathBuf>,
    /// Addresses, or a driver.
    pub(crate) builder: Vec<String>,
}

/// How a plan is told.
#[derive(Debug)]
pub(crate) enum PlanRequest {
    Plan {
        format: PlanFormatArg,
        out: Option<PathBuf>,
    },
    /// Of one container, in full.
    Why { name: String, format: FormatArg },
}

impl DeployRequest {
    pub(crate) fn plan(args: PlanArgs, environment: &Environment) -> Result<Self, Vec<Diagnostic>> {
        let plan = PlanRequest::Plan {
            format: args.format,
            out: args.out.map(|path| environment.directory.join(path)),
        };
        let request = Self::new(args.deploy, true, environment)?;
        Ok(Self {
            dry_run: true,
            plan: Some(plan),
            ..request
        })
    }

    pub(crate) fn why(args: WhyArgs, environment: &Environment) -> Result<Self, Vec<Diagnostic>> {
        let deploy = DeployArgs {
            names: vec![args.name.clone()],
            ..DeployArgs::default()
        };
        let request = Self::new(deploy, true, environment)?;
        Ok(Self {
            dry_run: true,
            plan: Some(PlanRequest::Why {
                name: args.name,
                format: args.format,
            }),
            ..request
        })
    }
}

impl Invocation {
    pub(crate) fn new(global: &Global, environment: &Environment) -> Result<Self, Diagnostic> {
        Ok(Self {
            manifest: global
                .file
                .as_ref()
                .map(|path| environment.directory.join(path)),
            progress: progress(global.progress, environment)?,
            events: global
                .events
                .as_ref()
                .map(|path| environment.directory.join(path)),
        })
    }
}

/// Whether diagnostics and summaries are coloured.
pub(crate) fn color(asked: ColorArg, environment: &Environment) -> bool {
    environment.color(match asked {
        ColorArg::Auto => None,
        ColorArg::Always => Some(true),
        ColorArg::Never => Some(false),
    })
}

fn progress(asked: ProgressArg, environment: &Environment) -> Result<Progress, Diagnostic> {
    Ok(match asked {
        ProgressArg::Auto if environment.can_redraw() => Progress::Terminal,
        ProgressArg::Tty if !environment.can_redraw() => {
            let why = if environment.stderr_is_terminal {
                "TERM says that this one cannot redraw"
            } else {
                "stderr is none"
            };
            let error = Diagnostic::error(format!("`--progress tty` needs a terminal, and {why}"));
            return Err(error.help("use `--progress auto`, which falls back to `plain`"));
        }
        ProgressArg::Tty => Progress::Terminal,
        ProgressArg::Auto | ProgressArg::Plain => Progress::Plain,
        ProgressArg::Json => Progress::Json,
        ProgressArg::Quiet => Progress::Quiet,
    })
}

impl DeployRequest {
    /// `promote`: `false` for `skiff build`.
    pub(crate) fn new(
        args: DeployArgs,
        promote: bool,
        environment: &Environment,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        if args.channel.is_some() && !promote {
            errors.push(
                Diagnostic::error("`skiff build` moves no channel")
                    .help("use `skiff deploy --channel NAME`"),
            );
        }
        let channel = args.channel.as_deref().map(Tag::new).transpose();
        let channel =
            channel.map_err(|error| errors.push(Diagnostic::error(format!("--channel: {error}"))));
        let given = args.plan.as_ref().map(|path| {
            let given = PlanFile::read(&environment.directory.join(path));
            given.map_err(|error| errors.push(error))
        });
        let given = given.transpose().unwrap_or_default();
        let release = match &given {
            Some(plan) => Ok(plan.release.clone()),
            None => {
                release(args.release.as_deref(), environment).map_err(|error| errors.push(error))
            }
        };
        let mut tags = given
            .iter()
            .flat_map(|plan| plan.tags.clone())
            .collect::<Vec<_>>();
        for text in &args.tag {
            match Tag::new(text) {
                Ok(tag) => tags.push(tag),
                Err(error) => errors.push(Diagnostic::error(format!("--tag: {error}"))),
            }
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for text in &args.platform {
            match platform(text) {
                Ok(platform) if platforms.contains(&platform) => {}
                Ok(platform) => platforms.push(platform),
                Err(error) => errors.push(error),
            }
        }
        let stall = stall_timeout(environment).map_err(|error| errors.push(error));
        let (Ok(channel), Ok(release), Ok(stall), true) =
            (channel, release, stall, errors.is_empty())
        else {
            return Err(errors);
        };
        let told = args.release.is_some() || environment.get("TIMESTAMP").is_some();
        let named_by_clock = given.is_none() && !told;
        let named = !args.names.is_empty() || !tags.is_empty() || args.release.is_some();
        let tag_unchanged = match &given {
            Some(plan) => plan.tag_unchanged,
            None => named || environment.get("TIMESTAMP").is_some(),
        };
        Ok(Self {
            selection: if given.is_some() {
                Selection::Planned(args.names)
            } else if args.all {
                Selection::All { reason: "--all" }
            } else if args.names.is_empty() {
                Selection::Changed { since: args.since }
            } else {
                Selection::Named(args.names)
            },
            dry_run: args.dry_run,
            plan: None,
            given,
            no_cache: args.no_cache,
            tag_unchanged,
            jobs: args.jobs.map(usize::from),
            channels: ChannelRequest {
                no_promote: args.no_promote || args.no_push || !promote,
                channel,
                allow_dirty: args.allow_dirty,
            },
            force_promote: args.force_promote,
            reason: args.reason,
            release,
            named_by_clock,
            tags,
            platforms,
            stall,
            keep_going: args.keep_going,
            output: ImageOutput {
                push: !args.no_push,
                load: args.load,
            },
            builder: args.builder,
            metadata_file: args
                .metadata_file
                .map(|path| environment.directory.join(path)),
        })
    }
}

fn stall_timeout(environment: &Environment) -> Result<Duration, Diagnostic> {
    let Some(text) = environment.get(stall::VARIABLE) else {
        return Ok(stall::DEFAULT);
    };
    let name = stall::VARIABLE;
    manifest::duration(text).map_err(|refusal| refused(&format!("{name}: `{text}`"), refusal))
}

/// An error with the grammar's own remedy.
fn refused(what: &str, (why, help): (String, Option<String>)) -> Diagnostic {
    let error = Diagnostic::error(format!("{what} {why}"));
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}

/// `--platform`.
fn platform(text: &str) -> Result<Platform, Diagnostic> {
    manifest::platform(text).map_err(|refusal| refused(&format!("--platform: `{text}`:"), refusal))
}

/// `--release`, else `TIMESTAMP`, else the time.
pub(super) fn release(flag: Option<&str>, environment: &Environment) -> Result<Tag, Diagnostic> {
    let (source, name) = match (flag, environment.get("TIMESTAMP")) {
        (Some(name), _) => ("--release", name.to_owned()),
        (None, Some(name)) => ("TIMESTAMP in the environment", name.to_owned()),
        (None, None) => return by_clock(),
    };
    named(source, &name)
}

/// The name of a release that nobody has named.
pub(super) fn by_clock() -> Result<Tag, Diagnostic> {
    let now = clock::timestamp().strftime("%Y%m%d-%H%M%S").to_string();
    named("the time", &now)
}

fn named(source: &str, name: &str) -> Result<Tag, Diagnostic> {
    Tag::new(name).map_err(|error| {
        Diagnostic::error(format!("{source}: {error}"))
            .help("give a name that is a tag, such as 20260131-120000")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// stderr and `TERM` as given.
    fn environment(terminal: bool, term: Option<&str>) -> Environment {
        let term = term.map(|term| ("TERM".to_owned(), term.to_owned()));
        Environment {
            variables: term.into_iter().collect(),
            directory: PathBuf::new(),
            stdout_is_terminal: false,
            stderr_is_terminal: terminal,
        }
    }

    #[test]
    fn the_live_view_is_for_terminals_that_can_redraw() {
        let auto = |terminal, term| {
            progress(ProgressArg::Auto, &environment(terminal, term)).map_err(|error| error.title)
        };
        assert_eq!(auto(true, Some("xterm")), Ok(Progress::Terminal));
        assert_eq!(auto(true, Some("dumb")), Ok(Progress::Plain));
        assert_eq!(auto(true, None), Ok(Progress::Plain));
        assert_eq!(auto(false, Some("xterm")), Ok(Progress::Plain));
    }

    #[test]
    fn a_live_view_that_is_asked_for_and_cannot_be_is_an_error() {
        let asked = |terminal, term| {
            progress(ProgressArg::Tty, &environment(terminal, term)).map_err(|error| error.title)
        };
        assert_eq!(asked(true, Some("xterm")), Ok(Progress::Terminal));
        insta::assert_snapshot!(asked(false, Some("xterm")).unwrap_err(), @"`--progress tty` needs a terminal, and stderr is none");
        insta::assert_snapshot!(asked(true, Some("dumb")).unwrap_err(), @"`--progress tty` needs a terminal, and TERM says that this one cannot redraw");
    }
}

//! The command line, as clap reads it. Nothing here decides anything.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Builds, caches and releases the changed containers of a monorepo.
#[derive(Debug, Parser)]
#[command(
    name = "skiff",
    version,
    max_term_width = 100,
    propagate_version = true
)]
#[command(
    after_help = "Exit codes: 0 all good; 1 a build or push failed; 2 usage, manifest or environment error before \
anything was done; 3 built and pushed, but a promotion that was due did not happen; 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The manifest [default: containers.toml, searched upwards]
    #[arg(short, long, global = true, alias = "manifest", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,

    /// How progress is shown
    #[arg(long, global = true, value_enum, default_value_t = ProgressArg::Auto, value_name = "MODE")]
    pub(crate) progress: ProgressArg,

    /// Also write every event to this file, one JSON object a line
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,

    /// Show causes of errors and skiff's own log; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Coloured output
    #[arg(long, global = true, value_enum, default_value_t = ColorArg::Auto, value_name = "WHEN")]
    pub(crate) color: ColorArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// tty where stderr is a terminal that can, else plain
    Auto,
    /// What is done now, redrawn in place; needs a terminal
    Tty,
    /// A line for everything that happens, on stderr
    Plain,
    /// Every event as a JSON object a line, on stdout
    #[value(alias = "rawjson")]
    Json,
    /// Warnings, failures and the summary only
    Quiet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build containers, push them and move their channels
    Deploy(DeployArgs),
    /// Build containers and push them; no channel moves (deploy --no-promote)
    Build(DeployArgs),
    /// Say what deploy would do, and why; nothing is done
    Plan(PlanArgs),
    /// Say what differs between the sources of a container and its published image
    Why(WhyArgs),
    /// List what a container is made from: its key with all that the key is made of, and the files that are sent as
    /// context, each with its hash
    ///
    /// Arguments and labels are shown as the hashes that the key has of them, secrets not at all. The digests of base
    /// images are asked for at their registries; where one does not answer, the key and that digest are told as not
    /// known, with the reason, and all the rest is listed: exit code 0.
    Inputs(InputsArgs),
    /// List what was released, promoted and rolled back
    Releases(ReleasesArgs),
    /// Show what each channel stands on, and whether its tags say the same
    Status(StatusArgs),
    /// Move a channel to a release; ends a hold
    Promote(PromoteArgs),
    /// Move a channel back to the set before, and hold it there until the next promote
    Rollback(RollbackArgs),
    /// Write the digests of base images to containers.lock; with `pin = true` builds use these
    Lock(LockArgs),
    /// See what the caches in the registry hold, and take away what nobody needs
    #[command(subcommand)]
    Cache(CacheCommand),
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Ask for the digests of images that are locked already, too
    #[arg(long)]
    pub(crate) update: bool,

    /// Of these images only, by their names in Dockerfiles [default: all]
    #[arg(value_name = "IMAGE", requires = "update")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List build caches and carried cache mounts: size, age, last use
    Ls(CacheArgs),
    /// Sum them up by container and kind
    Du(CacheArgs),
    /// Delete caches; tags that are no caches are never touched
    Prune(PruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Of these containers only [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = FormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) caches: CacheArgs,

    #[command(flatten)]
    pub(crate) criteria: CriteriaArgs,

    /// Print what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not ask; needed where nobody can be asked
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// Which caches: those for which all that is given holds.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct CriteriaArgs {
    /// Neither written nor, where the registry tells, read for this long, such as 14d
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<String>,

    /// Build caches of this branch; may be repeated
    #[arg(long, value_name = "BRANCH")]
    pub(crate) branch: Vec<String>,

    /// Build caches of branches that neither the remote nor this checkout has any more
    #[arg(long)]
    pub(crate) gone_branches: bool,

    /// Also what the next run would use: the caches that the channels' branches share, mounts that a Dockerfile has; and
    /// what belongs to no container of the manifest
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasesArgs {
    /// How many, the newest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = FormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// This channel only [default: the manifest's, and those that were moved by name]
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,

    /// How it is shown
    #[arg(long, value_enum, default_value_t = FormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// The release's name, as `skiff releases` lists it
    #[arg(value_name = "RELEASE", required_unless_present = "plan")]
    pub(crate) release: Option<String>,

    /// These containers of it only [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// The set of this plan (`skiff plan --out FILE`), once all of it is built: `deploy --plan FILE --no-promote`, by one job
    /// or by many
    #[arg(long, value_name = "FILE", conflicts_with = "release")]
    pub(crate) plan: Option<PathBuf>,

    /// Move the channel though it stands on a diverged, unknown or newer commit
    #[arg(long)]
    pub(crate) force_promote: bool,

    #[command(flatten)]
    pub(crate) moving: MoveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// These containers only [default: the set]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Back to this release [default: the set before this one]
    #[arg(long, value_name = "RELEASE")]
    pub(crate) to: Option<String>,

    #[command(flatten)]
    pub(crate) moving: MoveArgs,
}

/// What `promote` and `rollback` have in common.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// The channel [default: the manifest's, where it has one]
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,

    /// Print what would move, and move nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,

    /// Do not ask on a terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What deploy would be told
    #[command(flatten)]
    pub(crate) deploy: DeployArgs,

    /// How it is said
    #[arg(long, value_enum, default_value_t = PlanFormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: PlanFormatArg,

    /// Also write the plan to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormatArg {
    /// A table for people
    Human,
    /// One JSON object
    Json,
    /// A job matrix for GitHub Actions: what will be built
    GithubMatrix,
    /// A batch buildspec for AWS CodeBuild: what will be built, parents first
    CodebuildBatch,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// The container
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// How it is said
    #[arg(long, value_enum, default_value_t = FormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Args)]
pub(crate) struct InputsArgs {
    /// The container
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// How it is listed
    #[arg(long, value_enum, default_value_t = FormatArg::Human, value_name = "FORMAT")]
    pub(crate) format: FormatArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// Tables for people
    Human,
    /// One JSON object
    Json,
}

#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct DeployArgs {
    /// Containers by name; `all` is every one [default: those that changed]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Every container of the manifest
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,

    /// The containers that changed since this commit, branch or tag [default: since the last release, as far as that is known]
    #[arg(long, value_name = "REV", conflicts_with_all = ["names", "all"])]
    pub(crate) since: Option<String>,

    /// What this plan says (`skiff plan --out FILE`): its release, its base images, and of its containers all or those named
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "since", "release", "tag", "no_cache", "platform"])]
    pub(crate) plan: Option<PathBuf>,

    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Build all of the run anew: neither images that are there already nor the builder's cache are used
    #[arg(long)]
    pub(crate) no_cache: bool,

    /// Builds at a time, at most 40 [default: twice the builder's CPUs, 2 to 8]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=40))]
    pub(crate) jobs: Option<u16>,

    /// After a failure, go on with the containers that do not need the one that failed
    #[arg(long)]
    pub(crate) keep_going: bool,

    /// Build only: nothing is pushed, nothing is released
    #[arg(long, conflicts_with_all = ["channel", "tag"])]
    pub(crate) no_push: bool,

    /// Also put the images into the local engine, under the release's name
    #[arg(long)]
    pub(crate) load: bool,

    /// Push under the release's name only
    #[arg(long)]
    pub(crate) no_promote: bool,

    /// Add this immutable tag
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,

    /// Build for this platform instead of the manifest's, such as linux/arm64; several joined by commas
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,

    /// An address of a builder, several with commas between, or a driver (docker, docker-container)
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) builder: Vec<String>,

    /// Write what became of each container to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Move this channel, whatever the branch
    #[arg(long, value_name = "NAME", conflicts_with = "no_promote")]
    pub(crate) channel: Option<String>,

    /// Move channels though what they stand on is of a diverged, unknown or newer commit
    #[arg(long, conflicts_with = "no_promote")]
    pub(crate) force_promote: bool,

    /// Why, for the release's record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,

    /// Move channels though there are uncommitted changes
    #[arg(long)]
    pub(crate) allow_dirty: bool,

    /// The release's name [default: TIMESTAMP, or the time in UTC as YYYYMMDD-HHMMSS]
    #[arg(long, alias = "timestamp", value_name = "NAME")]
    pub(crate) release: Option<String>,
}

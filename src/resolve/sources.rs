//! Reads the contexts of many containers at once, from the disk and git's index.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::cancel::CancellationToken;
use crate::changes::index::Index;
use crate::context::filter::Filter;
use crate::context::ignore::IgnoreFile;
use crate::context::{ContextError, file_id::BlobId};
use crate::dockerfile::Reads;
use crate::key::Inputs;
use crate::key::tree::{Threads, Tree};
use crate::manifest::model::{Container, ContainerName};
use crate::project::Project;

/// What to read for a container.
struct Wanted {
    name: ContainerName,
    context: PathBuf,
    dockerfile: PathBuf,
    dockerfile_id: Option<BlobId>,
    reads: Reads,
    named: BTreeMap<String, PathBuf>,
    extra: Vec<String>,
}

impl Wanted {
    fn new(container: &Container, project: &Project) -> Self {
        let recipe = project.recipes.get(&container.name);
        Self {
            name: container.name.clone(),
            context: container.context.clone(),
            dockerfile: container.dockerfile.clone(),
            dockerfile_id: recipe.map(|recipe| recipe.dockerfile),
            reads: recipe.map_or(Reads::Whole, |recipe| recipe.sources.context.clone()),
            named: container.contexts.clone(),
            extra: container.extra_inputs.clone(),
        }
    }

    /// The same with all of the context.
    fn whole(self) -> Self {
        Self {
            reads: Reads::Whole,
            ..self
        }
    }
}

/// What the contexts of a container held.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    /// By local folder: the build context, and the named ones.
    pub(crate) contexts: BTreeMap<PathBuf, Tree>,
    /// What the key was made from.
    pub(crate) dockerfile: Option<BlobId>,
    context: Option<String>,
    named: BTreeMap<String, String>,
    extra: Option<String>,
    /// Not all of the context was read.
    part: bool,
}

impl Trees {
    pub(super) fn is_part(&self) -> bool {
        self.part
    }

    /// Adds what was read to the inputs of a key.
    pub(super) fn set(&self, inputs: &mut Inputs) {
        if let Some(id) = self.dockerfile {
            inputs.set("dockerfile", id.to_string());
        }
        if let Some(hash) = &self.context {
            inputs.set("context", hash);
        }
        for (name, hash) in &self.named {
            inputs.set(format!("context:{name}"), hash);
        }
        if let Some(hash) = &self.extra {
            inputs.set("extra_inputs", hash);
        }
    }
}

/// What was read, in the order of the questions.
type Answers = Vec<Result<Trees, String>>;

/// Contexts that are being read, on as many threads as there are processors. When nobody waits for it any more, nothing is
/// read any more.
pub(crate) struct Reading {
    names: Vec<ContainerName>,
    answers: JoinHandle<(Arc<Index>, Answers)>,
    _stop: DropGuard,
}

impl Reading {
    /// Begins to read those of these containers. `index` is called before; it may take its time.
    pub(crate) fn begin<'a>(
        project: &Project,
        names: impl IntoIterator<Item = &'a str>,
        index: impl FnOnce() -> Arc<Index> + Send + 'static,
    ) -> Self {
        let containers = names
            .into_iter()
            .filter_map(|name| project.manifest.containers.get(name));
        let wanted = containers.map(|container| Wanted::new(container, project));
        Self::of(wanted.collect(), project.manifest.root.clone(), index)
    }

    fn of(
        wanted: Vec<Wanted>,
        root: PathBuf,
        index: impl FnOnce() -> Arc<Index> + Send + 'static,
    ) -> Self {
        let names = wanted.iter().map(|wanted| wanted.name.clone()).collect();
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let answers = tokio::task::spawn_blocking(move || {
            let index = index();
            let answers = read_all(&wanted, &index, &root, &stop);
            (index, answers)
        });
        Self {
            names,
            answers,
            _stop: guard,
        }
    }

    /// Waits for the answers, by container.
    pub(super) async fn end(self) -> (Arc<Index>, BTreeMap<ContainerName, Result<Trees, String>>) {
        let count = self.names.len();
        let (index, answers) = self.answers.await.unwrap_or_else(|error| {
            let failed = |_| Err(format!("internal error ({error})"));
            (Arc::default(), (0..count).map(failed).collect())
        });
        (index, self.names.into_iter().zip(answers).collect())
    }
}

/// Reads all of the contexts of these containers.
pub(super) async fn read_whole(
    names: &[ContainerName],
    project: &Project,
    index: Arc<Index>,
) -> BTreeMap<ContainerName, Result<Trees, String>> {
    let containers = names
        .iter()
        .filter_map(|name| project.manifest.containers.get(name));
    let wanted = containers.map(|container| Wanted::new(container, project).whole());
    let reading = Reading::of(wanted.collect(), project.manifest.root.clone(), || index);
    reading.end().await.1
}

fn read_all(
    wanted: &[Wanted],
    index: &Arc<Index>,
    root: &Path,
    stop: &CancellationToken,
) -> Answers {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let of_each = if wanted.len() < threads {
        Threads::Own
    } else {
        Threads::None
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(wanted.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Relaxed);
                    let Some(wanted) = wanted.get(at) else {
                        return;
                    };
                    let trees = read_one(wanted, index, root, of_each, stop);
                    let trees = trees.map_err(|error| error.to_string());
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.insert(at, trees);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_values().collect()
}

fn read_one(
    wanted: &Wanted,
    index: &Arc<Index>,
    root: &Path,
    threads: Threads,
    stop: &CancellationToken,
) -> Result<Trees, ContextError> {
    let kept = |folder: &Path, dockerfile: Option<&Path>| {
        let file = IgnoreFile::of(folder, dockerfile)?;
        Ok::<_, ContextError>(file.as_ref().map(IgnoreFile::filter).unwrap_or_default())
    };
    let tree = |folder: &Path, filter: &Filter| {
        Tree::of(folder, filter, &*index.known(folder), threads, stop)
    };
    let mut trees = Trees {
        dockerfile: wanted.dockerfile_id,
        part: wanted.reads != Reads::Whole,
        ..Trees::default()
    };
    let follow = match &wanted.reads {
        Reads::Whole => Some(vec![]),
        Reads::Paths(paths) if paths.is_empty() => None,
        Reads::Paths(paths) => Some(paths.iter().cloned().collect()),
    };
    if let Some(follow) = follow {
        let filter = Filter {
            follow,
            ..kept(&wanted.context, Some(&wanted.dockerfile))?
        };
        let tree = tree(&wanted.context, &filter)?;
        trees.context = Some(tree.hash.clone());
        trees.contexts.insert(wanted.context.clone(), tree);
    }
    for (name, folder) in &wanted.named {
        let tree = tree(folder, &kept(folder, None)?)?;
        trees.named.insert(name.clone(), tree.hash.clone());
        trees.contexts.entry(folder.clone()).or_insert(tree);
    }
    if !wanted.extra.is_empty() {
        let filter = Filter {
            include: wanted.extra.clone(),
            exclude: vec!["**/.git".into()],
            ..Filter::default()
        };
        trees.extra = Some(tree(root, &filter)?.hash);
    }
    Ok(trees)
}

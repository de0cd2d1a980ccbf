//! Names that would mean two things in a registry: tags, channels, caches, release records.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::document::Said;
use super::model::Container;
use super::{grammar, pattern};
use crate::diagnostic::{Diagnostic, Span};
use crate::reference::{Repository, Tag};

/// What the checks look at beside the containers.
pub(super) struct Names<'a> {
    pub containers: &'a IndexMap<String, Container>,
    pub cache: Option<Span>,
    /// The place of `registry.untrusted`.
    pub untrusted: Option<Span>,
    pub state: &'a Repository,
    /// Each channel, with its place when it is written.
    pub channels: &'a [(Tag, Option<Span>)],
    /// The places of each container's tags, in the order of `Container::tags`.
    pub tags: &'a HashMap<String, Vec<Said<String>>>,
    pub span: &'a dyn Fn(&Said<String>) -> Span,
}

impl Names<'_> {
    pub(super) fn check(&self) -> Vec<Diagnostic> {
        let mut found = self.shared_repositories();
        found.extend(self.records());
        found.extend(self.containers.values().flat_map(|c| self.tags_of(c)));
        found.extend(self.caches());
        found.extend(self.untrusted());
        found
    }

    /// Tags in a shared repository begin with the container's name, which must not read as something else's.
    fn shared_repositories(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for container in self.containers.values().filter(|c| c.shared) {
            let (name, path) = (&container.name, container.repository.path());
            let help = "give the container another name, or put `{name}` in `repository`, such as \"team/{name}\"";
            let start = format!("{name}-");
            if let Some(own) = OWN_TAGS.iter().find(|own| start.starts_with(**own)) {
                let title = format!(
                    "tags of container `{name}` in the shared repository `{path}` would begin with `{own}`, as skiff's own do"
                );
                found.push(
                    Diagnostic::error(title)
                        .at(container.span.clone(), "")
                        .help(help),
                );
                continue;
            }
            for (channel, _) in self.channels {
                let why = match container.tag(channel) {
                    Err(why) => why.to_string(),
                    Ok(tag) => match container.mistaken_for(&tag, self.containers) {
                        Some(other) => {
                            format!("`{tag}` reads as a tag of container `{}`", other.name)
                        }
                        None => continue,
                    },
                };
                let title = format!(
                    "channel `{channel}` of container `{name}` has no tag in the shared repository `{path}`"
                );
                found.push(
                    Diagnostic::error(title)
                        .at(container.span.clone(), why)
                        .help(help),
                );
            }
        }
        found
    }

    fn records(&self) -> Option<Diagnostic> {
        let container = self
            .containers
            .values()
            .find(|c| &c.repository == self.state)?;
        let title = format!(
            "container `{}` would share the repository `{}` with the release records",
            container.name,
            self.state.path()
        );
        Some(
            Diagnostic::error(title)
                .at(container.span.clone(), "")
                .help("give the container another name"),
        )
    }

    /// What untrusted runs write to is nothing that trusted ones read, and no two containers' alike.
    fn untrusted(&self) -> Option<Diagnostic> {
        let trusted: HashMap<&Repository, &str> = (self.containers.values())
            .flat_map(|c| [&c.repository, &c.cache_repository].map(|r| (r, c.name.as_str())))
            .collect();
        let mut owners: HashMap<&Repository, &Container> = HashMap::new();
        for container in self.containers.values() {
            let (places, at) = (container.untrusted.as_ref()?, self.untrusted.clone()?);
            for repository in [&places.images, &places.cache] {
                let why = match trusted.get(repository) {
                    Some(owner) => format!("`{repository}` is where trusted runs keep `{owner}`"),
                    None if repository == self.state => {
                        format!("`{repository}` is where release records live")
                    }
                    None => continue,
                };
                let title = "untrusted runs would write to what trusted ones read";
                let help = "write another repository, such as \"pr/{name}\"";
                return Some(Diagnostic::error(title).at(at, why).help(help));
            }
            let first = owners.entry(&places.images).or_insert(container);
            if first.repository != container.repository {
                let (first, name) = (&first.name, &container.name);
                let title = format!(
                    "containers `{first}` and `{name}` would share the untrusted repository `{}`",
                    places.images
                );
                let help = "put `{name}` in it, such as \"pr/{name}\"";
                return Some(Diagnostic::error(title).at(at, "").help(help));
            }
        }
        None
    }

    fn tags_of(&self, container: &Container) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let tags = self
            .tags
            .get(&container.name)
            .map_or(&[][..], Vec::as_slice);
        for (index, said) in tags.iter().enumerate() {
            let at = (self.span)(said);
            let Ok(mut sample) = grammar::sample_tag(said.get_ref(), &container.name) else {
                continue;
            };
            if container.shared && !said.get_ref().contains("{name}") {
                sample = format!("{}-{sample}", container.name);
            }
            if let Err(why) = Tag::new(&sample) {
                let title = format!("wrong tag for container `{}`", container.name);
                found.push(Diagnostic::error(title).at(at, why.to_string()));
                continue;
            }
            if let Some(first) = tags[..index].iter().find(|t| t.get_ref() == said.get_ref()) {
                found.push(
                    Diagnostic::error(format!("tag `{}` is listed twice", said.get_ref()))
                        .at(at, "")
                        .see((self.span)(first), "first here")
                        .help("leave one out"),
                );
            } else if let Some((channel, place)) = self.channel_of(container, &sample) {
                let title =
                    format!("`{channel}` is a channel, which moves, and a tag, which must not");
                let diagnostic = Diagnostic::error(title).at(at, "an immutable tag");
                let diagnostic = match place {
                    Some(place) => diagnostic.see(place.clone(), "a channel"),
                    None => diagnostic.note("without `[channels]`, `latest` is the channel"),
                };
                found.push(diagnostic.help("take it out of the tags: promotion sets it"));
            } else if sample == container.cache_tag.as_str()
                && container.cache_repository == container.repository
            {
                let title = format!("tag `{sample}` is the build cache's");
                found.push(
                    Diagnostic::error(title)
                        .at(at, "")
                        .help("use another word, or write another `cache.ref`"),
                );
            }
        }
        found
    }

    /// The channel that has this tag for the container.
    fn channel_of(&self, container: &Container, tag: &str) -> Option<&(Tag, Option<Span>)> {
        let is = |channel: &Tag| container.tag(channel).is_ok_and(|own| own.as_str() == tag);
        self.channels.iter().find(|(channel, _)| is(channel))
    }

    /// Two containers with one cache would overwrite each other's; a cache on a channel would replace the image.
    fn caches(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let images: HashMap<&Repository, &str> = self
            .containers
            .values()
            .map(|c| (&c.repository, c.name.as_str()))
            .collect();
        let mut caches: HashMap<(&Repository, &Tag), &str> = HashMap::new();
        for container in self.containers.values() {
            let (repository, tag) = (&container.cache_repository, &container.cache_tag);
            let at = self.cache.clone().unwrap_or_else(|| container.span.clone());
            if let Some(first) = caches.insert((repository, tag), &container.name) {
                let name = &container.name;
                let title = format!(
                    "containers `{first}` and `{name}` would share the cache `{repository}:{tag}`"
                );
                found.push(Diagnostic::error(title).at(at, "the same for both").help(
                    "put `{repository}` or `{name}` in it, such as \"{repository}:buildcache\"",
                ));
                break;
            }
            let in_it = |c: &&Container| c.repository == *repository;
            let mut in_it = self.containers.values().filter(in_it);
            let is_channel = in_it.any(|c| self.channel_of(c, tag.as_str()).is_some());
            let is_key = tag.as_str().starts_with(grammar::KEY_TAGS);
            if let Some(image) = images.get(repository).filter(|_| is_channel || is_key) {
                let title = format!(
                    "the cache `{repository}:{tag}` would replace an image of container `{image}`"
                );
                found.push(
                    Diagnostic::error(title)
                        .at(
                            at,
                            if is_channel {
                                "a channel"
                            } else {
                                "a content key"
                            },
                        )
                        .help("write another tag, such as \"{repository}:buildcache\""),
                );
                break;
            }
        }
        found
    }
}

/// Notes which containers are not alone in their repository.
pub(super) fn mark_shared(containers: &mut IndexMap<String, Container>) {
    let mut users: HashMap<Repository, usize> = HashMap::new();
    for container in containers.values() {
        *users.entry(container.repository.clone()).or_default() += 1;
    }
    for container in containers.values_mut() {
        container.shared = users.get(&container.repository).is_some_and(|n| *n > 1);
    }
}

/// Beginnings of tags that skiff makes beside releases and channels: keys, caches, cache mounts, parents.
const OWN_TAGS: [&str; 4] = [grammar::KEY_TAGS, "buildcache-", "mount-", "unreleased-"];

/// The cache's repository and tag for one container.
pub(super) fn cache_of(
    reference: &str,
    repository: &Repository,
    name: &str,
) -> Result<(Repository, Tag), String> {
    let text = pattern::expand(reference, |variable| match variable {
        "repository" => Some(repository.to_string()),
        "name" => Some(name.to_owned()),
        _ => None,
    });
    grammar::split_reference(&text.map_err(|e| e.to_string())?)
}

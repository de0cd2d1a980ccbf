//! ECR's own rules, which no other registry has, for a gate before a real registry: repositories are made by the API; tags
//! are immutable but for those excluded; `PutImage` has a quota; tokens end; an image has so many tags.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::aws::{self, Api, authorization};
use super::gate::{Answer, Asked, Gate};
use super::{base64, registry, stack};

/// A private registry of ECR: its API, and the registry behind the rules.
pub(crate) struct Ecr {
    pub gate: Gate,
    pub api: Api,
    pub refusals: Arc<Mutex<Vec<&'static str>>>,
}

/// The rules that a test sets.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// Beginnings of the tags that may move.
    pub movable: &'static [&'static str],
    pub put_images_a_second: usize,
    pub tags_an_image: usize,
    /// The first token ends, before its time, with the first request to a path with this in it.
    pub token_ends_at: Option<&'static str>,
}

/// ECR's quotas (its user guide, "Service quotas").
pub(crate) const QUOTAS: Rules = Rules {
    movable: &["latest", "buildcache", "channel-"],
    put_images_a_second: 10,
    tags_an_image: 1000,
    token_ends_at: None,
};

impl Ecr {
    pub(crate) fn start(rules: Rules) -> Self {
        let repositories = Arc::<Mutex<BTreeSet<String>>>::default();
        let refusals = Arc::<Mutex<Vec<&'static str>>>::default();
        let current = Arc::new(Mutex::new(1));
        let gate = {
            let (repositories, current) = (Arc::clone(&repositories), Arc::clone(&current));
            let refusals = Arc::clone(&refusals);
            let mut registry = Registry {
                rules,
                puts: VecDeque::new(),
                tags: BTreeMap::new(),
            };
            Gate::scripted(stack::registry(), move |asked| {
                let (answer, why) = registry.judge(asked, &repositories, &current)?;
                refusals.lock().unwrap().push(why);
                Some(answer)
            })
        };
        let endpoint = format!("http://{}", gate.host());
        let api = Api::start(move |action, input| match action {
            "GetAuthorizationToken" => authorization(
                &endpoint,
                &format!("token-{}", current.lock().unwrap()),
                43200,
            ),
            "CreateRepository" => {
                let name = input["repositoryName"].as_str().unwrap().to_owned();
                repositories.lock().unwrap().insert(name);
                aws::Answer::Json(json!({"repository": {}}))
            }
            _ => {
                let known = repositories.lock().unwrap();
                let names = input["repositoryNames"].as_array().unwrap();
                if names
                    .iter()
                    .all(|name| known.contains(name.as_str().unwrap_or_default()))
                {
                    aws::Answer::Json(json!({"repositories": []}))
                } else {
                    aws::Answer::Error("RepositoryNotFoundException", "no such repository")
                }
            }
        });
        Self {
            gate,
            api,
            refusals,
        }
    }

    /// How often it refused for this reason.
    pub(crate) fn refused(&self, why: &str) -> usize {
        self.refusals
            .lock()
            .unwrap()
            .iter()
            .filter(|refusal| **refusal == why)
            .count()
    }
}

struct Registry {
    rules: Rules,
    /// When images were put within the last second.
    puts: VecDeque<Instant>,
    /// Tags by repository and digest.
    tags: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Registry {
    fn judge(
        &mut self,
        asked: &Asked<'_>,
        repositories: &Mutex<BTreeSet<String>>,
        current: &Mutex<usize>,
    ) -> Option<(Answer, &'static str)> {
        let path = asked.path.strip_prefix("/v2/")?;
        if self
            .rules
            .token_ends_at
            .is_some_and(|part| path.contains(part))
        {
            *current.lock().unwrap() = 2;
        }
        let token = base64(&format!("AWS:token-{}", current.lock().unwrap()));
        match asked.authorization {
            None => return Some((Answer::Unauthorized, "login")),
            Some(given) if given != format!("Basic {token}") => {
                return Some((Answer::Refusal(403, "DENIED"), "token"));
            }
            Some(_) => {}
        }
        let place = ["/manifests/", "/blobs/", "/tags/"]
            .iter()
            .find_map(|part| path.find(part))?;
        let (repository, rest) = path.split_at(place);
        // Base images are not of this registry; the tests' own are.
        if !repositories.lock().unwrap().contains(repository) {
            return Some((Answer::Refusal(404, "NAME_UNKNOWN"), "repository"));
        }
        let tag = rest
            .strip_prefix("/manifests/")
            .filter(|tag| !tag.contains(':'))?;
        if asked.method != "PUT" {
            return None;
        }
        let now = Instant::now();
        self.puts
            .retain(|put| now.duration_since(*put) < Duration::from_secs(1));
        if self.puts.len() >= self.rules.put_images_a_second {
            return Some((Answer::Refusal(429, "TOOMANYREQUESTS"), "quota"));
        }
        self.puts.push_back(now);
        let new = registry::digest(asked.body);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, stands) = registry::get(stack::registry(), &path);
        let moves = status == 200 && registry::digest(&stands) != new;
        let movable = self
            .rules
            .movable
            .iter()
            .any(|start| tag.starts_with(start));
        if moves && !movable {
            return Some((Answer::Refusal(400, "TAG_INVALID"), "immutable"));
        }
        let tags = self.tags.entry((repository.to_owned(), new)).or_default();
        if tags.len() >= self.rules.tags_an_image && !tags.contains(tag) {
            return Some((Answer::Refusal(403, "DENIED"), "tags"));
        }
        tags.insert(tag.to_owned());
        None
    }
}

/// The media type that a manifest must have for ECR to take it, with what it asks of artifacts.
pub(crate) fn is_valid_artifact(manifest: &Value) -> bool {
    let typed = |value: &Value| value["mediaType"].is_string() && value["digest"].is_string();
    manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        && manifest["artifactType"]
            .as_str()
            .is_some_and(|kind| kind.contains('/'))
        && typed(&manifest["config"])
        && manifest["layers"]
            .as_array()
            .is_some_and(|layers| layers.iter().all(typed))
}

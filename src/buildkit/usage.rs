//! What a builder's records take. Asked for one effect: a cache mount is held while it is measured (BuildKit
//! `cache/manager.go`, `DiskUsage`), and one that is held when a step wants it is not waited for unless its `sharing` is
//! `locked`: the step gets a new, empty one (`solver/llbsolver/mounts`, `getRefCacheDirNoCache`). The builder measures what
//! it does not know by itself, a second after a build, so a mount that was filled just now may not be there for the step
//! that it was filled for. What was measured is held for a moment only, until a step has had it again: rarely, a step still
//! comes in that moment, and two steps of one build that mount the same can lose each other's. It costs their time alone: a
//! version with something in it is never replaced by an empty one.

use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::DiskUsageRequest;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;

use super::{Builder, MAX_MESSAGE};

/// Longest wait for a measurement: it walks the mount's files.
const LIMIT: Duration = Duration::from_secs(20);

/// Returns once the builder has measured the cache mounts with this id. One that does not do it, or not in time, is as it
/// is: a step may then begin with an empty mount.
pub(crate) async fn measure_mounts(builder: &Builder, id: &str) {
    let mut client =
        ControlClient::new(builder.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
    let asked = client.disk_usage(DiskUsageRequest {
        filter: vec![filter(id)],
        age_limit: 0,
    });
    let _ = tokio::time::timeout(LIMIT, asked).await;
}

/// The mounts with this id and no other, as those would be held, too (containerd `pkg/filters`). A record has its id in its
/// description only, behind the namespace and a slash, or as its target. Not by type: while a mount is measured, another
/// record without a type stands for it.
fn filter(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '.' };
    let id: String = id.chars().map(plain).collect();
    let id = format!("([^ ]*/)?{id}");
    format!("description~=\"(?s)^cached mount (.* with id .{id}.|{id} from .*)$\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_pattern_without_an_end_of_its_own() {
        let shown = ["uv", "/root/.cache/pip", "../a,b+c=d"].map(filter);
        insta::assert_snapshot!(shown.join("\n"), @r#"
        description~="(?s)^cached mount (.* with id .([^ ]*/)?uv.|([^ ]*/)?uv from .*)$"
        description~="(?s)^cached mount (.* with id .([^ ]*/)?.root..cache.pip.|([^ ]*/)?.root..cache.pip from .*)$"
        description~="(?s)^cached mount (.* with id .([^ ]*/)?...a.b.c.d.|([^ ]*/)?...a.b.c.d from .*)$"
        "#);
    }
}

//! What a builder's records take. Asked for one effect: a record whose size is not known yet is held while it is measured
//! (BuildKit `cache/manager.go`, `DiskUsage`), and a cache mount that is held when a step wants it is not waited for unless
//! its `sharing` is `locked`: the step gets a new, empty one (`solver/llbsolver/mounts`, `getRefCacheDirNoCache`). The
//! builder measures what is new by itself a second after a build, so a mount that was filled just now may not be there for
//! the step that it was filled for. One that has been measured is never held again.

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

/// The mounts with this id (containerd `pkg/filters`). A record says its id in its description only; what else the pattern
/// fits is measured, too.
fn filter(id: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '.' };
    let pattern: String = id.chars().map(plain).collect();
    format!("type==exec.cachemount,description~=\"{pattern}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_pattern_without_an_end_of_its_own() {
        let shown = ["uv", "/root/.cache/pip", "../a,b+c=d"].map(filter);
        insta::assert_snapshot!(shown.join("\n"), @r#"
        type==exec.cachemount,description~="uv"
        type==exec.cachemount,description~=".root..cache.pip"
        type==exec.cachemount,description~="...a.b.c.d"
        "#);
    }
}

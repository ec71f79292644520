//! What the descriptor set says: which rpc paths exist.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message;

static METHOD_PATHS: LazyLock<HashSet<String>> = LazyLock::new(method_paths);

/// Splits a request's path into service and method. Paths that are no rpc of ours become `unknown`, so that
/// hostile paths cannot make ever more metrics.
pub(crate) fn service_and_method(path: &str) -> (&str, &str) {
    let known = METHOD_PATHS.contains(path).then(|| path.strip_prefix('/').and_then(|p| p.split_once('/'))).flatten();
    known.unwrap_or(("unknown", "unknown"))
}

fn method_paths() -> HashSet<String> {
    let set = prost_types::FileDescriptorSet::decode(pagoda_proto::DESCRIPTOR_SET).unwrap_or_default();
    let mut paths = HashSet::new();
    for file in set.file {
        for service in &file.service {
            let methods = service.method.iter().map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name()));
            paths.extend(methods);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_rpcs_are_named() {
        assert_eq!(
            service_and_method("/pagoda.recall.v1.RecallService/Recall"),
            ("pagoda.recall.v1.RecallService", "Recall")
        );
        assert_eq!(service_and_method("/pagoda.recall.v1.RecallService/Recal"), ("unknown", "unknown"));
        assert_eq!(service_and_method(""), ("unknown", "unknown"));
    }
}

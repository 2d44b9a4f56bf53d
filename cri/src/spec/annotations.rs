//! Annotations of the runtime spec: who the container is, for tools that read specs, and what configuration lets through.

use std::collections::HashMap;

use super::SpecInput;

/// The spec's annotations. Those of the request have no effect here and are only copied where a pattern allows.
pub(super) fn annotations(input: &SpecInput<'_>) -> HashMap<String, String> {
    let pod = input.sandbox.config;
    let settings = input.settings;
    let allowed = |patterns: &[String], key: &String| patterns.iter().any(|pattern| matches(pattern, key));
    let of_pod = pod
        .annotations
        .iter()
        .filter(|(key, _)| allowed(&settings.pod_annotations, key));
    let of_container = input
        .config
        .annotations
        .iter()
        .filter(|(key, _)| allowed(&settings.container_annotations, key));
    let mut all: HashMap<String, String> = of_pod
        .chain(of_container)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();

    let metadata = pod.metadata.clone().unwrap_or_default();
    let name = input
        .config
        .metadata
        .as_ref()
        .map(|m| m.name.clone())
        .unwrap_or_default();
    for (key, value) in [
        ("container-type", "container".to_owned()),
        ("container-name", name),
        ("image-name", input.image.name.to_owned()),
        ("sandbox-id", input.sandbox.id.to_owned()),
        ("sandbox-name", metadata.name),
        ("sandbox-namespace", metadata.namespace),
        ("sandbox-uid", metadata.uid),
    ] {
        all.insert(format!("io.kubernetes.cri.{key}"), value);
    }
    all
}

/// Whether `key` is `pattern`, or begins with what stands before its `*`.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => key.starts_with(beginning),
        None => key == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(matches("a.b/c", "a.b/c"));
        assert!(!matches("a.b/c", "a.b/cd"));
        assert!(matches("a.b/*", "a.b/cd"));
        assert!(matches("*", "x"));
        assert!(!matches("a.b/*", "a.c/d"));
    }
}

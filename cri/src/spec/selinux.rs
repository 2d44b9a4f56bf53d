//! SELinux labels of a container's processes and files.

use super::{SpecError, SpecInput};
use crate::proto::SeLinuxOption;

/// Labels of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) process: String,
    /// None for privileged containers: their files keep the labels they have.
    pub(super) mount: Option<String>,
}

/// The container's labels, from its options, else the sandbox's, else those that the sandbox's containers share. None
/// where SELinux is off; malformed options are refused all the same.
pub(super) fn labels(input: &SpecInput<'_>, privileged: bool) -> Result<Option<Labels>, SpecError> {
    let own = super::security_context(input.config).selinux_options.as_ref();
    let linux = input.sandbox.config.linux.as_ref();
    let pod = linux
        .and_then(|l| l.security_context.as_ref())
        .and_then(|s| s.selinux_options.as_ref());
    let options = own.or(pod).cloned().unwrap_or_default();
    check(&options)?;
    if !input.node.selinux {
        return Ok(None);
    }
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let (user, role) = (or(&options.user, "system_u"), or(&options.role, "system_r"));
    if privileged {
        let process = format!(
            "{user}:{role}:{}:{}",
            or(&options.r#type, "spc_t"),
            or(&options.level, "s0")
        );
        return Ok(Some(Labels { process, mount: None }));
    }
    let level = or(&options.level, input.sandbox.selinux_level.unwrap_or("s0"));
    Ok(Some(Labels {
        process: format!("{user}:{role}:{}:{level}", or(&options.r#type, "container_t")),
        mount: Some(format!("system_u:object_r:container_file_t:{level}")),
    }))
}

/// Categories of a policy with MCS.
const CATEGORIES: u16 = 1024;

/// As many pairs are tried at random; there are half a million.
const ATTEMPTS: u32 = 10_000;

/// A level of two categories that isn't taken, as `s0:c7,c300`.
pub fn free_level(taken: impl Fn(&str) -> bool) -> String {
    let mut level = String::from("s0");
    for _ in 0..ATTEMPTS {
        let mut random = [0; 4];
        // getrandom(2) can't fail for a few bytes on the kernels that have what containers need.
        getrandom::fill(&mut random).expect("the kernel has random numbers");
        let pair =
            [[random[0], random[1]], [random[2], random[3]]].map(|b| u16::from_le_bytes(b) % CATEGORIES);
        let (low, high) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        level = format!("s0:c{low},c{high}");
        if low != high && !taken(&level) {
            break;
        }
    }
    level
}

fn check(options: &SeLinuxOption) -> Result<(), SpecError> {
    for (field, text) in [
        ("selinux_options.user", &options.user),
        ("selinux_options.role", &options.role),
        ("selinux_options.type", &options.r#type),
    ] {
        if !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.')
        {
            return Err(SpecError::invalid(field, text, "not a part of a label"));
        }
    }
    if options.level.is_empty() || is_level(&options.level) {
        return Ok(());
    }
    Err(SpecError::invalid(
        "selinux_options.level",
        &options.level,
        "not a level, as s0:c1,c2",
    ))
}

/// `s0`, `s0-s1`, each with categories: `s0:c1,c3.c7`.
fn is_level(text: &str) -> bool {
    text.split('-').count() <= 2 && text.split('-').all(is_sensitivity_and_categories)
}

fn is_sensitivity_and_categories(text: &str) -> bool {
    let numbered = |text: &str, letter: char| {
        text.strip_prefix(letter)
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|d| d.is_ascii_digit()))
    };
    let category = |text: &str| numbered(text, 'c') && text[1..].parse::<u32>().is_ok_and(|n| n < 1024);
    match text.split_once(':') {
        Some((sensitivity, categories)) => {
            let range = |part: &str| part.split('.').count() <= 2 && part.split('.').all(category);
            numbered(sensitivity, 's') && categories.split(',').all(range)
        }
        None => numbered(text, 's'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for level in [
            "s0",
            "s0:c1",
            "s0:c1,c2",
            "s0:c0.c1023",
            "s0-s0:c0.c3",
            "s0:c1,c4.c7",
        ] {
            assert!(is_level(level), "{level}");
        }
        for level in [
            "",
            "s",
            "x0",
            "s0:",
            "s0:c",
            "s0:c1,",
            "s0:1",
            "s0:c1024",
            "s0-s1-s2",
            "s0:c1.c2.c3",
            "gibberish",
        ] {
            assert!(!is_level(level), "{level}");
        }
    }

    #[test]
    fn free_levels_are_levels_and_never_taken_ones() {
        for _ in 0..100 {
            let level = free_level(|level| !level.contains(",c9"));
            assert!(is_level(&level) && level.contains(",c9"), "{level}");
        }
    }

    #[test]
    fn options_hold_no_separators() {
        let bad = SeLinuxOption {
            r#type: "a:b".to_owned(),
            ..Default::default()
        };
        assert!(check(&bad).is_err());
        assert!(
            check(&SeLinuxOption {
                level: "high".to_owned(),
                ..Default::default()
            })
            .is_err()
        );
        assert!(check(&SeLinuxOption::default()).is_ok());
    }
}

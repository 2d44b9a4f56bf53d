//! Versions of the CNI specification.

use std::fmt;

/// A version of the specification that this client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The version of that name, `None` if it isn't known.
    pub(super) fn parse(text: &str) -> Option<Version> {
        // A configuration without a version is of the first.
        let text = if text.is_empty() { "0.1.0" } else { text };
        Version::ALL.into_iter().find(|version| version.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK, and `prevResult` on DEL.
    pub(super) fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// STATUS and GC.
    pub(super) fn has_status(self) -> bool {
        self >= Version::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_ordered_and_read_back() {
        for version in Version::ALL {
            assert_eq!(Version::parse(&version.to_string()), Some(version));
        }
        assert!(Version::ALL.is_sorted());
        assert_eq!(Version::parse(""), Some(Version::V0_1_0));
        assert_eq!(Version::parse("2.0.0"), None);
    }
}

//! Resource limits of processes (setrlimit(2)), from the daemon's configuration: CRI has none.

use std::collections::BTreeMap;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, PosixRlimitType::*};

/// Limits by their name in `prlimit --help`, in configuration and in [`super::NodeFacts::rlimit_ceilings`].
const NAMES: &[(&str, PosixRlimitType)] = &[
    ("as", RlimitAs),
    ("core", RlimitCore),
    ("cpu", RlimitCpu),
    ("data", RlimitData),
    ("fsize", RlimitFsize),
    ("locks", RlimitLocks),
    ("memlock", RlimitMemlock),
    ("msgqueue", RlimitMsgqueue),
    ("nice", RlimitNice),
    ("nofile", RlimitNofile),
    ("nproc", RlimitNproc),
    ("rss", RlimitRss),
    ("rtprio", RlimitRtprio),
    ("rttime", RlimitRttime),
    ("sigpending", RlimitSigpending),
    ("stack", RlimitStack),
];

/// Reads `name=soft:hard` or `name=both`; `-1` is no limit.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<PosixRlimit, String> {
    let (name, limits) = text.split_once('=').ok_or("expected name=soft:hard")?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let kind = NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or("no such limit")?;
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    if soft > hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok(rlimit(kind.1, soft, hard))
}

/// The configured limits, lowered to what the daemon may give.
pub(super) fn rlimits(configured: &[PosixRlimit], ceilings: &BTreeMap<String, u64>) -> Vec<PosixRlimit> {
    let name = |kind| {
        NAMES
            .iter()
            .find(|(_, known)| *known == kind)
            .map_or("", |(name, _)| *name)
    };
    configured
        .iter()
        .map(|limit| match ceilings.get(name(limit.typ())) {
            Some(&ceiling) => rlimit(limit.typ(), limit.soft().min(ceiling), limit.hard().min(ceiling)),
            None => *limit,
        })
        .collect()
}

fn limit(text: &str) -> Result<u64, String> {
    match text {
        "-1" => Ok(u64::MAX),
        _ => text
            .parse()
            .map_err(|_| "expected name=soft:hard with whole numbers".to_owned()),
    }
}

fn rlimit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    // Every field has a default: this can't fail.
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(soft)
        .hard(hard)
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(parse("nofile=1024:4096"), Ok(rlimit(RlimitNofile, 1024, 4096)));
        assert_eq!(parse("core=0"), Ok(rlimit(RlimitCore, 0, 0)));
        assert_eq!(parse("memlock=-1"), Ok(rlimit(RlimitMemlock, u64::MAX, u64::MAX)));
    }

    #[test]
    fn bad_limits_are_refused() {
        for text in [
            "",
            "nofile",
            "files=1",
            "nofile=2:1",
            "nofile=-2",
            "nofile=1:x",
            "nofile=-1:1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_stay_below_the_daemon_s_own() {
        let ceilings = BTreeMap::from([("nofile".to_owned(), 20_000)]);
        let limits = rlimits(
            &[rlimit(RlimitNofile, 1024, 524_288), rlimit(RlimitCore, 9, 9)],
            &ceilings,
        );
        assert_eq!(
            limits,
            [rlimit(RlimitNofile, 1024, 20_000), rlimit(RlimitCore, 9, 9)]
        );
    }
}

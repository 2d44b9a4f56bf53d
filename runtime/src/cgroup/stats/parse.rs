//! The formats of control files.

use super::{Psi, Stall};

/// A number; None for `max`, or for what v1 says where there is no limit.
pub(in crate::cgroup) fn number(text: &str) -> Option<u64> {
    // v1 rounds the largest signed number down to pages of whatever size
    const UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);
    text.trim().parse().ok().filter(|n| *n < UNLIMITED)
}

/// Hands each `key number` line to `take`.
pub(in crate::cgroup) fn table(text: &str, mut take: impl FnMut(&str, u64)) {
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(' ')
            && let Ok(value) = value.trim().parse()
        {
            take(key, value);
        }
    }
}

/// A pressure file; None if it isn't one.
pub(in crate::cgroup) fn pressure(text: &str) -> Option<Psi> {
    let line = |kind: &str| {
        text.lines()
            .find_map(|line| stall(line.strip_prefix(kind)?.strip_prefix(' ')?))
    };
    Some(Psi {
        some: line("some")?,
        full: line("full"),
    })
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn stall(fields: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for field in fields.split_ascii_whitespace() {
        let (key, value) = field.split_once('=')?;
        match key {
            "avg10" => stall.avg10 = value.parse().ok()?,
            "avg60" => stall.avg60 = value.parse().ok()?,
            "avg300" => stall.avg300 = value.parse().ok()?,
            "total" => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_none_in_either_notation() {
        assert_eq!(number("max\n"), None);
        assert_eq!(number("9223372036854771712\n"), None);
        assert_eq!(number("67108864\n"), Some(67_108_864));
        assert_eq!(number(""), None);
    }

    #[test]
    fn pressure_files_of_all_kernels_are_read() {
        let both = "some avg10=6.33 avg60=10.61 avg300=12.16 total=7889891312\n\
                    full avg10=0.00 avg60=0.50 avg300=0.00 total=7\n";
        let psi = pressure(both).unwrap();
        assert_eq!(psi.some.total, 7_889_891_312);
        assert!((psi.some.avg10 - 6.33).abs() < 1e-9);
        assert_eq!(psi.full.unwrap().total, 7);
        let old = pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").unwrap();
        assert_eq!(old.full, None);
        assert_eq!(pressure(""), None);
        assert_eq!(pressure("some avg10=x"), None);
    }
}

//! Where to begin: a token, a time, or how long ago.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A place among the events: nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(i64);

impl Moment {
    /// As the daemon takes it.
    pub(crate) fn token(self) -> i64 {
        self.0
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        let token = text
            .parse()
            .ok()
            .or_else(|| ago(text))
            .or_else(|| date(text))
            .filter(|token| *token >= 0);
        token.map(Moment).ok_or_else(|| {
            "expected a token, a time such as 2026-01-31T12:00:00Z, or how long ago, as 90s, 15m or 2h"
                .to_owned()
        })
    }
}

fn ago(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    let ago = number
        .parse::<i64>()
        .ok()?
        .checked_mul(seconds)?
        .checked_mul(1_000_000_000)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(now.as_nanos()).ok()?.checked_sub(ago)
}

fn date(text: &str) -> Option<i64> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(date.unix_timestamp_nanos()).ok()
}

/// A time as RFC 3339 has it, in UTC.
pub(crate) fn shown(nanoseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds))
        .ok()
        .and_then(|date| date.format(&Rfc3339).ok())
        .unwrap_or_else(|| nanoseconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_tokens_times_and_spans() {
        let token = |text: &str| text.parse::<Moment>().map(Moment::token);
        assert_eq!(token("1700000000000000001"), Ok(1_700_000_000_000_000_001));
        assert_eq!(
            token("2023-11-14T22:13:20.000000001Z"),
            Ok(1_700_000_000_000_000_001)
        );
        assert_eq!(token("2023-11-14T23:13:20+01:00"), Ok(1_700_000_000_000_000_000));
        assert!(token("2h").unwrap() < token("90s").unwrap());
        for bad in ["", "yesterday", "-5", "1w", "99999999999d", "2023-11-14"] {
            assert!(token(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_shown_time_is_a_moment() {
        let shown = shown(1_700_000_000_000_000_001);
        assert_eq!(shown, "2023-11-14T22:13:20.000000001Z");
        assert_eq!(shown.parse(), Ok(Moment(1_700_000_000_000_000_001)));
    }
}

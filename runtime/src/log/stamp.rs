//! Cheap RFC 3339 time stamps: the calendar is worked out once a second, the rest is nine digits.

use std::time::{SystemTime, UNIX_EPOCH};

const NANOS: i64 = 1_000_000_000;
const SECONDS_A_DAY: i64 = 86_400;

/// Unix time in nanoseconds.
#[must_use]
pub fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

/// Formats times as `2026-11-21T14:50:03.123456789Z`.
#[derive(Debug)]
pub struct Stamp {
    second: i64,
    text: [u8; Self::LEN],
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            second: 0,
            text: *b"1970-01-01T00:00:00.000000000Z",
        }
    }
}

impl Stamp {
    /// Bytes of a time stamp.
    pub const LEN: usize = 30;

    /// The text for a Unix time in nanoseconds, for the years 1970 to 9999.
    pub fn format(&mut self, unix_nanos: i64) -> &[u8; Self::LEN] {
        let (second, nanos) = (unix_nanos.div_euclid(NANOS), unix_nanos.rem_euclid(NANOS));
        if second != self.second {
            self.second = second;
            self.set_second();
        }
        put(&mut self.text[20..29], nanos);
        &self.text
    }

    fn set_second(&mut self) {
        let (year, month, day) = civil(self.second.div_euclid(SECONDS_A_DAY));
        let time = self.second.rem_euclid(SECONDS_A_DAY);
        put(&mut self.text[0..4], year);
        put(&mut self.text[5..7], month);
        put(&mut self.text[8..10], day);
        put(&mut self.text[11..13], time / 3600);
        put(&mut self.text[14..16], time / 60 % 60);
        put(&mut self.text[17..19], time % 60);
    }
}

/// Writes a number right-aligned with leading zeros.
fn put(digits: &mut [u8], mut number: i64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number.rem_euclid(10)).unwrap_or(0);
        number = number.div_euclid(10);
    }
}

/// Year, month and day of a day counted from 1970-01-01 (proleptic Gregorian calendar).
///
/// Years are counted from March, so that the leap day is a year's last and month lengths follow a straight line.
fn civil(days_since_1970: i64) -> (i64, i64, i64) {
    const DAYS_TO_1970: i64 = 719_468; // from 0000-03-01
    const DAYS_IN_400_YEARS: i64 = 146_097;
    let days = days_since_1970 + DAYS_TO_1970;
    let (cycle, day_of_cycle) = (
        days.div_euclid(DAYS_IN_400_YEARS),
        days.rem_euclid(DAYS_IN_400_YEARS),
    );
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day)
}

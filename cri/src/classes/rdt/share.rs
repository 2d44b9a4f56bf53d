//! Shares of a cache, as bits of the kernel's masks. Bits that are used together must lie side by side.

/// A share as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// From one hundredth to another, both included.
    Percent { low: u64, high: u64 },
    /// These bits, counted from the lowest of what is shared.
    Bits(u64),
}

impl Share {
    /// `60%`, `40-60%`, `0xff`, or the numbers of bits as `0-3`.
    pub(super) fn parse(text: &str, least: u32) -> Result<Share, String> {
        let bad = |reason: &str| format!("cache share {text:?}: {reason}");
        if let Some(percent) = text.strip_suffix('%') {
            let (low, high) = percent.split_once('-').unwrap_or(("0", percent));
            let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number <= 100);
            return match (number(low), number(high)) {
                (Some(low), Some(high)) if low <= high => Ok(Share::Percent { low, high }),
                _ => Err(bad("expected a percentage up to 100, or a range of them")),
            };
        }
        let bits = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => numbers(text, 63).map(|all| all.iter().fold(0, |bits, number| bits | 1 << number)),
        };
        let bits = bits.ok_or_else(|| bad("expected 60%, a mask such as 0xff, or bits such as 0-7"))?;
        match is_block(bits) && bits.count_ones() >= least {
            true => Ok(Share::Bits(bits)),
            false => Err(bad(&format!("expected {least} bits or more, side by side"))),
        }
    }

    /// The share of what the bits of `of` stand for.
    pub(super) fn within(self, of: u64, least: u32) -> Result<u64, String> {
        let (count, first) = (u64::from(of.count_ones()), of.trailing_zeros());
        if !is_block(of) || of.count_ones() < least {
            return Err(format!("{of:#x} can't be divided"));
        }
        match self {
            Share::Bits(bits) => {
                let shifted = u128::from(bits) << first;
                u64::try_from(shifted)
                    .ok()
                    .filter(|bits| bits & !of == 0)
                    .ok_or_else(|| format!("{bits:#x} doesn't fit into {of:#x}"))
            }
            Share::Percent { low, high } => {
                let bit = |percent: u64| percent.max(1).saturating_sub(1) * count / 100;
                let (mut begin, mut end) = (bit(low), bit(high.max(low)) + 1);
                // Too few: more below, then more above, as far as there are any.
                let least = u64::from(least);
                begin = begin.min(end.saturating_sub(least));
                end = end.max(begin + least);
                Ok(block(end - begin) << begin << first)
            }
        }
    }
}

/// Divides the first `bits` of a cache into parts that lie side by side, in the order of the requests, which are in percent.
pub(super) fn divide(bits: u32, least: u32, percents: &[u64]) -> Result<Vec<u64>, String> {
    let all: u64 = percents.iter().sum();
    if all > 100 {
        return Err(format!("the partitions want {all}% of a cache"));
    }
    let mut order: Vec<usize> = (0..percents.len()).collect();
    // What must be rounded up comes first, and the largest bears it.
    order.sort_by_key(|at| percents[*at]);
    let mut left = u64::from(bits) * all / 100;
    let mut percent_left = all;
    let mut counts = vec![0; percents.len()];
    for at in order {
        let fair = (percents[at] * left).checked_div(percent_left).unwrap_or(0);
        let count = fair.max(u64::from(least));
        if count > left {
            return Err(format!("a cache of {bits} bits is too small for all partitions"));
        }
        counts[at] = count;
        left -= count;
        percent_left -= percents[at];
    }
    let mut first = 0;
    Ok(counts
        .into_iter()
        .map(|count| {
            let mask = block(count) << first;
            first += count;
            mask
        })
        .collect())
}

/// The lowest `count` bits.
fn block(count: u64) -> u64 {
    let unused = 64_u64.saturating_sub(count);
    if count == 0 { 0 } else { u64::MAX >> unused }
}

fn is_block(bits: u64) -> bool {
    bits != 0 && bits.count_ones() == 64 - bits.leading_zeros() - bits.trailing_zeros()
}

/// Numbers and ranges with commas between, up to `most`.
pub(super) fn numbers(text: &str, most: u64) -> Option<Vec<u64>> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|number| *number <= most);
    let mut all = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return None;
        }
        all.extend(low..=high);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_or_refused() {
        let parse = |text: &str| Share::parse(text, 2);
        assert_eq!(parse("60%"), Ok(Share::Percent { low: 0, high: 60 }));
        assert_eq!(parse("40-60%"), Ok(Share::Percent { low: 40, high: 60 }));
        assert_eq!(parse("0xf0"), Ok(Share::Bits(0xf0)));
        assert_eq!(parse("2-5"), Ok(Share::Bits(0x3c)));
        assert_eq!(parse("63,62"), Ok(Share::Bits(0xc000_0000_0000_0000)));
        for bad in [
            "", "%", "101%", "60-40%", "-1%", "0x", "0xgg", "0x5", "0x1", "0", "64", "5-2", "a", "0,2",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shares_of_masks_lie_side_by_side_within() {
        let percent = |low, high| Share::Percent { low, high };
        assert_eq!(percent(0, 100).within(0xff0, 1), Ok(0xff0));
        assert_eq!(percent(0, 50).within(0xff0, 1), Ok(0x0f0));
        assert_eq!(percent(50, 100).within(0xff0, 1), Ok(0xf80));
        assert_eq!(
            percent(0, 1).within(0xff0, 2),
            Ok(0x030),
            "the least there can be"
        );
        assert_eq!(percent(100, 100).within(0xff0, 2), Ok(0xc00));
        assert_eq!(percent(0, 0).within(u64::MAX, 1), Ok(1));
        assert_eq!(Share::Bits(0x3).within(0xff0, 1), Ok(0x030));
        assert!(Share::Bits(0x1ff).within(0xff0, 1).is_err());
        assert!(Share::Bits(0x3).within(1 << 63, 1).is_err());
        assert!(percent(0, 50).within(0x1, 2).is_err() && percent(0, 50).within(0x5, 1).is_err());
    }

    #[test]
    fn partitions_overlap_nowhere_and_have_the_least() {
        assert_eq!(divide(20, 1, &[60, 40]), Ok(vec![0xfff, 0xff000]));
        assert_eq!(divide(11, 2, &[49, 1, 50]), Ok(vec![0xf, 0x30, 0x7c0]));
        assert_eq!(divide(8, 1, &[50]), Ok(vec![0xf]), "the rest is nobody's");
        assert_eq!(divide(64, 1, &[100]), Ok(vec![u64::MAX]));
        assert!(divide(8, 1, &[60, 50]).is_err());
        assert!(divide(2, 1, &[40, 30, 30]).is_err());
        assert!(divide(8, 1, &[0]).is_err());
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn whatever_is_divided_is_whole(bits in 1_u32..=64, least in 1_u32..4, percents in prop::collection::vec(0_u64..=100, 1..6)) {
                if let Ok(parts) = divide(bits, least, &percents) {
                    let mut seen = 0_u64;
                    for part in parts {
                        prop_assert!(is_block(part) && part.count_ones() >= least && part & seen == 0);
                        seen |= part;
                    }
                    prop_assert!(64 - seen.leading_zeros() <= bits);
                }
            }

            #[test]
            fn a_share_is_within(first in 0_u32..60, count in 1_u64..5, low in 0_u64..=100, high in 0_u64..=100, least in 1_u32..5) {
                let of = block(count) << first;
                if let Ok(bits) = (Share::Percent { low: low.min(high), high }).within(of, least) {
                    prop_assert!(is_block(bits) && bits & !of == 0 && bits.count_ones() >= least);
                }
            }
        }
    }
}

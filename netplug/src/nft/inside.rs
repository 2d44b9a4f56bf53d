//! Destinations that aren't "outside", and so are never masqueraded: an interval set, kept without overlaps.

use ipnet::IpNet;
use nix::libc;

use super::Nft;
use super::elements::{inside_set, interval};
use super::object::Element;
use crate::error::Result;

/// Another process may add a range between our look and our addition; then we look again.
const TRIES: usize = 10;

/// A range of addresses as numbers, both ends included.
type Span = (u128, u128);

impl Nft {
    /// Adds networks to the inner destinations; what is covered already is left alone.
    pub(crate) fn add_inside(&mut self, networks: &[IpNet]) -> Result<()> {
        let mut tries = 0;
        while let Err(error) = self.try_add_inside(networks) {
            tries += 1;
            let raced = matches!(error.errno(), Some(libc::EEXIST | libc::ENOTEMPTY | libc::EBUSY));
            if !raced || tries == TRIES {
                return Err(error);
            }
        }
        Ok(())
    }

    fn try_add_inside(&mut self, networks: &[IpNet]) -> Result<()> {
        for v4 in [true, false] {
            let wanted: Vec<&IpNet> = networks.iter().filter(|net| net.addr().is_ipv4() == v4).collect();
            let Some(set) = wanted.first().map(|net| inside_set(**net)) else {
                continue;
            };
            let mut covered = spans(&self.list(set)?, v4);
            for network in wanted {
                for gap in gaps(span(network), &covered) {
                    self.add_many(
                        &interval(gap.0, gap.1, v4)
                            .into_iter()
                            .map(|e| (set, e))
                            .collect::<Vec<_>>(),
                    )?;
                    covered.push(gap);
                    covered.sort_unstable();
                }
            }
        }
        Ok(())
    }
}

fn span(network: &IpNet) -> Span {
    let number = |address| match address {
        std::net::IpAddr::V4(v4) => u128::from(u32::from(v4)),
        std::net::IpAddr::V6(v6) => u128::from(v6),
    };
    (number(network.network()), number(network.broadcast()))
}

/// The intervals of a set's elements, sorted.
fn spans(elements: &[Element], v4: bool) -> Vec<Span> {
    let mut marks: Vec<(u128, bool)> = elements
        .iter()
        .map(|element| {
            (
                element
                    .key
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u128::from(*byte)),
                element.end,
            )
        })
        .collect();
    // An end and the next interval's start may be the same number: the end comes first.
    marks.sort_by_key(|(number, end)| (*number, !end));
    let mut spans: Vec<Span> = Vec::new();
    let mut start = None;
    for (number, end) in marks {
        match (end, start) {
            (true, Some(first)) => {
                spans.push((first, number - 1));
                start = None;
            }
            (false, None) => start = Some(number),
            _ => {}
        }
    }
    if let Some(first) = start {
        spans.push((first, if v4 { u128::from(u32::MAX) } else { u128::MAX }));
    }
    spans
}

/// What of `wanted` the sorted spans don't cover.
fn gaps(wanted: Span, covered: &[Span]) -> Vec<Span> {
    let mut gaps = Vec::new();
    let mut from = wanted.0;
    for &(first, last) in covered {
        if last < from {
            continue;
        }
        if first > wanted.1 {
            break;
        }
        if first > from {
            gaps.push((from, first - 1));
        }
        if last >= wanted.1 {
            return gaps;
        }
        from = last + 1;
    }
    gaps.push((from, wanted.1));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_covered_is_added() {
        assert_eq!(gaps((10, 20), &[]), [(10, 20)]);
        assert_eq!(gaps((10, 20), &[(0, 9), (21, 30)]), [(10, 20)]);
        assert_eq!(gaps((10, 20), &[(10, 20)]), []);
        assert_eq!(
            gaps((10, 20), &[(0, 12), (15, 16), (19, 40)]),
            [(13, 14), (17, 18)]
        );
        assert_eq!(gaps((10, 20), &[(12, 13)]), [(10, 11), (14, 20)]);
        assert_eq!(gaps((0, u128::MAX), &[(0, u128::MAX)]), []);
    }

    #[test]
    fn spans_are_read_back_from_elements() {
        let mut elements = interval(10, 19, true);
        elements.extend(interval(20, 29, true));
        elements.extend(interval(u128::from(u32::MAX) - 1, u128::from(u32::MAX), true));
        elements.reverse();
        assert_eq!(
            spans(&elements, true),
            [
                (10, 19),
                (20, 29),
                (u128::from(u32::MAX) - 1, u128::from(u32::MAX))
            ]
        );
    }
}

//! Pools: the ranges out of which a pod gets one address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::range::{Range, Span};
use crate::error::{Error, Result};

/// One address for each pod comes from each pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool(pub(crate) Vec<Span>);

impl Pool {
    /// The range that an address may be given out of.
    pub(crate) fn span_of(&self, address: IpAddr) -> Option<&Span> {
        self.0.iter().find(|span| span.offers(address))
    }

    /// All addresses once, beginning behind the one given last, so that an address is reused as late as possible.
    pub(crate) fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let found = last.and_then(|last| self.0.iter().position(|span| span.spans(last)));
        let (at, last) = (found.unwrap_or(0), last.filter(|_| found.is_some()));
        let (before, rest) = self.0.split_at(at);
        let (current, behind) = rest.split_at(rest.len().min(1));
        current
            .iter()
            .flat_map(move |span| span.behind(last))
            .chain(behind.iter().chain(before).flat_map(|span| span.behind(None)))
            .chain(
                current
                    .iter()
                    .flat_map(move |span| last.into_iter().flat_map(|last| span.up_to(last))),
            )
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spans: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&spans.join(", "))
    }
}

/// One pool a family, IPv4 first.
pub(crate) fn pools_of(ranges: &[IpNet]) -> Result<Vec<Pool>> {
    let of = |v4: bool| -> Vec<Range> {
        ranges
            .iter()
            .filter(|net| net.addr().is_ipv4() == v4)
            .map(|net| Range::from(*net))
            .collect()
    };
    let pools: Vec<Vec<Range>> = [of(true), of(false)]
        .into_iter()
        .filter(|pool| !pool.is_empty())
        .collect();
    check(&pools)
}

/// Checks pools given in full detail.
pub(crate) fn check(pools: &[Vec<Range>]) -> Result<Vec<Pool>> {
    let mut seen: Vec<Span> = Vec::new();
    let mut checked = Vec::with_capacity(pools.len());
    for pool in pools {
        let mut spans = Vec::with_capacity(pool.len());
        for range in pool {
            let span = Span::new(range)?;
            if let Some(other) = seen.iter().find(|other| other.overlaps(&span)) {
                return Err(Error::invalid("range", &span, format!("overlaps with {other}")));
            }
            seen.push(span.clone());
            spans.push(span);
        }
        if spans.iter().any(|span| span.is_ipv4() != spans[0].is_ipv4()) {
            return Err(Error::invalid(
                "range",
                Pool(spans),
                "mixes IPv4 and IPv6 in one pool",
            ));
        }
        if !spans.is_empty() {
            checked.push(Pool(spans));
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("network")).collect()
    }

    #[test]
    fn a_pool_for_each_family() {
        let pools = pools_of(&nets(&["fd00::/64", "10.0.0.0/24", "10.9.0.0/24"])).expect("valid");
        assert_eq!(pools.len(), 2);
        assert_eq!(pools[0].0.len(), 2, "IPv4 comes first");
        assert_eq!(pools[1].0.len(), 1);
        assert_eq!(pools_of(&[]).expect("none is no error"), []);
    }

    #[test]
    fn overlapping_ranges_are_refused_by_name() {
        let error = pools_of(&nets(&["10.0.0.0/16", "10.0.3.0/24"]))
            .expect_err("overlap")
            .to_string();
        assert!(
            error.contains("10.0.3.1-10.0.3.254") && error.contains("10.0.0.1"),
            "{error}"
        );
    }

    #[test]
    fn the_walk_goes_round_through_all_ranges() {
        let pools = pools_of(&nets(&["10.1.0.0/30", "10.2.0.0/29"])).expect("valid");
        let walk = |last: Option<&str>| -> Vec<String> {
            let last = last.map(|text| text.parse().expect("address"));
            pools[0]
                .candidates(last)
                .map(|address| address.to_string())
                .collect()
        };
        let all = [
            "10.1.0.2", "10.2.0.2", "10.2.0.3", "10.2.0.4", "10.2.0.5", "10.2.0.6",
        ];
        assert_eq!(walk(None), all);
        assert_eq!(walk(Some("192.0.2.1")), all, "an address of former ranges");
        assert_eq!(
            walk(Some("10.2.0.4")),
            [
                "10.2.0.5", "10.2.0.6", "10.1.0.2", "10.2.0.2", "10.2.0.3", "10.2.0.4"
            ]
        );
        assert_eq!(walk(Some("10.2.0.6"))[0], "10.1.0.2");
    }
}

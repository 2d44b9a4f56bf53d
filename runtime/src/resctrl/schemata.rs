//! Lines of a `schemata` file: `L3:0=7ff;1=7f`, a resource and for each of its domains a bit mask or a number.

/// Whether what a line asks for is what a file says. Both may write masks with leading zeros; of a resource that the line
/// names only some domains, the others don't matter.
pub(super) fn agree(line: &str, file: &str) -> bool {
    let Some((resource, wanted)) = parse(line) else {
        return false;
    };
    let is = file
        .lines()
        .filter_map(parse)
        .find(|(name, _)| *name == resource)
        .map(|(_, domains)| domains);
    let Some(is) = is else { return false };
    wanted.iter().all(|domain| is.contains(domain))
}

/// The resource, and its domains with what they are given.
fn parse(line: &str) -> Option<(&str, Vec<(u64, u64)>)> {
    let (resource, domains) = line.split_once(':')?;
    let resource = resource.trim();
    // bandwidths are decimal, masks are not
    let radix = if resource.starts_with("MB") || resource.starts_with("SMBA") {
        10
    } else {
        16
    };
    let domains = domains.trim().trim_end_matches(';').split(';').map(|domain| {
        let (id, value) = domain.split_once('=')?;
        let value = value.trim();
        let value = match radix {
            16 => value.strip_prefix("0x").unwrap_or(value),
            _ => value,
        };
        Some((id.trim().parse().ok()?, u64::from_str_radix(value, radix).ok()?))
    });
    Some((resource, domains.collect::<Option<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_agrees_however_it_is_written() {
        let file = "    MB:0=100;1= 20\n    L3:0=007ff;1=0000f\n";
        for line in [
            "L3:0=7ff;1=f",
            "L3:1=0xf",
            "L3: 0=7FF ; 1=0f;",
            "MB:1=20",
            "MB:0=100;1=20",
        ] {
            assert!(agree(line, file), "{line}");
        }
        for line in [
            "L3:0=7fe;1=f",
            "L3:2=f",
            "L2:0=f",
            "MB:0=10",
            "MB:0=0x64",
            "L3",
            "L3:",
            "L3:0",
            "",
        ] {
            assert!(!agree(line, file), "{line}");
        }
    }
}

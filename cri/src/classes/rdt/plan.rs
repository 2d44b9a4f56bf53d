//! From the file and the hardware to what is written into each group: pure.

use std::collections::BTreeMap;

use super::config::{Bandwidths, Caches, Class, File, Kubernetes, Optional, Partition};
use super::hardware::{Bandwidth, Cache, Hardware};
use super::share::{Share, divide, numbers};

/// The group that all processes are in that have no other; an empty name in the file means it, too.
pub(super) const ROOT: &str = "system/default";
/// Names that resctrl has uses of its own for.
const RESERVED: [&str; 5] = ["", ".", "..", "info", "mon_groups"];
/// Numbers of caches go up to here.
const MOST_CACHES: u64 = 4096;
/// No limit, in MBps.
const NO_LIMIT: u64 = u32::MAX as u64;

/// A class as it is to be made.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// The text for its `schemata`.
    pub(super) schemata: String,
    /// By whom it may not be chosen.
    pub(super) denied: Kubernetes,
}

/// Together, code, data.
type Shares = [Option<Share>; 3];
/// The bits of a partition: together, code, data.
type Granted = [Option<u64>; 3];
const UNIFIED: usize = 0;
const CODE: usize = 1;
const DATA: usize = 2;

/// What each class is to be, by its name.
///
/// # Errors
/// What can't be had, in words.
pub(super) fn plan(file: &File, hardware: &Hardware) -> Result<BTreeMap<String, Planned>, String> {
    let l2 = Level::of(hardware.l2.as_ref(), file, |p| p.l2.as_ref())?;
    let l3 = Level::of(hardware.l3.as_ref(), file, |p| p.l3.as_ref())?;
    let mut planned = BTreeMap::new();
    for (partition_name, partition) in &file.partitions {
        for (name, class) in &partition.classes {
            let default = Class::default();
            let class = class.as_ref().unwrap_or(&default);
            let name = checked(name)?;
            let within = |text: Result<String, String>| text.map_err(|why| format!("class {name:?}: {why}"));
            let mut schemata = String::new();
            for (level, name, of_class, of_partition, optional) in [
                (&l2, "L2", &class.l2, &partition.l2, file.options.l2),
                (&l3, "L3", &class.l3, &partition.l3, file.options.l3),
            ] {
                has_both(name, of_class.is_some(), of_partition.is_some())?;
                schemata += &within(match level {
                    Some(level) => level.lines(partition_name, of_class.as_ref()),
                    None => without(name, of_class.is_some(), optional),
                })?;
            }
            has_both("MB", class.mb.is_some(), partition.mb.is_some())?;
            schemata += &within(match &hardware.mb {
                Some(mb) => bandwidth(mb, partition, class),
                None => without("MB", class.mb.is_some(), file.options.mb),
            })?;
            let denied = class.kubernetes;
            let made = Planned { schemata, denied };
            if planned.insert(name.to_owned(), made).is_some() {
                return Err(format!("class {name:?} is there twice"));
            }
        }
    }
    Ok(planned)
}

fn checked(name: &str) -> Result<&str, String> {
    match name {
        "" | ROOT => Ok(ROOT),
        name if RESERVED.contains(&name) || name.contains(['/', '\n', '\0']) || name.len() > 255 => {
            Err(format!("class {name:?}: no name for a group"))
        }
        name => Ok(name),
    }
}

fn has_both(what: &str, class: bool, partition: bool) -> Result<(), String> {
    match class && !partition {
        true => Err(format!("a class has a share of {what}, and its partition none")),
        false => Ok(()),
    }
}

fn without(what: &str, is_wanted: bool, optional: Optional) -> Result<String, String> {
    match is_wanted && !optional.optional {
        true => Err(format!("this node can't divide {what}")),
        false => Ok(String::new()),
    }
}

/// The caches of a level, divided among the partitions.
struct Level<'a> {
    cache: &'a Cache,
    /// By partition and cache.
    granted: BTreeMap<(&'a str, u64), Granted>,
}

impl<'a> Level<'a> {
    fn of(
        cache: Option<&'a Cache>,
        file: &'a File,
        asked: impl Fn(&Partition) -> Option<&Caches>,
    ) -> Result<Option<Level<'a>>, String> {
        let Some(cache) = cache else { return Ok(None) };
        let mut shares = Vec::new();
        for (name, partition) in &file.partitions {
            let each = asked(partition).map(|caches| each_cache(caches, cache));
            let each = each
                .transpose()
                .map_err(|why| format!("partition {name:?}: {why}"))?;
            shares.push((name.as_str(), each));
        }
        let mut granted: BTreeMap<(&str, u64), Granted> = BTreeMap::new();
        for id in &cache.ids {
            for kind in [UNIFIED, CODE, DATA] {
                let wanted = shares.iter().map(|(name, each)| {
                    let share = each.as_ref().and_then(|each| each.get(id)?[kind]);
                    (*name, share)
                });
                for (name, bits) in grant(cache, &wanted.collect::<Vec<_>>())? {
                    granted.entry((name, *id)).or_default()[kind] = Some(bits);
                }
            }
        }
        Ok(Some(Level { cache, granted }))
    }

    /// A class's lines.
    fn lines(&self, partition: &str, class: Option<&Caches>) -> Result<String, String> {
        let each = class.map(|caches| each_cache(caches, self.cache)).transpose()?;
        let kinds: &[(usize, &str)] = match self.cache.is_apart {
            true => &[(CODE, "CODE"), (DATA, "DATA")],
            false => &[(UNIFIED, "")],
        };
        let mut lines = String::new();
        for (kind, suffix) in kinds {
            let mut parts = Vec::new();
            for id in &self.cache.ids {
                let all = u64::MAX >> (64 - self.cache.bits.clamp(1, 64));
                let granted = self.granted.get(&(partition, *id));
                let of = granted
                    .and_then(|bits| bits[*kind].or(bits[UNIFIED]))
                    .unwrap_or(all);
                let share = each.as_ref().and_then(|each| each.get(id));
                let bits = match share.and_then(|shares| shares[*kind].or(shares[UNIFIED])) {
                    Some(share) => share.within(of, self.cache.least)?,
                    None => of,
                };
                parts.push(format!("{id}={bits:x}"));
            }
            lines += &format!("{}{suffix}:{}\n", self.cache.name, parts.join(";"));
        }
        Ok(lines)
    }
}

/// What each partition gets of one cache.
fn grant<'a>(cache: &Cache, wanted: &[(&'a str, Option<Share>)]) -> Result<Vec<(&'a str, u64)>, String> {
    let (names, shares): (Vec<&str>, Vec<Share>) = wanted
        .iter()
        .filter_map(|(name, share)| Some((*name, (*share)?)))
        .unzip();
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    if shares.len() < wanted.len() {
        return Err(format!(
            "{}: some partitions have a share and some have none",
            cache.name
        ));
    }
    let percents: Vec<u64> = shares
        .iter()
        .filter_map(|share| match share {
            Share::Percent { low: 0, high } => Some(*high),
            _ => None,
        })
        .collect();
    if percents.len() == shares.len() {
        let parts =
            divide(cache.bits, cache.least, &percents).map_err(|why| format!("{}: {why}", cache.name))?;
        return Ok(names.into_iter().zip(parts).collect());
    }
    let mut taken = 0;
    let mut granted = Vec::new();
    for (name, share) in names.into_iter().zip(shares) {
        let Share::Bits(bits) = share else {
            return Err(format!(
                "{}: partitions have percentages, or masks, but not both",
                cache.name
            ));
        };
        if bits & taken != 0 || u64::BITS - bits.leading_zeros() > cache.bits {
            return Err(format!(
                "{}: partition {name:?} overlaps another, or has bits that aren't there",
                cache.name
            ));
        }
        taken |= bits;
        granted.push((name, bits));
    }
    Ok(granted)
}

/// The shares of every cache of a level.
fn each_cache(caches: &Caches, cache: &Cache) -> Result<BTreeMap<u64, Shares>, String> {
    let read = |texts: [Option<&str>; 3]| -> Result<Shares, String> {
        let [unified, code, data] =
            texts.map(|text| text.map(|text| Share::parse(text, cache.least)).transpose());
        let shares = [unified?, code?, data?];
        match shares {
            [None, ..] => Err("a cache share has no unified part".to_owned()),
            [_, Some(_), None] | [_, None, Some(_)] => {
                Err("a cache share has code or data, but not both".to_owned())
            }
            shares => Ok(shares),
        }
    };
    let all = Some(Share::Percent { low: 0, high: 100 });
    let (rest, listed) = match caches {
        Caches::Alike(text) => (read([Some(text), None, None])?, Vec::new()),
        Caches::Each(each) => {
            let rest = each.get("all").map(|parts| read(parts.texts())).transpose()?;
            let mut listed = Vec::new();
            for (list, parts) in each.iter().filter(|(list, _)| *list != "all") {
                listed.push((caches_of(list)?, read(parts.texts())?));
            }
            (rest.unwrap_or([all, None, None]), listed)
        }
    };
    Ok(spread(&cache.ids, rest, listed))
}

fn caches_of(list: &str) -> Result<Vec<u64>, String> {
    numbers(list, MOST_CACHES).ok_or_else(|| format!("{list:?}: expected numbers of caches, or all"))
}

/// Those that are listed and aren't there are passed over: one file serves many nodes.
fn spread<T: Copy>(ids: &[u64], rest: T, listed: Vec<(Vec<u64>, T)>) -> BTreeMap<u64, T> {
    let mut each: BTreeMap<u64, T> = ids.iter().map(|id| (*id, rest)).collect();
    for (list, value) in listed {
        for id in list {
            each.entry(id).and_modify(|old| *old = value);
        }
    }
    each
}

fn bandwidth(mb: &Bandwidth, partition: &Partition, class: &Class) -> Result<String, String> {
    let most = if mb.in_mbps { NO_LIMIT } else { 100 };
    let each = |asked: &Option<Bandwidths>| -> Result<BTreeMap<u64, u64>, String> {
        let (rest, listed) = match asked {
            None => (most, Vec::new()),
            Some(Bandwidths::Alike(texts)) => (limit(mb, texts)?, Vec::new()),
            Some(Bandwidths::Each(each)) => {
                let rest = each.get("all").map(|texts| limit(mb, texts)).transpose()?;
                let mut listed = Vec::new();
                for (list, texts) in each.iter().filter(|(list, _)| *list != "all") {
                    listed.push((caches_of(list)?, limit(mb, texts)?));
                }
                (rest.unwrap_or(most), listed)
            }
        };
        Ok(spread(&mb.ids, rest, listed))
    };
    let (of, share) = (each(&partition.mb)?, each(&class.mb)?);
    let parts = mb.ids.iter().map(|id| {
        let (of, share) = (of[id], share[id]);
        let value = match mb.in_mbps {
            true => of.min(share),
            false => (share * of.max(mb.least) / 100).max(mb.least),
        };
        format!("{id}={value}")
    });
    Ok(format!("MB:{}\n", parts.collect::<Vec<_>>().join(";")))
}

/// The one that counts here.
fn limit(mb: &Bandwidth, texts: &[String]) -> Result<u64, String> {
    let (unit, most) = if mb.in_mbps {
        ("MBps", NO_LIMIT)
    } else {
        ("%", 100)
    };
    let number = texts.iter().find_map(|text| text.strip_suffix(unit));
    number
        .and_then(|number| number.parse::<u64>().ok())
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("memory bandwidth {texts:?}: expected one in {unit} up to {most}"))
}

#[cfg(test)]
mod tests;

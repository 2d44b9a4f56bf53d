//! What becomes of each of CRI's resources.

use std::collections::BTreeMap;

use super::*;
use crate::spec::testing::node;

fn cri() -> LinuxContainerResources {
    LinuxContainerResources::default()
}

fn page(size: &str, limit: u64) -> HugepageLimit {
    HugepageLimit {
        page_size: size.to_owned(),
        limit,
    }
}

#[test]
fn nothing_said_is_nothing_set() {
    assert_eq!(to_oci(&cri(), &node()).unwrap(), LinuxResources::default());
}

#[test]
fn cpu_and_memory() {
    let resources = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: -1,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0-1,3".to_owned(),
        ..cri()
    };
    let oci = to_oci(&resources, &node()).unwrap();
    let cpu = oci.cpu().clone().unwrap();
    assert_eq!(
        (cpu.period(), cpu.quota(), cpu.shares()),
        (Some(100_000), Some(-1), Some(512))
    );
    assert_eq!(cpu.cpus().as_deref(), Some("0-1,3"));
    let memory = oci.memory().unwrap();
    assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(64 << 20)));
}

#[test]
fn swap_is_left_alone_where_it_cannot_be_limited_or_is_said_otherwise() {
    let limited = LinuxContainerResources {
        memory_limit_in_bytes: 5000,
        ..cri()
    };
    let without = NodeFacts {
        swap_limit: false,
        ..node()
    };
    assert_eq!(to_oci(&limited, &without).unwrap().memory().unwrap().swap(), None);
    let v2 = NodeFacts {
        cgroup_version: CgroupVersion::V2,
        ..node()
    };
    let unified = BTreeMap::from([("memory.swap.max".to_owned(), "max".to_owned())]);
    let explicit = LinuxContainerResources {
        unified,
        ..limited.clone()
    };
    assert_eq!(to_oci(&explicit, &v2).unwrap().memory().unwrap().swap(), None);
    let both = LinuxContainerResources {
        memory_swap_limit_in_bytes: 9000,
        ..limited
    };
    assert_eq!(
        to_oci(&both, &node()).unwrap().memory().unwrap().swap(),
        Some(9000)
    );
}

#[test]
fn only_the_sizes_of_huge_pages_that_can_be_limited() {
    let resources = LinuxContainerResources {
        hugepage_limits: vec![page("2MB", 4 << 20), page("1GB", 0)],
        ..cri()
    };
    assert_eq!(to_oci(&resources, &node()).unwrap().hugepage_limits(), &None);
    let some = NodeFacts {
        hugepage_sizes: vec!["2MB".to_owned()],
        ..node()
    };
    let limits = to_oci(&resources, &some)
        .unwrap()
        .hugepage_limits()
        .clone()
        .unwrap();
    assert_eq!(limits.len(), 1);
    assert_eq!(
        (limits[0].page_size().as_str(), limits[0].limit()),
        ("2MB", 4 << 20)
    );
}

#[test]
fn bad_values_are_refused_with_their_field() {
    for (resources, field) in [
        (
            LinuxContainerResources {
                cpu_shares: -1,
                ..cri()
            },
            "cpu_shares",
        ),
        (
            LinuxContainerResources {
                cpu_period: -5,
                ..cri()
            },
            "cpu_period",
        ),
        (
            LinuxContainerResources {
                cpu_quota: -2,
                ..cri()
            },
            "cpu_quota",
        ),
        (
            LinuxContainerResources {
                memory_limit_in_bytes: -2,
                ..cri()
            },
            "memory_limit_in_bytes",
        ),
        (
            LinuxContainerResources {
                cpuset_cpus: "3-1".to_owned(),
                ..cri()
            },
            "cpuset_cpus",
        ),
        (
            LinuxContainerResources {
                cpuset_cpus: "0,".to_owned(),
                ..cri()
            },
            "cpuset_cpus",
        ),
        (
            LinuxContainerResources {
                cpuset_mems: "a\nb".to_owned(),
                ..cri()
            },
            "cpuset_mems",
        ),
        (
            LinuxContainerResources {
                hugepage_limits: vec![page("../2MB", 0)],
                ..cri()
            },
            "page_size",
        ),
        (
            LinuxContainerResources {
                hugepage_limits: vec![page("2MB", u64::MAX)],
                ..cri()
            },
            "limit",
        ),
        (
            LinuxContainerResources {
                memory_limit_in_bytes: 10,
                memory_swap_limit_in_bytes: 9,
                ..cri()
            },
            "memory_swap_limit_in_bytes",
        ),
    ] {
        let error = to_oci(&resources, &node()).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn unified_settings_need_v2_and_stay_in_the_cgroup() {
    let with = |key: &str| LinuxContainerResources {
        unified: BTreeMap::from([(key.to_owned(), "1".to_owned())]),
        ..cri()
    };
    let v2 = NodeFacts {
        cgroup_version: CgroupVersion::V2,
        ..node()
    };
    assert!(to_oci(&with("memory.high"), &v2).is_ok());
    assert!(
        to_oci(&with("memory.high"), &node())
            .unwrap_err()
            .to_string()
            .contains("cgroup v1")
    );
    for key in [
        "",
        "memory",
        "../memory.max",
        "memory.max/x",
        ".",
        "..",
        "memory.",
        ".max",
    ] {
        assert!(to_oci(&with(key), &v2).is_err(), "{key:?}");
    }
}

#[test]
fn oom_scores_stay_in_their_range_and_above_the_floor() {
    let with = |value| LinuxContainerResources {
        oom_score_adj: value,
        ..cri()
    };
    let free = NodeFacts {
        oom_score_adj_floor: None,
        ..node()
    };
    assert_eq!(oom_score_adj(&with(-997), &free), Ok(-997));
    assert_eq!(
        oom_score_adj(
            &with(-997),
            &NodeFacts {
                oom_score_adj_floor: Some(-5),
                ..node()
            }
        ),
        Ok(-5)
    );
    assert_eq!(oom_score_adj(&with(1000), &free), Ok(1000));
    assert!(oom_score_adj(&with(1001), &free).is_err());
    assert!(oom_score_adj(&with(-1001), &free).is_err());
}

#[test]
fn a_change_keeps_what_it_does_not_say() {
    let current = LinuxContainerResources {
        cpu_shares: 100,
        memory_limit_in_bytes: 1000,
        cpuset_cpus: "0".to_owned(),
        hugepage_limits: vec![page("2MB", 1), page("1GB", 2)],
        unified: BTreeMap::from([("memory.high".to_owned(), "5".to_owned())]),
        ..cri()
    };
    assert_eq!(update(&current, &cri()), current);
    let change = LinuxContainerResources {
        cpu_shares: 200,
        hugepage_limits: vec![page("2MB", 9)],
        unified: BTreeMap::from([("memory.low".to_owned(), "1".to_owned())]),
        ..cri()
    };
    let after = update(&current, &change);
    assert_eq!((after.cpu_shares, after.memory_limit_in_bytes), (200, 1000));
    assert_eq!(after.hugepage_limits, [page("1GB", 2), page("2MB", 9)]);
    assert_eq!(after.unified.len(), 2);
    assert_eq!(update(&after, &change), after);
}

#[test]
fn no_swap_stays_no_swap() {
    let of = |memory, swap| LinuxContainerResources {
        memory_limit_in_bytes: memory,
        memory_swap_limit_in_bytes: swap,
        ..cri()
    };
    assert_eq!(update(&of(100, 100), &of(200, 0)), of(200, 200));
    assert_eq!(update(&of(100, 300), &of(200, 0)), of(200, 300));
    assert_eq!(update(&of(100, 100), &of(200, 250)), of(200, 250));
    assert_eq!(update(&of(0, 0), &of(200, 0)), of(200, 200));
}

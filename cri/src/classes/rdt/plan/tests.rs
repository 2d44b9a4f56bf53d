//! Plans from files and made-up hardware.

use super::*;

const SHARED: &str = r#"
options: {l2: {optional: true}}
partitions:
  exclusive:
    l2Allocation: "80%"
    l3Allocation: "60%"
    mbAllocation: ["100%"]
    classes:
      guaranteed:
        l2Allocation: "100%"
        l3Allocation: "100%"
  shared:
    l2Allocation: "20%"
    l3Allocation: {all: "40%", "1": "20%"}
    mbAllocation: ["50%", "2000MBps"]
    classes:
      burstable:
      besteffort:
        l3Allocation: "50%"
        mbAllocation: {all: ["50%", "1000MBps"], "1-7": ["10%", "9000MBps"]}
        kubernetes: {denyPodAnnotation: true}
      system/default:
        l3Allocation: "30%"
"#;

fn hardware(is_apart: bool, in_mbps: bool) -> Hardware {
    Hardware {
        l2: None,
        l3: Some(Cache {
            name: "L3",
            is_apart,
            bits: 20,
            least: 1,
            ids: vec![0, 1],
        }),
        mb: Some(Bandwidth {
            least: 10,
            in_mbps,
            ids: vec![0, 1],
        }),
    }
}

fn made(text: &str, hardware: &Hardware) -> Result<BTreeMap<String, Planned>, String> {
    plan(&File::parse(text)?, hardware)
}

#[test]
fn classes_share_what_their_partitions_divide() {
    let all = made(SHARED, &hardware(false, false)).unwrap();
    let of = |name: &str| all[name].schemata.as_str();
    // 60 and 40 of 20 bits; 60 and 20 of them in the second cache.
    assert_eq!(of("guaranteed"), "L3:0=fff;1=fff\nMB:0=100;1=100\n");
    assert_eq!(of("burstable"), "L3:0=ff000;1=f000\nMB:0=50;1=50\n");
    assert_eq!(of("besteffort"), "L3:0=f000;1=3000\nMB:0=25;1=10\n");
    assert_eq!(of(ROOT), "L3:0=7000;1=3000\nMB:0=50;1=50\n");
    assert!(all["besteffort"].denied.deny_pod_annotation && !all["burstable"].denied.deny_pod_annotation);
}

#[test]
fn code_and_data_and_absolute_rates() {
    let text = r#"
partitions:
  p:
    l3Allocation: "100%"
    mbAllocation: ["100%", "5000MBps"]
    classes:
      a: {l3Allocation: {all: {unified: "100%", code: "50%", data: "0-3"}}, mbAllocation: ["9000MBps"]}
      b: {l3Allocation: "0xf0"}
"#;
    let all = made(text, &hardware(true, true)).unwrap();
    assert_eq!(
        all["a"].schemata,
        "L3CODE:0=3ff;1=3ff\nL3DATA:0=f;1=f\nMB:0=5000;1=5000\n"
    );
    assert_eq!(
        all["b"].schemata,
        "L3CODE:0=f0;1=f0\nL3DATA:0=f0;1=f0\nMB:0=5000;1=5000\n"
    );
}

#[test]
fn what_can_not_be_is_told() {
    let refusal = |text: &str| made(text, &hardware(false, false)).unwrap_err();
    let one = |class: &str| format!("partitions: {{p: {{l3Allocation: \"100%\", classes: {{{class}}}}}}}");
    for (text, says) in [
        (one("\"a/b\": "), "no name for a group"),
        (one("info: "), "no name for a group"),
        (one("a: {l3Allocation: \"0x1fffff\"}"), "doesn't fit"),
        (one("a: {l3Allocation: \"120%\"}"), "percentage up to 100"),
        (one("a: {mbAllocation: [\"50%\"]}"), "its partition none"),
        (one("a: {l3Allocation: {x: \"5%\"}}"), "numbers of caches"),
        (one("a: {l3Allocation: {all: {code: \"5%\"}}}"), "no unified part"),
        (one("a: {wrong: 1}"), "wrong"),
        (
            "partitions: {a: {l3Allocation: \"60%\"}, b: {l3Allocation: \"60%\"}}".to_owned(),
            "120%",
        ),
        (
            "partitions: {a: {l3Allocation: \"0xf\"}, b: {l3Allocation: \"0x18\"}}".to_owned(),
            "overlaps",
        ),
        (
            "partitions: {a: {l3Allocation: \"0xf\"}, b: {l3Allocation: \"50%\"}}".to_owned(),
            "not both",
        ),
        (
            "partitions: {a: {l3Allocation: \"50%\"}, b: {classes: {c: }}}".to_owned(),
            "some have none",
        ),
        (
            "partitions: {a: {classes: {c: }}, b: {classes: {c: }}}".to_owned(),
            "there twice",
        ),
        (
            "partitions: {a: {l2Allocation: \"50%\", classes: {c: {l2Allocation: \"50%\"}}}}".to_owned(),
            "can't divide L2",
        ),
        (
            "partitions: {a: {mbAllocation: [\"5MBps\"], classes: {c: }}}".to_owned(),
            "expected one in %",
        ),
    ] {
        let refused = refusal(&text);
        assert!(refused.contains(says), "{text}: {refused}");
    }
}

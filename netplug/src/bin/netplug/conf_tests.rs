//! Tests of reading configurations.

use serde_json::{Value, json};

use super::*;

fn parse(value: &Value) -> Result<Conf> {
    Conf::parse(value.to_string().as_bytes(), Command::Add)
}

fn refused(value: &Value) -> String {
    let failure = parse(value).expect_err("must be refused");
    failure.to_json("1.0.0")["msg"]
        .as_str()
        .expect("message")
        .to_owned()
}

#[test]
fn an_upstream_configuration_is_read() {
    let conf = parse(&json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "netplug", "bridge": "cni0", "isDefaultGateway": true,
        "ipMasq": true, "hairpinMode": true, "mtu": 1400, "capabilities": {"portMappings": true},
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": "/d"},
        "runtimeConfig": {
            "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "TCP", "hostIP": "192.0.2.1"}],
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000},
        },
    }))
    .expect("valid");
    assert!(!conf.is_chained());
    assert_eq!(conf.state_dir(), PathBuf::from("/d/netplug/pods"));
    assert_eq!(conf.ports().expect("valid")[0].to_string(), "192.0.2.1:80/tcp");
    assert_eq!(
        conf.bandwidth().ingress,
        Some(Rate {
            bits_per_second: 1000,
            burst_bits: 2000
        })
    );
    assert_eq!(conf.bandwidth().egress, None);
}

#[test]
fn without_ranges_it_is_chained() {
    let conf = parse(&json!({
        "cniVersion": "0.3.1", "name": "n", "type": "netplug", "snat": true, "egressRate": 8000, "egressBurst": 1,
    }));
    let conf = conf.expect("valid");
    assert!(conf.is_chained());
    assert_eq!(conf.bandwidth().egress.expect("limit").bits_per_second, 8000);
}

#[test]
fn what_is_wrong_is_named() {
    let base = |key: &str, value: Value| {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "n", "type": "netplug"});
        conf[key] = value;
        conf
    };
    assert!(refused(&base("ipMasqq", json!(true))).contains("ipMasqq"));
    assert!(refused(&base("cniVersion", json!("0.2.0"))).contains("0.2.0"));
    assert!(refused(&base("name", json!("a/b"))).contains("a/b"));
    assert!(refused(&base("portIsolation", json!(true))).contains("portIsolation"));
    assert!(refused(&base("mtu", json!("big"))).contains("big"));
    assert!(refused(&base("ipam", json!({"foo": 1}))).contains("foo"));
    assert!(parse(&base("example.org/key", json!(1))).is_ok());
    assert!(parse(&base("_comment", json!("x"))).is_ok());
    let port = json!({"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}]});
    let failure = parse(&base("runtimeConfig", port))
        .expect("read")
        .ports()
        .expect_err("no such protocol");
    assert!(
        failure.to_json("1.0.0")["msg"]
            .as_str()
            .is_some_and(|text| text.contains("icmp"))
    );
    assert!(Conf::parse(b"{", Command::Add).is_err());
}

#[test]
fn del_needs_no_valid_configuration() {
    let conf = json!({
        "cniVersion": "1.0.0", "name": "n", "mtu": "nonsense", "unknown": 1,
        "ipam": {"subnet": 5, "foo": 1, "dataDir": "/d"},
    });
    let conf = Conf::parse(conf.to_string().as_bytes(), Command::Del).expect("enough for DEL");
    assert!(!conf.is_chained());
    assert_eq!(conf.state_dir(), PathBuf::from("/d/netplug/n"));
}

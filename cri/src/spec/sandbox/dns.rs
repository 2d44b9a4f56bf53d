//! A pod's resolv.conf(5).

use std::net::IpAddr;

use super::SpecError;
use crate::proto::DnsConfig;

/// The text of resolv.conf; empty where the config is.
pub fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    let mut line = |key: &str, words: &str| text.push_str(&format!("{key} {words}\n"));
    if !dns.searches.is_empty() {
        line("search", &dns.searches.join(" "));
    }
    for server in &dns.servers {
        line("nameserver", server);
    }
    if !dns.options.is_empty() {
        line("options", &dns.options.join(" "));
    }
    text
}

/// Each word must stay the word that it is.
pub(super) fn validate(dns: &DnsConfig) -> Result<(), SpecError> {
    for server in &dns.servers {
        // A link-local address may name its interface.
        let address = server
            .split_once('%')
            .map_or(server.as_str(), |(address, _)| address);
        if address.parse::<IpAddr>().is_err() || server.contains(char::is_whitespace) {
            return Err(SpecError::invalid(
                "dns_config.servers",
                server,
                "not an IP address",
            ));
        }
    }
    for (field, words) in [
        ("dns_config.searches", &dns.searches),
        ("dns_config.options", &dns.options),
    ] {
        let bad =
            |word: &&String| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control());
        if let Some(word) = words.iter().find(bad) {
            return Err(SpecError::invalid(field, word, "not one word"));
        }
    }
    Ok(())
}

//! `[nri]`, raw to validated. Names and forms are those of containerd's section of the same name.

use std::time::Duration;

use super::raw::RawNri;
use super::resolve::{SOCKET_PATH_MAX, absolute};
use super::{ConfigError, NriConfig};

pub(super) fn resolve(raw: RawNri) -> Result<NriConfig, ConfigError> {
    let socket_path = absolute("nri.socket_path", &raw.socket_path)?;
    if socket_path.as_os_str().len() > SOCKET_PATH_MAX {
        let reason = format!("longer than {SOCKET_PATH_MAX} bytes");
        return Err(ConfigError::value("nri.socket_path", raw.socket_path, reason));
    }
    Ok(NriConfig {
        disable: raw.disable,
        socket_path,
        plugin_path: absolute("nri.plugin_path", &raw.plugin_path)?,
        plugin_config_path: absolute("nri.plugin_config_path", &raw.plugin_config_path)?,
        plugin_registration_timeout: duration(
            "nri.plugin_registration_timeout",
            &raw.plugin_registration_timeout,
        )?,
        plugin_request_timeout: duration("nri.plugin_request_timeout", &raw.plugin_request_timeout)?,
        disable_connections: raw.disable_connections,
        default_validator: raw.default_validator,
    })
}

/// A time as `2s` or `500ms`; up to an hour.
fn duration(key: &str, text: &str) -> Result<Duration, ConfigError> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let millis = units.into_iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(millis)
    });
    millis
        .filter(|millis| (1..=3_600_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| ConfigError::value(key, text, "expected a time as 2s or 500ms, up to 60m"))
}

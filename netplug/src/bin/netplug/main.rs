//! The CNI plugin netplug: reads `CNI_*` variables and a configuration on stdin, writes a result or an error to stdout.
//!
//! ```text
//! main ── call (environment) ── conf (stdin) ── interface: a pod's interface on a bridge   ── netplug::Network
//!                                            └─ chained:   host ports and limits for a pod
//!                                                          whose interface an earlier plugin has made
//! ```

mod call;
mod chained;
mod conf;
mod error;
mod interface;
mod ipam;
mod keys;
mod reply;
mod sweep;
mod version;

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use self::call::{Call, Command};
use self::conf::Conf;
use self::error::{Code, Failure, Result};
use self::version::Version;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(sweep::ARGUMENT) {
        return sweep::run();
    }
    let mut version = Version::LATEST.to_string();
    let (output, code) = match run(&mut version) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(&version), ExitCode::FAILURE),
    };
    if !output.is_null() && writeln!(std::io::stdout(), "{output}").is_err() {
        return ExitCode::FAILURE;
    }
    code
}

/// Does what the environment asks for. `version` becomes that of the configuration, for errors too.
fn run(version: &mut String) -> Result<Value> {
    let Some(command) = Command::from_env()? else {
        return Err(Failure::new(
            Code::Environment,
            "CNI_COMMAND is not set: this program is run by a container runtime, as a CNI plugin",
        ));
    };
    let mut stdin = Vec::new();
    std::io::stdin()
        .read_to_end(&mut stdin)
        .map_err(|error| Failure::new(Code::Io, format!("read configuration: {error}")))?;
    if command == Command::Version {
        return Ok(json!({
            "cniVersion": Version::LATEST.to_string(),
            "supportedVersions": Version::ALL.map(|version| version.to_string()),
        }));
    }
    let conf = Conf::parse(&stdin, command)?;
    *version = conf.version.to_string();
    if !conf.version.has(command) {
        let message = format!("{command} is not part of version {version}");
        return Err(Failure::new(Code::Environment, message));
    }
    let call = Call::from_env(command)?;
    if conf.is_chained() {
        chained::run(&call, &conf)
    } else {
        interface::run(&call, &conf)
    }
}

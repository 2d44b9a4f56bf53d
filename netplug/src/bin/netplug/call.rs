//! The call: what the `CNI_*` environment variables say.

use std::path::PathBuf;

use crate::error::{Code, Failure, Result};

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Command {
    /// `None` if the variable isn't set.
    pub(crate) fn from_env() -> Result<Option<Command>> {
        let text = variable("CNI_COMMAND");
        Ok(Some(match text.as_str() {
            "" => return Ok(None),
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "STATUS" => Command::Status,
            "GC" => Command::Gc,
            "VERSION" => Command::Version,
            _ => {
                return Err(Failure::new(
                    Code::Environment,
                    format!("unknown CNI_COMMAND {text:?}"),
                ));
            }
        }))
    }

    /// Whether it is of one pod.
    fn is_of_pod(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Status => "STATUS",
            Command::Gc => "GC",
            Command::Version => "VERSION",
        })
    }
}

/// A command with its pod; the pod's parts are empty where the command is of none.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) id: String,
    pub(crate) ifname: String,
    /// `None` for DEL when the namespace is gone.
    pub(crate) netns: Option<PathBuf>,
    /// `CNI_ARGS`, taken apart.
    args: Vec<(String, String)>,
}

impl Call {
    pub(crate) fn from_env(command: Command) -> Result<Call> {
        let netns = Some(variable("CNI_NETNS"))
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let call = Call {
            command,
            id: variable("CNI_CONTAINERID"),
            ifname: variable("CNI_IFNAME"),
            netns,
            args: arguments(&variable("CNI_ARGS")),
        };
        let missing = |name: &str| Failure::new(Code::Environment, format!("{name} is not set"));
        if command.is_of_pod() {
            if call.id.is_empty() {
                return Err(missing("CNI_CONTAINERID"));
            }
            if call.ifname.is_empty() {
                return Err(missing("CNI_IFNAME"));
            }
            if call.netns.is_none() && command != Command::Del {
                return Err(missing("CNI_NETNS"));
            }
        }
        Ok(call)
    }

    /// The value of a key in `CNI_ARGS`.
    pub(crate) fn argument(&self, key: &str) -> Option<&str> {
        self.args
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The pod's namespace, for commands that need one.
    pub(crate) fn netns(&self) -> Result<&PathBuf> {
        self.netns
            .as_ref()
            .ok_or_else(|| Failure::new(Code::Environment, "CNI_NETNS is not set"))
    }
}

fn variable(name: &str) -> String {
    std::env::var_os(name)
        .map(|value| value.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// `A=1;B=2`. What isn't of that form is left out: the arguments are those of whoever runs the plugin.
fn arguments(text: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        part.split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    text.split(';').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn arguments_are_taken_apart() {
        let args = arguments("IgnoreUnknown=1;IP=10.0.0.5;;odd;K=a=b");
        let expected = [("IgnoreUnknown", "1"), ("IP", "10.0.0.5"), ("K", "a=b")];
        assert_eq!(
            args.iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
    }
}

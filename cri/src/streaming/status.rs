//! How exec and attach end, in the words of the error stream.

use bytes::Bytes;
use serde_json::{Value, json};

/// How the process of a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With 0, or there is no code to tell.
    Success,
    /// With this code, 128 + signal for signals.
    Exit(i32),
    /// It could not be run, or was lost.
    Failed(String),
}

/// Which words a protocol's error stream uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Plain text, and that only for errors: up to version 3.
    Text,
    /// A `Status` object of Kubernetes' API (meta/v1), always: from version 4 on.
    Json,
}

impl Outcome {
    /// What goes to the error stream; empty for nothing. `verb` completes "error … in container", `command` is named
    /// where its code is.
    pub(super) fn write(&self, form: Form, verb: &str, command: &[String]) -> Bytes {
        let message = match self {
            Self::Success => String::new(),
            Self::Exit(code) => format!(
                "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
                command.join(" ")
            ),
            Self::Failed(reason) => format!("Internal error occurred: error {verb} container: {reason}"),
        };
        match form {
            Form::Text => message.into(),
            Form::Json => self.status(&message).to_string().into(),
        }
    }

    fn status(&self, message: &str) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(reason) => json!({
                "metadata": {},
                "status": "Failure",
                "message": message,
                "reason": "InternalError",
                "details": {"causes": [{"message": reason}]},
                "code": 500,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(outcome: &Outcome) -> Value {
        let bytes = outcome.write(Form::Json, "executing command in", &["sh".into(), "-c".into()]);
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn newer_protocols_get_an_object() {
        assert_eq!(json_of(&Outcome::Success)["status"], "Success");
        let exit = json_of(&Outcome::Exit(137));
        assert_eq!(exit["reason"], "NonZeroExitCode");
        assert_eq!(
            exit["details"]["causes"],
            json!([{"reason": "ExitCode", "message": "137"}])
        );
        let message = exit["message"].as_str().unwrap();
        assert!(
            message.starts_with("command terminated with non-zero exit code"),
            "{message}"
        );
        let failed = json_of(&Outcome::Failed("no such file".into()));
        assert_eq!(
            (&failed["reason"], &failed["code"]),
            (&json!("InternalError"), &json!(500))
        );
        assert_eq!(
            failed["message"],
            "Internal error occurred: error executing command in container: no such file"
        );
    }

    #[test]
    fn older_protocols_get_text_and_only_for_errors() {
        let text = |outcome: Outcome| outcome.write(Form::Text, "attaching to", &["x".into()]);
        assert!(text(Outcome::Success).is_empty());
        assert!(text(Outcome::Exit(3)).ends_with(b"[x], exit code 3"));
        assert!(text(Outcome::Failed("gone".into())).ends_with(b"error attaching to container: gone"));
    }
}

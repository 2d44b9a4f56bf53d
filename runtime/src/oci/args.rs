//! The command line's grammar: flags as runc and its callers know them.
//!
//! `-name`, `--name`, `--name value`, `--name=value`; a flag that takes no value may be given one (`--detach=false`).
//! Flags may follow the container's id, except for commands whose further words are somebody else's. `--` ends them.

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    pub(super) long: &'static str,
    /// Empty if there is none.
    pub(super) short: &'static str,
    pub(super) takes_value: bool,
    pub(super) help: &'static str,
}

/// One that takes a value.
pub(super) const fn value(long: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short,
        takes_value: true,
        help,
    }
}

/// One that is there or isn't.
pub(super) const fn switch(long: &'static str, short: &'static str, help: &'static str) -> Flag {
    Flag {
        long,
        short,
        takes_value: false,
        help,
    }
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    flags: Vec<(&'static str, String)>,
    /// The words that are no flags.
    pub(super) words: Vec<String>,
}

impl Given {
    /// Reads `args`; with `mixed` flags may follow words.
    pub(super) fn parse(
        flags: &[Flag],
        mixed: bool,
        args: impl Iterator<Item = String>,
    ) -> Result<Self, String> {
        let mut given = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                given.words.push(arg);
                if mixed {
                    continue;
                }
                break;
            };
            if arg == "--" {
                break;
            }
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, attached) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let Some(flag) = flags
                .iter()
                .find(|f| f.long == name || (f.short == name && !name.is_empty()))
            else {
                return Err(format!("flag provided but not defined: -{name}"));
            };
            let value = match (attached, flag.takes_value) {
                (Some(value), _) => value,
                (None, false) => "true".to_owned(),
                (None, true) => args
                    .next()
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
            };
            if !flag.takes_value && !matches!(value.as_str(), "true" | "false") {
                return Err(format!("invalid boolean value {value:?} for -{name}"));
            }
            given.flags.push((flag.long, value));
        }
        given.words.extend(args);
        Ok(given)
    }

    /// The value given last.
    pub(super) fn get(&self, flag: &str) -> Option<&str> {
        self.all(flag).last()
    }

    /// Every value.
    pub(super) fn all<'a>(&'a self, flag: &str) -> impl Iterator<Item = &'a str> {
        self.flags
            .iter()
            .filter(move |(name, _)| *name == flag)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, flag: &str) -> bool {
        self.get(flag) == Some("true")
    }

    /// A number, if one is given.
    pub(super) fn number<T: std::str::FromStr>(&self, flag: &str) -> Result<Option<T>, String> {
        self.get(flag)
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("invalid value {text:?} for flag -{flag}"))
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        value("bundle", "b", ""),
        switch("detach", "d", ""),
        value("env", "e", ""),
    ];

    fn parse(mixed: bool, line: &str) -> Result<Given, String> {
        Given::parse(FLAGS, mixed, line.split(' ').map(str::to_owned))
    }

    #[test]
    fn every_form_of_a_flag_is_understood() {
        for line in [
            "--bundle /b x",
            "-b /b x",
            "--bundle=/b x",
            "-bundle=/b x",
            "x -b /b",
            "x --bundle /b",
        ] {
            let given = parse(true, line).unwrap();
            assert_eq!(
                (given.get("bundle"), given.words.as_slice()),
                (Some("/b"), &["x".to_owned()][..]),
                "{line}"
            );
        }
        let given = parse(true, "-e A=1 --env B=2 -d --detach=false x").unwrap();
        assert_eq!(given.all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert!(!given.is_on("detach"));
    }

    #[test]
    fn words_of_somebody_else_are_left_alone() {
        assert_eq!(
            parse(false, "-d x sh -e -c").unwrap().words,
            ["x", "sh", "-e", "-c"]
        );
        assert_eq!(parse(true, "x -d -- -b").unwrap().words, ["x", "-b"]);
        assert_eq!(parse(true, "x -").unwrap().words, ["x", "-"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse(true, "--nope").unwrap_err().contains("-nope"));
        assert!(parse(true, "x -b").unwrap_err().contains("needs an argument"));
        assert!(parse(true, "--detach=perhaps x").unwrap_err().contains("perhaps"));
        assert!(parse(true, "-= x").unwrap_err().contains("not defined"));
        assert!(parse(true, "-b x y").unwrap().number::<u32>("bundle").is_err());
    }
}

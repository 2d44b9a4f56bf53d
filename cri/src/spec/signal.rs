//! Stop signals: CRI's enum, image configs' names and numbers, and the kernel's numbers (signal(7), x86-64).

use oci_spec::image::ImageConfiguration;

use super::SpecError;
use crate::proto::{ContainerConfig, Signal};

/// SIGTERM.
const TERM: i32 = 15;
/// The first real-time signal that programs may use; libc keeps 32 and 33.
const RTMIN: i32 = 34;
/// The last real-time signal.
const RTMAX: i32 = 64;

/// Names without `SIG`; of names that share a number the usual one comes first.
const NAMES: &[(&str, i32, Signal)] = &[
    ("HUP", 1, Signal::Sighup),
    ("INT", 2, Signal::Sigint),
    ("QUIT", 3, Signal::Sigquit),
    ("ILL", 4, Signal::Sigill),
    ("TRAP", 5, Signal::Sigtrap),
    ("ABRT", 6, Signal::Sigabrt),
    ("IOT", 6, Signal::Sigiot),
    ("BUS", 7, Signal::Sigbus),
    ("FPE", 8, Signal::Sigfpe),
    ("KILL", 9, Signal::Sigkill),
    ("USR1", 10, Signal::Sigusr1),
    ("SEGV", 11, Signal::Sigsegv),
    ("USR2", 12, Signal::Sigusr2),
    ("PIPE", 13, Signal::Sigpipe),
    ("ALRM", 14, Signal::Sigalrm),
    ("TERM", TERM, Signal::Sigterm),
    ("STKFLT", 16, Signal::Sigstkflt),
    ("CHLD", 17, Signal::Sigchld),
    ("CLD", 17, Signal::Sigcld),
    ("CONT", 18, Signal::Sigcont),
    ("STOP", 19, Signal::Sigstop),
    ("TSTP", 20, Signal::Sigtstp),
    ("TTIN", 21, Signal::Sigttin),
    ("TTOU", 22, Signal::Sigttou),
    ("URG", 23, Signal::Sigurg),
    ("XCPU", 24, Signal::Sigxcpu),
    ("XFSZ", 25, Signal::Sigxfsz),
    ("VTALRM", 26, Signal::Sigvtalrm),
    ("PROF", 27, Signal::Sigprof),
    ("WINCH", 28, Signal::Sigwinch),
    ("IO", 29, Signal::Sigio),
    ("POLL", 29, Signal::Sigpoll),
    ("PWR", 30, Signal::Sigpwr),
    ("SYS", 31, Signal::Sigsys),
];

/// The number of the signal that stops a container: the config's, else the image's, else SIGTERM.
///
/// # Errors
/// The config's number or the image's text is no signal.
pub fn resolve(config: &ContainerConfig, image: &ImageConfiguration) -> Result<i32, SpecError> {
    let number = config.stop_signal;
    let asked =
        Signal::try_from(number).map_err(|_| SpecError::invalid("stop_signal", number, "no such signal"))?;
    if asked != Signal::RuntimeDefault {
        return Ok(to_number(asked));
    }
    match image.config().as_ref().and_then(|i| i.stop_signal().as_deref()) {
        None | Some("") => Ok(TERM),
        Some(text) => {
            parse(text).ok_or_else(|| SpecError::invalid("the image's StopSignal", text, "no such signal"))
        }
    }
}

/// The kernel's number as CRI's enum; `RuntimeDefault` for those that it lacks.
pub fn to_proto(number: i32) -> Signal {
    if (RTMIN..=RTMAX).contains(&number) {
        // CRI numbers them in the same order.
        return Signal::try_from(number - RTMIN + Signal::Sigrtmin as i32).unwrap_or_default();
    }
    NAMES
        .iter()
        .find(|(_, known, _)| *known == number)
        .map_or(Signal::RuntimeDefault, |(_, _, signal)| *signal)
}

/// CRI's enum as the kernel's number.
fn to_number(signal: Signal) -> i32 {
    let named = NAMES.iter().find(|(_, _, known)| *known == signal);
    named.map_or(
        signal as i32 - Signal::Sigrtmin as i32 + RTMIN,
        |(_, number, _)| *number,
    )
}

/// `SIGTERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-2`.
fn parse(text: &str) -> Option<i32> {
    let valid = |number: i32| (1..=RTMAX).contains(&number).then_some(number);
    if let Ok(number) = text.parse() {
        return valid(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| match rest {
        "" => Some(0),
        _ => rest.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from),
    };
    let real_time = |number: i32| (RTMIN..=RTMAX).contains(&number).then_some(number);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN + offset(rest, '+')?);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX - offset(rest, '-')?);
    }
    NAMES
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|(_, number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::testing::image;

    fn resolved(signal: i32, of_image: &str) -> Result<i32, SpecError> {
        let config = ContainerConfig {
            stop_signal: signal,
            ..Default::default()
        };
        resolve(&config, &image(&serde_json::json!({ "StopSignal": of_image })))
    }

    #[test]
    fn the_config_goes_before_the_image() {
        assert_eq!(resolved(Signal::Sigusr1 as i32, "SIGINT").unwrap(), 10);
        assert_eq!(resolved(0, "SIGINT").unwrap(), 2);
        assert_eq!(resolved(0, "").unwrap(), 15);
        assert!(resolved(66, "").is_err());
        assert!(resolved(0, "SIGFOO").is_err());
    }

    #[test]
    fn spellings_of_images() {
        for (text, number) in [
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("RTMAX-14", Some(50)),
            ("SIGRTMAX", Some(64)),
            ("RTMIN+31", None),
            ("RTMAX-31", None),
            ("RTMIN-1", None),
            ("RTMIN+", None),
            ("0", None),
            ("65", None),
            ("-9", None),
            ("SIG", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }

    #[test]
    fn all_of_cri_s_signals_come_back() {
        for value in 1..=65 {
            let signal = Signal::try_from(value).unwrap();
            let number = to_number(signal);
            assert!((1..=64).contains(&number), "{signal:?}");
            assert_eq!(to_number(to_proto(number)), number, "{signal:?}");
        }
        assert_eq!(to_proto(37), Signal::Sigrtminplus3);
        assert_eq!(to_proto(64), Signal::Sigrtmax);
        assert_eq!(to_proto(17), Signal::Sigchld);
        assert_eq!(to_proto(33), Signal::RuntimeDefault);
        assert_eq!(to_proto(-5), Signal::RuntimeDefault);
    }
}

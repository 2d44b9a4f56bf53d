//! Points at which a test lets the process die, to see what a start makes of what is left. Only debug builds have
//! them.

/// Ends the process at once, as SIGKILL would, if the environment names this point.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    if std::env::var_os("PINTLE_IMAGES_CRASH").is_some_and(|wanted| wanted == name) {
        std::process::abort();
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}

//! Comparisons whose failure shows both sides.

use std::fmt::Debug;

use anyhow::{Result, bail, ensure};
use tonic::{Code, Status};

/// Codes for a request that cannot be met as it is.
const REFUSALS: [Code; 4] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::Unknown,
];

/// Fails unless `found` is `expected`.
pub fn equal<A: Debug + PartialEq<B>, B: Debug>(what: &str, found: &A, expected: &B) -> Result<()> {
    if *found == *expected {
        return Ok(());
    }
    bail!("{what}: found {found:?}, expected {expected:?}")
}

/// Fails unless the daemon refused, by a code that puts the fault where it is and a message that names it.
pub fn refused<T: Debug>(what: &str, answer: Result<T, Status>, names: &str) -> Result<Status> {
    let error = match answer {
        Ok(answer) => bail!("{what} was accepted: {answer:?}"),
        Err(error) => error,
    };
    ensure!(
        REFUSALS.contains(&error.code()),
        "{what}: code {:?}, {}",
        error.code(),
        error.message()
    );
    ensure!(
        error.message().contains(names),
        "{what}: no {names:?} in {:?}",
        error.message()
    );
    Ok(error)
}

/// The error of a call that must fail, whatever its code, in a message that holds `words`.
pub fn failed<T: Debug>(what: &str, answer: Result<T, Status>, words: &str) -> Result<Status> {
    match answer {
        Err(status) if status.message().contains(words) => Ok(status),
        Err(status) => bail!("{what}: {}, without {words:?}", status.message()),
        Ok(answer) => bail!("{what}: answered with {answer:?}"),
    }
}

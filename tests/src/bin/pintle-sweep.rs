//! Clears what killed test runs left on this machine. Slots that a running test holds are left alone.

use anyhow::Result;
use pintle_tests::slot::{SLOTS, Slot};

fn main() -> Result<()> {
    for number in 0..SLOTS {
        // Dropping a slot sweeps it.
        drop(Slot::try_take(number)?);
    }
    Ok(())
}

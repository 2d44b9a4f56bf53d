//! Clears what killed test runs left on this machine. Slots that a running test holds are left alone.

use anyhow::Result;
use pintle_tests::slot::Slot;

fn main() -> Result<()> {
    for number in Slot::numbers_in_use() {
        // Dropping a slot sweeps it.
        drop(Slot::try_take(number)?);
    }
    Ok(())
}

//! One lock for each sandbox, for as long as anybody holds or awaits it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Locks by name.
#[derive(Debug, Default)]
pub(super) struct Keyed(Mutex<HashMap<String, Lock>>);

impl Keyed {
    /// Waits for the turn of `key`, which lasts as long as the guard.
    pub(super) async fn lock(&self, key: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or awaits are known to the map alone.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(key.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_of_one_key_come_one_after_another() {
        let keyed = Keyed::default();
        let turn = keyed.lock("a").await;
        let _other = keyed.lock("b").await;
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), keyed.lock("a"))
                .await
                .is_err()
        );
        drop(turn);
        let _next = keyed.lock("a").await;
        assert_eq!(keyed.0.lock().unwrap_or_else(PoisonError::into_inner).len(), 2);
    }
}

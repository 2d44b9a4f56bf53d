//! Memory and processor time of a daemon and of what runs beside it: monitors, shims, pause processes.

use std::time::Duration;

use anyhow::Result;
use pintle_tests::host;
use pintle_tests::slot::Slot;

/// In KiB, from smaps_rollup.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Memory {
    /// The daemon's proportional share.
    pub(crate) daemon_pss: u64,
    /// What one monitor or shim has written and keeps for itself, on average.
    pub(crate) monitor_private: u64,
    /// Proportional share of one monitor or shim, on average.
    pub(crate) monitor_pss: u64,
    /// Proportional share of all that a pod costs besides its container: monitor or shim, pause.
    pub(crate) pod_pss: u64,
}

/// Measures while `pods` idle pods run.
pub(crate) fn of(slot: &Slot, daemon: i32, pods: usize) -> Result<Memory> {
    let (mut private, mut pss, mut overhead, mut monitors) = (0, 0, 0, 0);
    for pid in pids(slot).into_iter().filter(|pid| *pid != daemon) {
        let line = host::cmdline(pid);
        let (own, share) = host::memory(pid)?;
        if line.contains("pintle-monitor") || line.contains("containerd-shim") {
            (private, pss, monitors) = (private + own, pss + share, monitors + 1);
        }
        if !is_payload(pid) {
            overhead += share;
        }
    }
    anyhow::ensure!(monitors > 0, "no monitor or shim was found");
    Ok(Memory {
        daemon_pss: host::memory(daemon)?.1,
        monitor_private: private / monitors,
        monitor_pss: pss / monitors,
        pod_pss: overhead / pods as u64,
    })
}

/// Processor time that the daemon and all that runs beside its pods take while nobody asks for anything, in percent of a
/// core; without the containers' own.
pub(crate) async fn idle_cpu(slot: &Slot) -> Result<f64> {
    const WINDOW: Duration = Duration::from_secs(10);
    let pids: Vec<i32> = pids(slot).into_iter().filter(|pid| !is_payload(*pid)).collect();
    let total = || {
        pids.iter()
            .map(|pid| host::cpu_time(*pid))
            .sum::<Result<Duration>>()
    };
    let before = total()?;
    tokio::time::sleep(WINDOW).await;
    Ok((total()? - before).as_secs_f64() / WINDOW.as_secs_f64() * 100.0)
}

/// The daemon, and everything that its pods are made of.
fn pids(slot: &Slot) -> Vec<i32> {
    let mut pids = host::pids_naming(&slot.state());
    pids.extend(host::pids_in_cgroup(&slot.cgroup()));
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// What the container itself runs is no overhead.
fn is_payload(pid: i32) -> bool {
    host::cmdline(pid).starts_with("sleep 86400")
}

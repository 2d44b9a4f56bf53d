//! The metrics that there are. Names and meanings are cAdvisor's, which dashboards and alerts know.

use crate::proto::{MetricDescriptor, MetricType};

/// A metric under all its labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Labels besides [`BASE`].
    pub(super) labels: &'static [&'static str],
}

/// Labels of every metric: the container's cgroup is its `id`, as in cAdvisor, and its id the `name`. A pod's own metrics
/// have neither container, image nor name.
pub(super) const BASE: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

macro_rules! families {
    ($($constant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Family = Family {
            name: $name,
            help: $help,
            kind: MetricType::$kind,
            labels: &[$($label),*],
        };)*
        /// All of them.
        const ALL: &[&Family] = &[$(&$constant),*];
    };
}

#[rustfmt::skip]
families! {
    BLKIO Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation"] "Bytes read from and written to a block device.";
    CPU_PERIODS Counter "container_cpu_cfs_periods_total" [] "Periods of the processor quota in which the container ran.";
    CPU_THROTTLED_PERIODS Counter "container_cpu_cfs_throttled_periods_total" [] "Periods in which the quota held the container back.";
    CPU_THROTTLED Counter "container_cpu_cfs_throttled_seconds_total" [] "Seconds for which the quota held the container back.";
    CPU_SYSTEM Counter "container_cpu_system_seconds_total" [] "Seconds of processor time in the kernel.";
    CPU_USAGE Counter "container_cpu_usage_seconds_total" ["cpu"] "Seconds of processor time.";
    CPU_USER Counter "container_cpu_user_seconds_total" [] "Seconds of processor time in programs.";
    FILE_DESCRIPTORS Gauge "container_file_descriptors" [] "Open file descriptors of all processes.";
    FS_INODES_FREE Gauge "container_fs_inodes_free" ["device"] "Inodes that the file system has left.";
    FS_INODES_TOTAL Gauge "container_fs_inodes_total" ["device"] "Inodes of the file system.";
    FS_LIMIT Gauge "container_fs_limit_bytes" ["device"] "Bytes of the file system.";
    FS_READ_BYTES Counter "container_fs_reads_bytes_total" ["device"] "Bytes read from a block device.";
    FS_READS Counter "container_fs_reads_total" ["device"] "Read operations on a block device.";
    FS_USAGE Gauge "container_fs_usage_bytes" ["device"] "Bytes of the container's writable layer.";
    FS_WRITE_BYTES Counter "container_fs_writes_bytes_total" ["device"] "Bytes written to a block device.";
    FS_WRITES Counter "container_fs_writes_total" ["device"] "Write operations on a block device.";
    HUGETLB_MAX Gauge "container_hugetlb_max_usage_bytes" ["pagesize"] "The most bytes of huge pages that were ever used.";
    HUGETLB_USAGE Gauge "container_hugetlb_usage_bytes" ["pagesize"] "Bytes of huge pages in use.";
    LAST_SEEN Gauge "container_last_seen" [] "When the container was last looked at, in seconds since the epoch.";
    MEMORY_CACHE Gauge "container_memory_cache" [] "Bytes of page cache.";
    MEMORY_FAILCNT Counter "container_memory_failcnt" [] "How often the limit of memory was hit.";
    MEMORY_FAILURES Counter "container_memory_failures_total" ["failure_type", "scope"] "Page faults (pgfault), and those that needed the disk (pgmajfault).";
    MEMORY_KERNEL Gauge "container_memory_kernel_usage" [] "Bytes of memory that the kernel uses for the container.";
    MEMORY_MAPPED_FILE Gauge "container_memory_mapped_file" [] "Bytes of mapped files.";
    MEMORY_MAX Gauge "container_memory_max_usage_bytes" [] "The most bytes of memory that were ever used.";
    MEMORY_RSS Gauge "container_memory_rss" [] "Bytes of anonymous memory.";
    MEMORY_SWAP Gauge "container_memory_swap" [] "Bytes of swap in use.";
    MEMORY_USAGE Gauge "container_memory_usage_bytes" [] "Bytes of memory in use, with page cache.";
    MEMORY_WORKING_SET Gauge "container_memory_working_set_bytes" [] "Bytes of memory in use that can't be had back without loss.";
    RECEIVED_BYTES Counter "container_network_receive_bytes_total" ["interface"] "Bytes received.";
    RECEIVED_ERRORS Counter "container_network_receive_errors_total" ["interface"] "Errors while receiving.";
    RECEIVED_DROPPED Counter "container_network_receive_packets_dropped_total" ["interface"] "Packets dropped while receiving.";
    RECEIVED_PACKETS Counter "container_network_receive_packets_total" ["interface"] "Packets received.";
    SENT_BYTES Counter "container_network_transmit_bytes_total" ["interface"] "Bytes sent.";
    SENT_ERRORS Counter "container_network_transmit_errors_total" ["interface"] "Errors while sending.";
    SENT_DROPPED Counter "container_network_transmit_packets_dropped_total" ["interface"] "Packets dropped while sending.";
    SENT_PACKETS Counter "container_network_transmit_packets_total" ["interface"] "Packets sent.";
    OOM_EVENTS Counter "container_oom_events_total" [] "Processes that the kernel killed for lack of memory.";
    PRESSURE_CPU_STALLED Counter "container_pressure_cpu_stalled_seconds_total" [] "Seconds for which no task could go on for want of a processor.";
    PRESSURE_CPU_WAITING Counter "container_pressure_cpu_waiting_seconds_total" [] "Seconds for which a task waited for a processor.";
    PRESSURE_IO_STALLED Counter "container_pressure_io_stalled_seconds_total" [] "Seconds for which no task could go on for want of block devices.";
    PRESSURE_IO_WAITING Counter "container_pressure_io_waiting_seconds_total" [] "Seconds for which a task waited for block devices.";
    PRESSURE_MEMORY_STALLED Counter "container_pressure_memory_stalled_seconds_total" [] "Seconds for which no task could go on for want of memory.";
    PRESSURE_MEMORY_WAITING Counter "container_pressure_memory_waiting_seconds_total" [] "Seconds for which a task waited for memory.";
    PROCESSES Gauge "container_processes" [] "Processes.";
    SOCKETS Gauge "container_sockets" [] "Open sockets of all processes.";
    SPEC_CPU_PERIOD Gauge "container_spec_cpu_period" [] "Period of the processor quota in microseconds.";
    SPEC_CPU_QUOTA Gauge "container_spec_cpu_quota" [] "Processor quota in microseconds a period.";
    SPEC_CPU_SHARES Gauge "container_spec_cpu_shares" [] "Weight of the container against others.";
    SPEC_MEMORY_LIMIT Gauge "container_spec_memory_limit_bytes" [] "Limit of memory; 0 for none.";
    SPEC_MEMORY_RESERVATION Gauge "container_spec_memory_reservation_limit_bytes" [] "Memory that is protected from others; 0 for none.";
    SPEC_MEMORY_SWAP Gauge "container_spec_memory_swap_limit_bytes" [] "Limit of memory and swap together; 0 for none.";
    START_TIME Gauge "container_start_time_seconds" [] "When the container was started, in seconds since the epoch.";
    THREADS Gauge "container_threads" [] "Threads of all processes.";
    THREADS_MAX Gauge "container_threads_max" [] "Limit of threads; 0 for none.";
    ULIMITS Gauge "container_ulimits_soft" ["ulimit"] "Soft limits of the first process that are limits at all.";
}

/// All of them, as ListMetricDescriptors tells them.
pub fn descriptors() -> Vec<MetricDescriptor> {
    let descriptor = |family: &&Family| MetricDescriptor {
        name: family.name.to_owned(),
        help: family.help.to_owned(),
        label_keys: BASE
            .iter()
            .chain(family.labels)
            .map(|key| (*key).to_owned())
            .collect(),
    };
    ALL.iter().map(descriptor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_described_once_with_help_and_labels() {
        let all = descriptors();
        let names: BTreeSet<&str> = all.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for descriptor in &all {
            assert!(!descriptor.help.is_empty() && descriptor.label_keys.len() >= BASE.len());
            let keys: BTreeSet<&String> = descriptor.label_keys.iter().collect();
            assert_eq!(keys.len(), descriptor.label_keys.len(), "{}", descriptor.name);
        }
    }
}

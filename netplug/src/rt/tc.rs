//! Traffic control: token buckets and the redirection of what a pod sends.
//!
//! netlink-packet-route has no types for tbf and mirred; the messages are small.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::libc;

use crate::netlink::Request;
use crate::netlink::wire::Attrs;

/// `TCA_*` of `linux/rtnetlink.h`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// `TCA_TBF_*` of `linux/pkt_sched.h`.
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TCA_U32_*` of `linux/pkt_cls.h`, `TCA_ACT_*` and `TCA_MIRRED_PARMS`.
const U32_SEL: u16 = 5;
const U32_ACT: u16 = 7;
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;
const TC_ACT_STOLEN: i32 = 4;
const EGRESS_REDIR: i32 = 1;

const ROOT: u32 = 0xFFFF_FFFF;
const INGRESS: u32 = 0xFFFF_FFF1;
const INGRESS_HANDLE: u32 = 0xFFFF_0000;
/// The first handle, `1:`.
const FIRST_HANDLE: u32 = 0x1_0000;
/// How long a packet may wait in a bucket's queue, in milliseconds, before later ones are dropped.
const LATENCY_MS: u64 = 25;
/// `ETH_P_ALL` in network byte order, as the low half of `tcm_info`.
const ALL_PROTOCOLS: u32 = (0x0003_u16.to_be()) as u32;
/// The scheduler's clock: 64 ns a tick (`PSCHED_SHIFT` 6).
const NANOS_PER_TICK: u64 = 64;

/// Limits what leaves by a link to `rate` bits a second with bursts of `burst` bits.
pub(crate) fn limit(index: u32, rate: u64, burst: u64) -> Request {
    let bytes_per_second = (rate / 8).max(1);
    // The kernel keeps buckets as ticks in 32 bits.
    let bucket = (burst / 8).clamp(1, u64::from(u32::MAX));
    let ticks =
        u128::from(bucket) * 1_000_000_000 / u128::from(bytes_per_second) / u128::from(NANOS_PER_TICK);
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
    let queue = bytes_per_second * LATENCY_MS / 1000 + bucket;
    let mut message = header(index, FIRST_HANDLE, ROOT, 0);
    message.string(TCA_KIND, "tbf").nested(TCA_OPTIONS, |options| {
        options.bytes(TBF_PARMS, &parameters(bytes_per_second, ticks, queue));
        if bytes_per_second > u64::from(u32::MAX) {
            options.u64(TBF_RATE64, bytes_per_second);
        }
        options.u32(TBF_BURST, u32::try_from(bucket).unwrap_or(u32::MAX));
    });
    Request {
        kind: libc::RTM_NEWQDISC,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        body: message.into_bytes(),
        what: format!("limit link {index} to {rate} bit/s"),
    }
}

/// Opens a link's incoming side for filters.
pub(crate) fn ingress(index: u32) -> Request {
    let mut message = header(index, INGRESS_HANDLE, INGRESS, 0);
    message.string(TCA_KIND, "ingress");
    Request {
        kind: libc::RTM_NEWQDISC,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        body: message.into_bytes(),
        what: format!("add ingress queue to link {index}"),
    }
}

/// Sends whatever comes in by a link out by another (an ifb device) first.
pub(crate) fn redirect(from: u32, to: u32) -> Request {
    // tcm_info: priority in the upper half, protocol in the lower.
    let mut message = header(from, 0, INGRESS_HANDLE, (1 << 16) | ALL_PROTOCOLS);
    message.string(TCA_KIND, "u32").nested(TCA_OPTIONS, |options| {
        options.bytes(U32_SEL, &any_packet());
        options.nested(U32_ACT, |actions| {
            actions.nested(1, |action| {
                action.string(ACT_KIND, "mirred").nested(ACT_OPTIONS, |options| {
                    options.bytes(MIRRED_PARMS, &mirred(to));
                });
            });
        });
    });
    Request {
        kind: libc::RTM_NEWTFILTER,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        body: message.into_bytes(),
        what: format!("redirect what comes in by link {from} to link {to}"),
    }
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> Attrs {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..20].copy_from_slice(&info.to_ne_bytes());
    Attrs::with_header(&bytes)
}

/// `struct tc_tbf_qopt`: two `tc_ratespec` (rate and peak rate, 12 bytes each), limit, buffer, mtu.
fn parameters(bytes_per_second: u64, ticks: u32, queue: u64) -> [u8; 36] {
    let mut bytes = [0; 36];
    // tc_ratespec: cell_log, linklayer (1 = ethernet), overhead (16), cell_align (16), mpu (16), rate (32).
    bytes[1] = 1;
    let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    bytes[8..12].copy_from_slice(&rate.to_ne_bytes());
    bytes[24..28].copy_from_slice(&u32::try_from(queue).unwrap_or(u32::MAX).to_ne_bytes());
    bytes[28..32].copy_from_slice(&ticks.to_ne_bytes());
    bytes
}

/// `struct tc_u32_sel` with one key that every packet matches. u32 is the one classifier that kernels have that
/// have any.
fn any_packet() -> [u8; 32] {
    const TERMINAL: u8 = 1;
    let mut bytes = [0; 32];
    bytes[0] = TERMINAL;
    // nkeys; the key itself (mask, value, offset, offset mask) is all zeroes.
    bytes[2] = 1;
    bytes
}

/// `struct tc_mirred`: tc_gen (index, capab, action, refcnt, bindcnt), eaction, ifindex.
fn mirred(to: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    bytes[20..24].copy_from_slice(&EGRESS_REDIR.to_ne_bytes());
    bytes[24..28].copy_from_slice(&to.to_ne_bytes());
    bytes
}

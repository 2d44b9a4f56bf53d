//! Owner, mode, times and extended attributes of an entry.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::dirs::{DirError, Doing};
use super::error::EntryError;
use super::tap::PaxRecords;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Ids of this value mean "leave as it is" to chown(2).
const NO_ID: u32 = u32::MAX;

/// What an entry says of itself.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timespec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    pub(super) fn read(header: &tar::Header, pax: &PaxRecords) -> Result<Meta, EntryError> {
        let mode = header.mode().map_err(|_| EntryError::BadField("mode"))? & 0o7777;
        let uid = match pax.number("uid")? {
            Some(uid) => uid,
            None => header.uid().map_err(|_| EntryError::BadField("uid"))?,
        };
        let gid = match pax.number("gid")? {
            Some(gid) => gid,
            None => header.gid().map_err(|_| EntryError::BadField("gid"))?,
        };
        let mtime = match pax.get("mtime") {
            Some(text) => parse_time(text).ok_or(EntryError::BadField("mtime"))?,
            None => Timespec {
                tv_sec: header_time(header),
                tv_nsec: 0,
            },
        };
        Ok(Meta {
            mode,
            uid: id(uid, "uid")?,
            gid: id(gid, "gid")?,
            mtime,
            xattrs: xattrs(pax),
        })
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: self.mtime,
            last_modification: self.mtime,
        }
    }

    /// Applies everything but the times to an open file or folder. The order matters: chown(2) clears setuid
    /// bits and capabilities.
    pub(super) fn apply_to_fd(&self, fd: BorrowedFd<'_>) -> Result<(), DirError> {
        let (uid, gid) = self.owner();
        rustix::fs::fchown(fd, uid, gid).doing("set owner")?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode)).doing("set mode")?;
        for (key, value) in &self.xattrs {
            tolerate(
                key,
                rustix::fs::fsetxattr(fd, key.as_slice(), value, XattrFlags::empty()),
            )?;
        }
        Ok(())
    }

    /// Sets the times of an open file or folder.
    pub(super) fn times_to_fd(&self, fd: BorrowedFd<'_>) -> Result<(), DirError> {
        rustix::fs::futimens(fd, &self.times()).doing("set times")
    }

    /// Applies everything to an entry that can't be opened: a link, device or fifo just made as `name`.
    pub(super) fn apply_to_name(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        is_symlink: bool,
    ) -> Result<(), DirError> {
        let (uid, gid) = self.owner();
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).doing("set owner")?;
        if !is_symlink {
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(self.mode), AtFlags::empty())
                .doing("set mode")?;
        }
        if !self.xattrs.is_empty() {
            let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
            path.extend_from_slice(name);
            for (key, value) in &self.xattrs {
                let set = rustix::fs::lsetxattr(path.as_slice(), key.as_slice(), value, XattrFlags::empty());
                tolerate(key, set)?;
            }
        }
        rustix::fs::utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW).doing("set times")
    }
}

fn id(id: u64, field: &'static str) -> Result<u32, EntryError> {
    u32::try_from(id)
        .ok()
        .filter(|&id| id != NO_ID)
        .ok_or(EntryError::BadField(field))
}

fn header_time(header: &tar::Header) -> i64 {
    header
        .mtime()
        .ok()
        .and_then(|time| i64::try_from(time).ok())
        .unwrap_or(0)
}

/// `[-]SECONDS[.FRACTION]` as PAX writes it.
fn parse_time(text: &[u8]) -> Option<Timespec> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9.9}").parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timespec {
            tv_sec: seconds.checked_sub(1)?,
            tv_nsec: 1_000_000_000 - nanos,
        });
    }
    Some(Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    })
}

/// The attributes that an image may set. Overlay's own would let a layer redirect folders, and security labels
/// (SELinux, IMA) are the host's to give.
fn is_allowed(key: &[u8]) -> bool {
    let user = key.starts_with(b"user.") && !key.starts_with(b"user.overlay.");
    user || key == b"security.capability" || key.starts_with(b"system.posix_acl_")
}

fn xattrs(pax: &PaxRecords) -> Vec<(Vec<u8>, Vec<u8>)> {
    let all = pax
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(XATTR_PREFIX)?, value)));
    all.filter(|(key, _)| is_allowed(key) && !key.contains(&0))
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

/// User attributes may be missing where the file system or the kind of file has none; capabilities may not.
fn tolerate(key: &[u8], result: Result<(), Errno>) -> Result<(), DirError> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) if key != b"security.capability" => Ok(()),
        other => other.doing("set extended attribute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|t| (t.tv_sec, t.tv_nsec));
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.0123456789"), Some((12, 12_345_678)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-0.5"), Some((-1, 500_000_000)));
        for bad in ["", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_harmless_attributes() {
        for key in ["user.a", "security.capability", "system.posix_acl_access"] {
            assert!(is_allowed(key.as_bytes()), "{key}");
        }
        for key in [
            "trusted.overlay.redirect",
            "user.overlay.opaque",
            "security.selinux",
            "trusted.x",
        ] {
            assert!(!is_allowed(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn ids_must_fit() {
        assert_eq!(id(4_294_967_294, "uid"), Ok(4_294_967_294));
        assert_eq!(id(4_294_967_295, "uid"), Err(EntryError::BadField("uid")));
        assert_eq!(id(1 << 40, "gid"), Err(EntryError::BadField("gid")));
    }
}

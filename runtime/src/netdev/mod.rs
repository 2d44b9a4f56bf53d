//! Network devices that a container is given (`linux.netDevices`): each is moved from the runtime's network namespace into
//! the container's, keeps its addresses, and is up there.
//!
//! This comes before the hooks of the runtime's namespaces, which find the devices where the container will. A failure in
//! here brings back what was moved. Later the devices belong to the container's namespace, whoever owns it: they go where
//! the kernel has them go when that ends (config-linux.md of the specification).

mod netlink;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Error, Reason, Result};
use crate::namespace;
use crate::sys::process::setns;

use netlink::{Address, Link, Socket};

/// With its terminator a name is no longer than `IFNAMSIZ`.
const MAX_NAME: usize = 15;

/// In a new name: the first number that is free.
const NUMBER: &str = "%d";

/// A device is given its old index, or one of as many that follow should others have it.
const MAX_TRIES: u32 = 64;

/// The devices of a configuration, in the order of their names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan(Vec<Wanted>);

#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// Its name in the container.
    inside: String,
}

/// A device that is to be moved.
struct Found<'a> {
    wanted: &'a Wanted,
    link: Link,
    addresses: Vec<Address>,
}

/// A network namespace, and a socket in it.
struct Place<'a> {
    namespace: BorrowedFd<'a>,
    socket: Socket,
}

impl Plan {
    /// Reads `linux.netDevices`; None if there are none.
    pub(crate) fn read(spec: &Spec, plan: &namespace::Plan) -> Result<Option<Self>> {
        let devices = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.net_devices().as_ref());
        let Some(devices) = devices.filter(|devices| !devices.is_empty()) else {
            return Ok(None);
        };
        if !plan.has(LinuxNamespaceType::Network) {
            let reason = "needs a network namespace that is not the runtime's";
            return Err(Error::invalid("linux.netDevices", reason));
        }
        let mut all: Vec<Wanted> = devices
            .iter()
            .map(|(name, device)| Wanted {
                name: name.clone(),
                inside: match device.name().as_deref() {
                    None | Some("") => name.clone(),
                    Some(inside) => inside.to_owned(),
                },
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for (i, wanted) in all.iter().enumerate() {
            check_name(&wanted.name, &wanted.name, false)?;
            check_name(&wanted.name, &wanted.inside, true)?;
            let is_number = wanted.inside.contains(NUMBER);
            if !is_number && all[..i].iter().any(|other| other.inside == wanted.inside) {
                let reason = format!("{:?} is the name of two", wanted.inside);
                return Err(Error::invalid(field(&wanted.name), reason));
            }
        }
        Ok(Some(Self(all)))
    }

    /// Moves them into the network namespace at `inside`. The caller, who must have one thread only, is in the
    /// runtime's.
    pub(crate) fn apply(&self, inside: &Path) -> Result<()> {
        let open = |path: &Path| File::open(path).map_err(|e| Error::io("open namespace", path, e));
        let (here, there) = (open(Path::new("/proc/self/ns/net"))?, open(inside)?);
        let mut outer = Place::open(here.as_fd())?;
        let mut inner = match enter(there.as_fd()) {
            Ok(()) => {
                let socket = Place::open(there.as_fd());
                enter(here.as_fd())?;
                socket?
            }
            Err(e) => return Err(e),
        };
        // all are looked at before any is moved
        let found: Vec<Found<'_>> = self.0.iter().map(|w| outer.find(w)).collect::<Result<_>>()?;
        for device in &found {
            inner.check_free(device.wanted)?;
        }
        let mut begun: Vec<(&Found<'_>, u32)> = Vec::new();
        for device in &found {
            let outcome = inner.free_index(device.link.index).and_then(|index| {
                begun.push((device, index));
                outer.carry(device, &inner, index)?;
                inner.furnish(index, &device.addresses, true)
            });
            if let Err((step, errno)) = outcome {
                for (device, index) in begun.iter().rev() {
                    device.bring_back(&mut inner, &mut outer, *index);
                }
                return Err(device.wanted.failed(step, errno));
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn failed(&self, step: &str, errno: Errno) -> Error {
        Error::invalid(field(&self.name), format!("{step}: {}", Reason(errno)))
    }
}

impl Found<'_> {
    /// As it was, if it has been moved: the kernel moves a device, too, whose new name it then refuses. What fails is not
    /// told: why it was brought back is what the caller is to learn.
    fn bring_back(&self, inner: &mut Place<'_>, outer: &mut Place<'_>, index: u32) {
        if inner.socket.look_up(index).is_err() {
            return;
        }
        let back = outer.free_index(self.link.index).and_then(|old| {
            let moved = inner.socket.move_to(index, outer.namespace, &self.link.name, old);
            moved.map_err(|errno| ("move it back", errno))?;
            outer.furnish(old, &self.addresses, self.link.is_up)
        });
        let _ = back;
    }
}

/// What was tried, and the kernel's answer.
type Step<T> = std::result::Result<T, (&'static str, Errno)>;

impl<'a> Place<'a> {
    /// The namespace that this process is in.
    fn open(namespace: BorrowedFd<'a>) -> Result<Self> {
        let socket = Socket::open().map_err(|errno| Error::sys("open netlink socket", errno))?;
        Ok(Self { namespace, socket })
    }

    fn find<'w>(&mut self, wanted: &'w Wanted) -> Result<Found<'w>> {
        let failed = |step| move |errno| wanted.failed(step, errno);
        let link = self
            .socket
            .find(&wanted.name)
            .map_err(failed("look it up in the runtime's network namespace"))?;
        let addresses = self
            .socket
            .addresses(link.index)
            .map_err(failed("read its addresses"))?;
        Ok(Found {
            wanted,
            link,
            addresses,
        })
    }

    /// Refuses a name that somebody has here.
    fn check_free(&mut self, wanted: &Wanted) -> Result<()> {
        if wanted.inside.contains(NUMBER) {
            return Ok(());
        }
        let step = "find its name in the container's network namespace";
        match self.socket.find(&wanted.inside) {
            Err(Errno::ENODEV) => Ok(()),
            Ok(_) => Err(wanted.failed(
                &format!("use the name {:?} in the container", wanted.inside),
                Errno::EEXIST,
            )),
            Err(errno) => Err(wanted.failed(step, errno)),
        }
    }

    /// An index that nobody has here: the one given, or one that follows.
    fn free_index(&mut self, index: u32) -> Step<u32> {
        let step = "find an index for it";
        for index in index..index.saturating_add(MAX_TRIES) {
            match self.socket.look_up(index) {
                Ok(_) => {}
                Err(Errno::ENODEV) => return Ok(index),
                Err(errno) => return Err((step, errno)),
            }
        }
        Err((step, Errno::EBUSY))
    }

    /// Moves a device from here to there.
    fn carry(&mut self, device: &Found<'_>, there: &Place<'_>, index: u32) -> Step<()> {
        self.socket
            .move_to(device.link.index, there.namespace, &device.wanted.inside, index)
            .map_err(|errno| ("move it into the container's network namespace", errno))
    }

    /// Gives a device that has been moved here what moving takes from it.
    fn furnish(&mut self, index: u32, addresses: &[Address], up: bool) -> Step<()> {
        // what a kernel that knows no new indices makes of them
        self.socket
            .look_up(index)
            .map_err(|errno| ("look it up in the container's network namespace", errno))?;
        for address in addresses {
            self.socket
                .add(index, address)
                .map_err(|errno| ("give it back an address", errno))?;
        }
        match up {
            true => self.socket.set_up(index).map_err(|errno| ("bring it up", errno)),
            false => Ok(()),
        }
    }
}

/// Brings up the loopback device of the network namespace that the caller is in, which is always its first.
pub(crate) fn raise_loopback() -> Result<()> {
    let up = Socket::open().and_then(|mut socket| socket.set_up(1));
    up.map_err(|errno| Error::sys("bring up the loopback device", errno))
}

fn enter(namespace: BorrowedFd<'_>) -> Result<()> {
    setns(namespace, libc::CLONE_NEWNET).map_err(|errno| Error::sys("join network namespace", errno))
}

fn field(name: &str) -> String {
    format!("linux.netDevices[{name:?}]")
}

/// What the kernel takes as a device's name (`dev_valid_name` of it), and in a new one a single place for a number.
fn check_name(device: &str, name: &str, is_new: bool) -> Result<()> {
    let plain = match is_new {
        true => name.replacen(NUMBER, "", 1),
        false => name.to_owned(),
    };
    let is_wrong = name.is_empty()
        || name.len() > MAX_NAME
        || matches!(name, "." | "..")
        || plain.contains(['/', ':', '%', '\0'])
        || plain.contains(char::is_whitespace);
    match is_wrong {
        true => Err(Error::invalid(
            field(device),
            format!("{name:?} can't be the name of a device"),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(devices: &Value, namespaces: &Value) -> Result<Option<Plan>> {
        let spec = json!({"ociVersion": "1.3.0", "linux": {"netDevices": devices, "namespaces": namespaces}});
        let spec: Spec = serde_json::from_value(spec).unwrap();
        Plan::read(&spec, &namespace::Plan::read(&spec).unwrap())
    }

    #[test]
    fn devices_are_taken_in_order_and_keep_their_names_unless_told_otherwise() {
        let own = json!([{"type": "mount"}, {"type": "network"}]);
        assert_eq!(plan(&json!({}), &own).unwrap(), None);
        let all = plan(&json!({"b": {}, "a": {"name": "eth%d"}, "c": {"name": ""}}), &own).unwrap();
        let names = |w: &Wanted| (w.name.clone(), w.inside.clone());
        let all: Vec<_> = all.unwrap().0.iter().map(names).collect();
        let wanted = [("a", "eth%d"), ("b", "b"), ("c", "c")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(all, wanted);
    }

    #[test]
    fn what_cannot_be_names_its_device() {
        let own = json!([{"type": "mount"}, {"type": "network"}]);
        for (name, inside) in [
            ("a/b", ""),
            ("..", ""),
            ("sixteen-bytes-xx", ""),
            ("eth%d", "eth0"),
            ("a", "b c"),
            ("a", "%d%d"),
            ("a", "x:y"),
            ("a", "%s"),
        ] {
            let e = plan(&json!({name: {"name": inside}}), &own)
                .unwrap_err()
                .to_string();
            assert!(
                e.starts_with(&field(name)) && e.ends_with("can't be the name of a device"),
                "{e}"
            );
        }
        let e = plan(&json!({"a": {"name": "x"}, "x": {}}), &own)
            .unwrap_err()
            .to_string();
        assert_eq!(e, "linux.netDevices[\"x\"]: \"x\" is the name of two");
        let e = plan(&json!({"a": {}}), &json!([{"type": "mount"}]))
            .unwrap_err()
            .to_string();
        assert!(
            e.starts_with("linux.netDevices: needs a network namespace"),
            "{e}"
        );
    }
}

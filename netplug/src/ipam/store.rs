//! Allocations and records on disk.
//!
//! ```text
//! <state_dir>/lock                 taken for every change
//!             boot                 the boot that this state belongs to
//!             ranges.json          what set_ranges told
//!             last                 the address given last, a line for each pool
//!             addresses/<address>  symbolic link to "<id>:<ifname>", its holder
//!             pods/<id>:<ifname>   the record, JSON
//! ```
//!
//! A symbolic link is made in one step, with its content, and not over another: an address can't be given twice even
//! without the lock. The lock makes allocation and record one step for those who look; a process that dies between
//! the two leaves an address without a record, which [`Store::orphans`] finds. Nothing is flushed to the disk, and
//! needn't be: no pod survives the power cut that would lose it, and the state of another boot is thrown away.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, symlink};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::lock::Lock;
use super::pool::Pool;
use super::record::Record;
use crate::error::{Error, IoContext, Result};

/// Where a file is written before it is renamed into its place.
const HALF_WRITTEN: &str = "new";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A network's state folder.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// An allocated address: the pool's range it came from gives prefix length and gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) address: IpNet,
    pub(crate) gateway: IpAddr,
}

/// What to allocate for whom.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) ifname: &'a str,
    pub(crate) pools: &'a [Pool],
    /// Addresses asked for by name.
    pub(crate) ips: &'a [IpAddr],
    /// Addresses only given when asked for by name.
    pub(crate) reserved: &'a [IpAddr],
    /// A folder of the CNI plugin host-local: an address is in use if there is a file of its name.
    pub(crate) occupied: Option<&'a Path>,
}

impl Store {
    /// Opens a folder, making it if need be, and throws away what another boot left.
    pub(crate) fn open(dir: &Path) -> Result<Store> {
        let store = Store { dir: dir.to_owned() };
        let boot = fs::read_to_string(BOOT_ID).io("read", Path::new(BOOT_ID))?;
        let known = store.dir.join("boot");
        if fs::read_to_string(&known).is_ok_and(|text| text == boot) && store.dir.join("pods").is_dir() {
            return Ok(store);
        }
        create_dir(&store.dir)?;
        let _lock = store.lock()?;
        for folder in ["addresses", "pods"] {
            let path = store.dir.join(folder);
            if !fs::read_to_string(&known).is_ok_and(|text| text == boot) && path.exists() {
                fs::remove_dir_all(&path).io("remove", &path)?;
            }
            create_dir(&path)?;
        }
        store.replace("boot", boot.as_bytes())?;
        Ok(store)
    }

    /// Waits for the folder's lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::take(&self.dir.join("lock"))
    }

    /// Allocates addresses and writes the record that `record` makes of them, in one locked step.
    pub(crate) fn reserve(
        &self,
        wanted: &Wanted<'_>,
        record: impl FnOnce(&[Allocation]) -> Record,
    ) -> Result<Record> {
        let _lock = self.lock()?;
        let owner = key(wanted.id, wanted.ifname);
        if self.record_path(&owner).exists() {
            return Err(Error::AlreadyAttached {
                id: wanted.id.into(),
                ifname: wanted.ifname.into(),
            });
        }
        let mut taken = Vec::new();
        let outcome = self.allocate(wanted, &owner, &mut taken).and_then(|()| {
            let record = record(&taken);
            self.write_record(&owner, &record)?;
            Ok(record)
        });
        if outcome.is_err() {
            for allocation in &taken {
                self.free(allocation.address.addr(), &owner)?;
            }
        }
        outcome
    }

    /// Writes a record that allocates nothing.
    pub(crate) fn insert(&self, record: &Record) -> Result<()> {
        let _lock = self.lock()?;
        let owner = key(&record.id, &record.ifname);
        if self.record_path(&owner).exists() {
            return Err(Error::AlreadyAttached {
                id: record.id.clone(),
                ifname: record.ifname.clone(),
            });
        }
        self.write_record(&owner, record)
    }

    fn allocate(&self, wanted: &Wanted<'_>, owner: &str, taken: &mut Vec<Allocation>) -> Result<()> {
        if let Some(stray) = wanted
            .ips
            .iter()
            .find(|ip| !wanted.pools.iter().any(|p| p.span_of(**ip).is_some()))
        {
            return Err(Error::invalid("ips", stray, "not in this network's ranges"));
        }
        let mut last = self.last();
        last.resize(wanted.pools.len(), None);
        for (pool, last) in wanted.pools.iter().zip(&mut last) {
            let asked = wanted.ips.iter().find(|ip| pool.span_of(**ip).is_some());
            let address = match asked {
                Some(ip) => self.take_one(*ip, owner)?,
                None => self.take_any(pool, *last, wanted, owner)?,
            };
            if asked.is_none() {
                *last = Some(address);
            }
            if let Some(span) = pool.span_of(address) {
                let prefix = span.subnet.prefix_len();
                let address = IpNet::new(address, prefix)
                    .map_err(|_| Error::invalid("prefix length", prefix, "too long"))?;
                taken.push(Allocation {
                    address,
                    gateway: span.gateway,
                });
            }
        }
        self.set_last(&last)
    }

    fn take_one(&self, address: IpAddr, owner: &str) -> Result<IpAddr> {
        let path = self.address_path(address);
        match symlink(owner, &path) {
            Ok(()) => Ok(address),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::AddressTaken {
                address,
                owner: self.owner(address).unwrap_or_default(),
            }),
            Err(error) => Err(error).io("create", &path),
        }
    }

    fn take_any(
        &self,
        pool: &Pool,
        last: Option<IpAddr>,
        wanted: &Wanted<'_>,
        owner: &str,
    ) -> Result<IpAddr> {
        let free = |address: &IpAddr| {
            let occupied = wanted
                .occupied
                .is_some_and(|dir| dir.join(address.to_string()).exists());
            !wanted.reserved.contains(address) && !occupied
        };
        for address in pool.candidates(last).filter(free) {
            match self.take_one(address, owner) {
                Err(Error::AddressTaken { .. }) => {}
                done => return done,
            }
        }
        Err(Error::Exhausted {
            ranges: pool.to_string(),
        })
    }

    /// A hint only: where it is torn or lost, the walk begins at the start.
    fn last(&self) -> Vec<Option<IpAddr>> {
        let text = fs::read_to_string(self.dir.join("last")).unwrap_or_default();
        text.lines().map(|line| line.trim().parse().ok()).collect()
    }

    /// Written over in place, in lines of one width: a file system may flush a file that is cut and written anew.
    fn set_last(&self, last: &[Option<IpAddr>]) -> Result<()> {
        let line = |ip: &Option<IpAddr>| format!("{:45}\n", ip.map(|ip| ip.to_string()).unwrap_or_default());
        let text: String = last.iter().map(line).collect();
        let path = self.dir.join("last");
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .io("open", &path)?;
        file.write_all_at(text.as_bytes(), 0).io("write", &path)
    }

    /// Who holds an address.
    fn owner(&self, address: IpAddr) -> Option<String> {
        let target = fs::read_link(self.address_path(address)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// Frees an address if `owner` holds it.
    fn free(&self, address: IpAddr, owner: &str) -> Result<()> {
        if self.owner(address).as_deref() == Some(owner) {
            remove_file(&self.address_path(address))?;
        }
        Ok(())
    }

    /// Frees the addresses of a pod and forgets it. The record goes last: who dies in between can try again.
    pub(crate) fn release(&self, id: &str, ifname: &str, addresses: &[IpAddr]) -> Result<()> {
        let _lock = self.lock()?;
        let owner = key(id, ifname);
        for address in addresses {
            self.free(*address, &owner)?;
        }
        remove_file(&self.record_path(&owner))
    }

    /// The record of a pod's interface. One that can't be read counts as none: what it named is found otherwise.
    pub(crate) fn record(&self, id: &str, ifname: &str) -> Result<Option<Record>> {
        match self.read_record(&self.record_path(&key(id, ifname))) {
            Err(Error::Record { path, source }) => {
                tracing::warn!(path = %path.display(), error = %source, "unreadable network record");
                Ok(None)
            }
            done => done,
        }
    }

    /// Every readable record.
    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for (id, ifname) in self.keys()? {
            records.extend(self.record(&id, &ifname)?);
        }
        Ok(records)
    }

    /// Id and interface of every record, readable or not.
    pub(crate) fn keys(&self) -> Result<Vec<(String, String)>> {
        let names = list(&self.dir.join("pods"))?;
        Ok(names.iter().filter_map(|name| split_key(name)).collect())
    }

    /// Holders of addresses who have no record: what a process left that died in between. A file that such a process
    /// had half written is removed.
    pub(crate) fn orphans(&self) -> Result<Vec<(String, String)>> {
        let _lock = self.lock()?;
        remove_file(&self.dir.join(HALF_WRITTEN))?;
        let mut orphans = Vec::new();
        for name in list(&self.dir.join("addresses"))? {
            let Some(owner) = name.parse().ok().and_then(|address| self.owner(address)) else {
                continue;
            };
            if let Some(holder) = split_key(&owner)
                && !self.record_path(&owner).exists()
                && !orphans.contains(&holder)
            {
                orphans.push(holder);
            }
        }
        Ok(orphans)
    }

    /// The addresses that a pod's interface holds, found without its record.
    pub(crate) fn addresses_of(&self, id: &str, ifname: &str) -> Result<Vec<IpAddr>> {
        let owner = key(id, ifname);
        let names = list(&self.dir.join("addresses"))?;
        let addresses = names.iter().filter_map(|name| name.parse::<IpAddr>().ok());
        Ok(addresses
            .filter(|address| self.owner(*address).as_deref() == Some(&owner))
            .collect())
    }

    /// The ranges told by [`Store::set_ranges`], if any were.
    pub(crate) fn ranges(&self) -> Result<Option<Vec<IpNet>>> {
        let path = self.dir.join("ranges.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Record { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).io("read", &path),
        }
    }

    /// Remembers ranges across restarts.
    pub(crate) fn set_ranges(&self, ranges: &[IpNet]) -> Result<()> {
        let path = self.dir.join("ranges.json");
        let bytes = serde_json::to_vec(ranges).map_err(|source| Error::Record { path, source })?;
        let _lock = self.lock()?;
        self.replace("ranges.json", &bytes)
    }

    fn read_record(&self, path: &Path) -> Result<Option<Record>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Record {
                    path: path.to_owned(),
                    source,
                }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).io("read", path),
        }
    }

    fn write_record(&self, owner: &str, record: &Record) -> Result<()> {
        let path = self.record_path(owner);
        let bytes = serde_json::to_vec(record).map_err(|source| Error::Record {
            path: path.clone(),
            source,
        })?;
        self.replace(&format!("pods/{owner}"), &bytes)
    }

    /// Writes a file so that it is there whole or as it was. For callers that hold the lock.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (temporary, path) = (self.dir.join(HALF_WRITTEN), self.dir.join(name));
        fs::write(&temporary, bytes).io("write", &temporary)?;
        fs::rename(&temporary, &path).io("rename to", &path)
    }

    fn record_path(&self, owner: &str) -> PathBuf {
        self.dir.join("pods").join(owner)
    }

    fn address_path(&self, address: IpAddr) -> PathBuf {
        self.dir.join("addresses").join(address.to_string())
    }
}

/// `<id>:<ifname>`; neither part may hold a colon.
fn key(id: &str, ifname: &str) -> String {
    format!("{id}:{ifname}")
}

fn split_key(key: &str) -> Option<(String, String)> {
    key.split_once(':')
        .map(|(id, ifname)| (id.to_owned(), ifname.to_owned()))
}

fn create_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .io("create", path)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.io("remove", path),
    }
}

fn list(path: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(path).io("list", path)?;
    names
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()
        .io("list", path)
}

//! A disk in memory that keeps its promises to the letter and nothing beyond them.
//!
//! What wasn't synced is lost when the power goes, in whole or in part: of a file any subset of the 512-byte sectors written
//! since its last sync survives, and its old or its new length; of the changes to names any prefix since the folder's last
//! sync. The power can be cut after a chosen number of operations, a sync can fail or lie, the disk can be full.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{File, Files, Space};
use crate::storage::noise::Noise;

const SECTOR: usize = 512;

/// The mains: everything on it stops at the same operation.
#[derive(Debug, Default)]
pub(crate) struct Power {
    off: AtomicBool,
    /// Operations until it goes off; below zero never.
    left: AtomicI64,
}

impl Power {
    /// On, for ever.
    pub(crate) fn steady() -> Arc<Power> {
        Power::failing_after(-1)
    }

    /// On for so many changes to the disk.
    pub(crate) fn failing_after(operations: i64) -> Arc<Power> {
        Arc::new(Power {
            off: AtomicBool::new(false),
            left: AtomicI64::new(operations),
        })
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self) {
        self.off.store(true, Ordering::SeqCst);
    }

    /// Counts an operation; an error when the power is off before it.
    pub(crate) fn spend(&self) -> io::Result<()> {
        if self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.cut();
        }
        if self.is_off() {
            return Err(io::Error::other("the power is off"));
        }
        Ok(())
    }
}

/// What is wrong with the disk while the power is on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Syncs of files report success and do nothing.
    pub(crate) lying_sync: bool,
    /// Syncs of files fail.
    pub(crate) failing_sync: bool,
    /// Writes find the disk full.
    pub(crate) full: bool,
    /// Bytes free, as far as `space` says.
    pub(crate) free: Option<u64>,
}

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct FaultyFiles {
    disk: Arc<Mutex<Disk>>,
    power: Arc<Power>,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since their folder's sync, in order: the new target of each.
    renamed: Vec<(String, Option<usize>)>,
    faults: Faults,
    /// Bytes that files take without having been written.
    allocated: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl FaultyFiles {
    /// An empty disk.
    pub(crate) fn new(power: Arc<Power>) -> FaultyFiles {
        FaultyFiles {
            disk: Arc::default(),
            power,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Holds up all operations until the returned guard is dropped.
    pub(crate) fn stall(&self) -> impl Drop + '_ {
        self.lock()
    }

    /// Changes what's wrong with the disk.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The disk as `power` finds it when it comes back; this one is off from here on.
    pub(crate) fn after_power_cut(&self, noise: &mut Noise, power: Arc<Power>) -> FaultyFiles {
        self.power.cut();
        let mut disk = self.lock().clone();
        let survivors = noise.below(disk.renamed.len() as u64 + 1) as usize;
        let survivors: Vec<_> = disk.renamed.drain(..).take(survivors).collect();
        for (name, target) in survivors {
            set_name(&mut disk.durable_names, &name, target);
        }
        disk.names = disk.durable_names.clone();
        disk.inodes.iter_mut().for_each(|inode| inode.lose_power(noise));
        FaultyFiles {
            disk: Arc::new(Mutex::new(disk)),
            power,
        }
    }

    /// A file's bytes as a reader sees them.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let disk = self.lock();
        disk.inodes[disk.names[path]].bytes.clone()
    }

    /// Damages or restores a file, synced.
    pub(crate) fn set_bytes(&self, path: &str, bytes: &[u8]) {
        let mut disk = self.lock();
        let inode = disk.names[path];
        disk.inodes[inode] = Inode {
            bytes: bytes.to_vec(),
            durable: bytes.to_vec(),
            dirty: BTreeSet::new(),
        };
    }
}

impl Inode {
    fn lose_power(&mut self, noise: &mut Noise) {
        let mut survivor = std::mem::take(&mut self.durable);
        let new_len = if noise.coin() { self.bytes.len() } else { survivor.len() };
        survivor.resize(new_len, 0);
        // All, none, or some of the sectors.
        let mood = noise.below(4);
        for sector in std::mem::take(&mut self.dirty) {
            let survives = match mood {
                0 => false,
                1 => true,
                _ => noise.coin(),
            };
            let end = ((sector + 1) * SECTOR).min(self.bytes.len()).min(new_len);
            if survives && sector * SECTOR < end {
                survivor[sector * SECTOR..end].copy_from_slice(&self.bytes[sector * SECTOR..end]);
            }
        }
        self.bytes = survivor.clone();
        self.durable = survivor;
    }
}

fn set_name(names: &mut BTreeMap<String, usize>, name: &str, target: Option<usize>) {
    match target {
        Some(inode) => names.insert(name.to_owned(), inode),
        None => names.remove(name),
    };
}

impl Disk {
    fn rename(&mut self, name: &str, target: Option<usize>) {
        set_name(&mut self.names, name, target);
        self.renamed.push((name.to_owned(), target));
    }

    fn check_room(&self) -> io::Result<()> {
        if self.faults.full {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no room"));
        }
        Ok(())
    }
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.to_owned())
}

impl Files for FaultyFiles {
    fn make_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn File>> {
        self.power.spend()?;
        let mut disk = self.lock();
        disk.check_room()?;
        disk.inodes.push(Inode::default());
        let inode = disk.inodes.len() - 1;
        disk.rename(path, Some(inode));
        let files = self.clone();
        Ok(Arc::new(FaultyFile { files, inode }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn File>> {
        let inode = *self.lock().names.get(path).ok_or_else(|| missing(path))?;
        let files = self.clone();
        Ok(Arc::new(FaultyFile { files, inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.power.spend()?;
        let mut disk = self.lock();
        let inode = *disk.names.get(from).ok_or_else(|| missing(from))?;
        disk.rename(to, Some(inode));
        disk.rename(from, None);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.power.spend()?;
        let mut disk = self.lock();
        if !disk.names.contains_key(path) {
            return Err(missing(path));
        }
        disk.rename(path, None);
        let freed = disk.allocated.remove(path).unwrap_or(0);
        disk.faults.free = disk.faults.free.map(|free| free + freed);
        Ok(())
    }

    fn allocate(&self, path: &str, bytes: u64) -> io::Result<()> {
        self.create(path)?;
        let mut disk = self.lock();
        disk.faults.free = disk.faults.free.map(|free| free.saturating_sub(bytes));
        disk.allocated.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.power.spend()?;
        let mut disk = self.lock();
        let (synced, others): (Vec<_>, Vec<_>) = disk.renamed.drain(..).partition(|(name, _)| folder(name) == path);
        disk.renamed = others;
        for (name, target) in synced {
            set_name(&mut disk.durable_names, &name, target);
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let disk = self.lock();
        let inside = disk.names.keys().filter(|name| folder(name) == path);
        Ok(inside.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect())
    }

    fn space(&self) -> io::Result<Space> {
        let free = self.lock().faults.free.unwrap_or(1 << 40);
        Ok(Space { free, total: 1 << 40 })
    }
}

struct FaultyFile {
    files: FaultyFiles,
    inode: usize,
}

impl File for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.files.power.spend()?;
        let mut disk = self.files.lock();
        disk.check_room()?;
        let inode = &mut disk.inodes[self.inode];
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if inode.bytes.len() < end {
            inode.bytes.resize(end, 0);
        }
        inode.bytes[start..end].copy_from_slice(bytes);
        inode.dirty.extend(start / SECTOR..end.div_ceil(SECTOR));
        Ok(())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let disk = self.files.lock();
        let start = offset as usize;
        let found = disk.inodes[self.inode].bytes.get(start..start + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.files.power.spend()?;
        let mut disk = self.files.lock();
        let faults = disk.faults;
        if faults.failing_sync {
            return Err(io::Error::other("the disk took the bytes and lost them"));
        }
        if !faults.lying_sync {
            let inode = &mut disk.inodes[self.inode];
            inode.durable.resize(inode.bytes.len(), 0);
            for sector in std::mem::take(&mut inode.dirty) {
                let end = ((sector + 1) * SECTOR).min(inode.bytes.len());
                inode.durable[sector * SECTOR..end].copy_from_slice(&inode.bytes[sector * SECTOR..end]);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.files.lock().inodes[self.inode].bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsynced_sectors_and_names_are_lost_in_part() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let files = FaultyFiles::new(Power::steady());
            let file = files.create("a/kept").unwrap();
            file.write_at(&[1; 2048], 0).unwrap();
            file.sync().unwrap();
            files.sync_dir("a").unwrap();
            file.write_at(&[2; 2048], 0).unwrap();
            files.create("a/new").unwrap();
            let after = files.after_power_cut(&mut Noise::new(seed), Power::steady());
            assert!(file.write_at(&[3], 0).is_err());
            let bytes = after.bytes("a/kept");
            assert!(
                bytes
                    .chunks(SECTOR)
                    .all(|sector| sector.iter().all(|byte| *byte == sector[0]))
            );
            let sectors: Vec<_> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            outcomes.insert((sectors, after.list("a").unwrap()));
        }
        // 16 subsets, with and without the new name.
        assert_eq!(outcomes.len(), 32);
    }
}

//! Doing what an examination found: in an order in which a crash after any step leaves a folder that can be examined again.
//!
//! What survives is written first (images out of damaged files, the copy of the snapshot store), then what is given up goes into the
//! quarantine. The snapshot store itself isn't touched but put aside: the next start makes it from the copy.

use std::path::Path;

use super::super::files::Files;
use super::super::head_value::{HeadValue, ImagePlace, ImageRef};
use super::super::heads::{Table, image_file_key};
use super::super::image_files::{self, IMAGE_DIR};
use super::super::log::{LOG_DIR, register};
use super::super::{SNAPSHOT_DIR, StorageError};
use super::copied_heads::with_round;
use super::copy::{self, Copy};
use super::examination::Examination;
use super::quarantine::{Quarantine, step};

/// Mends the folder.
pub(super) fn mend(dir: &Path, files: &dyn Files, found: &mut Examination) -> Result<Quarantine, StorageError> {
    let quarantine = Quarantine::new(dir);
    let host = match (&found.identity, found.state.host) {
        (Some(identity), _) => identity.host,
        (None, Some(host)) => host,
        (None, None) => super::super::identity::next(files)?.host,
    };
    if found.rewrite {
        step()?;
        move_images(files, found)?;
        step()?;
        let mut copy = Copy::create(files, copy::next_number(files)?, host)?;
        let round = found.state.round;
        for (key, value) in &found.state.values {
            copy.note(round, &with_round((key.clone(), Some(value.clone())), round))?;
        }
        copy.sync(round)?;
        copy.end(round)?;
        step()?;
        copy.publish(files)?;
        step()?;
        for path in copy.older(files)? {
            quarantine.take(&path)?;
        }
        quarantine.take(SNAPSHOT_DIR)?;
    }
    step()?;
    cut_log(files, found, &quarantine)?;
    step()?;
    for path in &found.removed {
        quarantine.take(path)?;
    }
    if let Some(identity) = &found.identity {
        quarantine.take("identity")?;
        step()?;
        identity.keep(files)?;
    }
    Ok(quarantine)
}

/// Copies readable images out of damaged files into a new one.
fn move_images(files: &dyn Files, found: &mut Examination) -> Result<(), StorageError> {
    let mut moved: Vec<(Vec<u8>, ImageRef, Vec<u8>)> = Vec::new();
    for (key, place) in std::mem::take(&mut found.moving) {
        let name = image_files::path(&image_files::file_name(place.file));
        let packed = image_files::read_entry(&*files.open(&name)?, &place)?;
        let entry = image_files::encode_entry(&key, &packed, &place.hash);
        moved.push((key, place, entry));
    }
    if moved.is_empty() {
        return Ok(());
    }
    let names = files.list(IMAGE_DIR)?;
    let known = found
        .state
        .values
        .keys()
        .filter(|key| key.first() == Some(&Table::ImageFile.prefix()));
    let known = known.filter_map(|key| Some(u64::from_be_bytes(key[1..].try_into().ok()?)));
    let there = names.iter().filter_map(|name| image_files::file_number(name));
    let number = known.chain(there).max().map_or(0, |last| last + 1);
    let file = files.create(&image_files::path(&image_files::file_name(number)))?;
    let mut offset = 0;
    for (key, place, entry) in moved {
        file.write_at(&entry, offset)?;
        let value = found.state.values.get(&key);
        if let Some(mut value) = value.and_then(|value| HeadValue::decode(value).ok()) {
            // A grain may have two images in damaged files: its own, and the one from before a move.
            if let Some(of_grain) = value.place_mut(&place) {
                *of_grain = ImagePlace::File(ImageRef {
                    file: number,
                    offset,
                    entry_len: entry.len() as u64,
                    ..place
                });
            }
            found.state.values.insert(key, value.encode());
        }
        offset += entry.len() as u64;
    }
    file.sync()?;
    files.sync_dir(IMAGE_DIR)?;
    let record = image_files::record(offset, offset);
    found.state.values.insert(image_file_key(number), record);
    Ok(())
}

/// Cuts the log behind the last commit that stays.
fn cut_log(files: &dyn Files, found: &Examination, quarantine: &Quarantine) -> Result<(), StorageError> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let log = &found.log;
    if let Some((name, at)) = log.cut.as_ref().filter(|_| log.broken) {
        let path = format!("{LOG_DIR}/{name}");
        quarantine.copy(&path)?;
        let file = files.open(&path)?;
        let (mut at, len) = (*at, file.len()?);
        while at < len {
            let zeros = (len - at).min(ZEROS.len() as u64);
            file.write_at(&ZEROS[..zeros as usize], at)?;
            at += zeros;
        }
        step()?;
        file.sync()?;
    }
    for name in &log.removed {
        quarantine.take(&format!("{LOG_DIR}/{name}"))?;
    }
    if log.register {
        step()?;
        register::write(files, &log.staying)?;
    }
    Ok(())
}

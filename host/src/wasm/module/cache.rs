//! Compiled code on the disk, with what its module says of itself, so that a restart neither compiles nor asks guests.
//!
//! Machine code is trusted like the host's own: who can put a file here could run anything in the host. So each file carries a
//! keyed hash under a key that only this host's user can read, and what doesn't match is compiled anew. The name of a file is the
//! hash of all that its content depends on: the module as it was uploaded (its `describe` reads data that the code doesn't have), the wasm
//! that this release makes of it, and everything that shapes the code: engine, settings, CPU.
#![allow(
    unsafe_code,
    reason = "loads machine code that this host compiled itself, checked by a keyed hash"
)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use granary_core::id::ModuleHash;

use super::ModuleError;
use crate::clock::wall;

/// What a file begins with, before the keyed hash.
const MAGIC: &[u8; 8] = b"granary\x03";
const HEAD: usize = MAGIC.len() + blake3::OUT_LEN;
/// What the signed part begins with: the length of the description, which the machine code follows.
const LENGTH: usize = size_of::<u64>();

/// What is kept of a module.
pub(crate) struct Kept {
    pub(crate) code: wasmtime::Module,
    /// Its description, if it was asked for one.
    pub(crate) document: Option<Vec<u8>>,
}

/// The folder of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; blake3::KEY_LEN],
    limit: u64,
}

impl Cache {
    /// Opens or makes the folder and its key.
    pub(crate) fn open(folder: &Path, limit: u64) -> io::Result<Cache> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let path = folder.join("key");
        let key = match Cache::read_key(&path)? {
            Some(key) => key,
            None => Cache::make_key(&path)?,
        };
        Ok(Cache {
            folder: folder.to_owned(),
            key,
            limit,
        })
    }

    /// The key, if it's whole and nobody but this host's user could have read or written it. Whatever another one signed is compiled
    /// anew.
    fn read_key(path: &Path) -> io::Result<Option<[u8; blake3::KEY_LEN]>> {
        // A link could lead to a file whose content somebody else knows.
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                tracing::warn!(file = %path.display(), "the key of compiled modules is a link: a new one is made");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let facts = file.metadata()?;
        let is_own = facts.is_file() && facts.uid() == rustix::process::geteuid().as_raw();
        if !is_own || facts.mode() & 0o777 != 0o600 {
            tracing::warn!(
                file = %path.display(), mode = format!("{:o}", facts.mode() & 0o777), owner = facts.uid(),
                "the key of compiled modules wasn't this user's alone (mode 600): a new one is made"
            );
            return Ok(None);
        }
        let mut key = Vec::new();
        // Half a key is what a crash left.
        file.take(blake3::KEY_LEN as u64 + 1).read_to_end(&mut key)?;
        Ok(key.try_into().ok())
    }

    fn make_key(path: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
        let mut key = [0; blake3::KEY_LEN];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let partial = path.with_extension("new");
        // A left-over of another mode must not become the key's.
        let _ = fs::remove_file(&partial);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(&key)?;
        fs::rename(&partial, path)?;
        Ok(key)
    }

    /// The compiled form of a module, of which `wasm` was made, if it's here and whole.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, module: &ModuleHash, wasm: &[u8]) -> Option<Kept> {
        let name = name(engine, module, wasm);
        let path = self.path(&name);
        let bytes = fs::read(&path).ok()?;
        let Some((document, code)) = self.verify(&name, &bytes) else {
            tracing::warn!(file = %path.display(), "a compiled module is damaged and compiled anew");
            return None;
        };
        match loaded(engine, code) {
            Ok(code) => {
                // The time of the last use decides what goes first. Best effort.
                let _ = fs::File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_modified(wall()));
                let document = (!document.is_empty()).then(|| document.to_vec());
                Some(Kept { code, document })
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a compiled module can't be loaded and is compiled anew");
                None
            }
        }
    }

    /// Keeps what [`machine_code`] made of a module's `wasm`, and its description. Best effort: without it the next start compiles.
    pub(crate) fn store(
        &self,
        engine: &wasmtime::Engine,
        (module, wasm): (&ModuleHash, &[u8]),
        document: &[u8],
        code: &[u8],
    ) {
        let kept = self.write(&name(engine, module, wasm), document, code);
        if let Err(error) = kept.and_then(|()| self.prune()) {
            tracing::warn!(folder = %self.folder.display(), %error, "a compiled module can't be kept");
        }
    }

    fn write(&self, name: &str, document: &[u8], code: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let partial = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        let length = (document.len() as u64).to_le_bytes();
        file.write_all(MAGIC)?;
        file.write_all(self.sign(name, &[&length, document, code]).as_bytes())?;
        file.write_all(&length)?;
        file.write_all(document)?;
        file.write_all(code)?;
        fs::rename(&partial, &path)
    }

    /// Removes what was used longest ago until the rest fits the limit.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if entry.path().extension().is_some_and(|kind| kind == "code") {
                files.push((facts.modified()?, facts.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
        // The newest stays, however large it is.
        for (_, len, path) in files.iter().rev().skip(1).rev() {
            if total <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= len;
        }
        Ok(())
    }

    /// Description and machine code, if they are what was written.
    fn verify<'a>(&self, name: &str, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let (head, signed) = bytes.split_at_checked(HEAD)?;
        let (magic, found) = head.split_at(MAGIC.len());
        // blake3's hashes compare in constant time.
        if magic != MAGIC || self.sign(name, &[signed]) != *<&[u8; blake3::OUT_LEN]>::try_from(found).ok()? {
            return None;
        }
        let (length, rest) = signed.split_first_chunk::<LENGTH>()?;
        rest.split_at_checked(u64::from_le_bytes(*length) as usize)
    }

    /// Covers the name, too: a good file under another's name is not good.
    fn sign(&self, name: &str, parts: &[&[u8]]) -> blake3::Hash {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(name.as_bytes());
        for part in parts {
            hash.update(part);
        }
        hash.finalize()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.code"))
    }
}

/// The name of what `engine` compiles from `wasm`, and of what `module` says of itself.
fn name(engine: &wasmtime::Engine, module: &ModuleHash, wasm: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    let mut hash = blake3::Hasher::new_derive_key("granary 2026 compiled module");
    hash.update(&settings.finish().to_le_bytes())
        .update(&module.0)
        .update(wasm);
    hash.finalize().to_hex().to_string()
}

/// Compiles. Takes seconds for large modules.
pub(crate) fn machine_code(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Vec<u8>, ModuleError> {
    engine
        .precompile_module(wasm)
        .map_err(|error| ModuleError::Compile(format!("{error:#}")))
}

/// Loads what [`machine_code`] made, in this process or in a child of it.
pub(crate) fn loaded(engine: &wasmtime::Engine, code: &[u8]) -> Result<wasmtime::Module, ModuleError> {
    // SAFETY: `code` is what the engine's own compiler returned: just now from `machine_code`, here or in a child process of this
    // binary over its pipe, or earlier, unchanged since `Cache::store` signed it under this host's key.
    unsafe { wasmtime::Module::deserialize(engine, code) }.map_err(|error| ModuleError::Host(format!("{error:#}")))
}

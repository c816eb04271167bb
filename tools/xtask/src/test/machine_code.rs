//! The guests' machine code, made once for all tests: it takes seconds of a processor for each, and nearly every test deploys one, to as many
//! hosts as it starts.
//!
//! One host gets all guests. Hosts that tests start begin with a copy of what it has compiled, as if they had had these modules before;
//! tests of compiling say that they want none.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Host;
use crate::work::run_quietly;
use crate::workspace::Workspace;

/// The folder of compiled modules that hosts begin with; made anew when the binary or a guest is another one than last time.
pub(super) fn folder(workspace: &Workspace) -> Result<PathBuf, String> {
    let data = workspace.target.join("test-machine-code");
    let made = data.join("compiled");
    let modules = modules(workspace)?;
    let (mark, content) = (data.join("made-of"), content(workspace, &modules)?);
    if fs::read_to_string(&mark).is_ok_and(|of| of == content) {
        return Ok(made);
    }
    match fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(said(&data, error)),
        _ => {}
    }
    let mut host = Host::start(&workspace.granary(), &data, "127.0.0.1:0")?;
    let url = format!("http://{}", host.address());
    for module in &modules {
        let mut deploy = Command::new(workspace.granary());
        deploy.arg("deploy").arg(module).args(["--host", &url]);
        let name = module.file_stem().unwrap_or_default().to_string_lossy();
        run_quietly(&format!("machine code of {name}"), &mut deploy)?;
    }
    host.stop();
    fs::write(&mark, content).map_err(|error| said(&mark, error))?;
    Ok(made)
}

/// The guests' modules, in order.
fn modules(workspace: &Workspace) -> Result<Vec<PathBuf>, String> {
    let folder = workspace.modules();
    let guests = workspace.guests();
    let paths = guests
        .iter()
        .map(|guest| folder.join(format!("{}.wasm", guest.name.replace('-', "_"))));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.exists()).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{} has no modules of guests", folder.display()));
    }
    Ok(paths)
}

/// What tells one set of binary and modules from another.
fn content(workspace: &Workspace, modules: &[PathBuf]) -> Result<String, String> {
    let mut hash = DefaultHasher::new();
    for path in modules.iter().chain([&workspace.granary()]) {
        fs::read(path).map_err(|error| said(path, error))?.hash(&mut hash);
    }
    Ok(format!("{:016x}", hash.finish()))
}

fn said(path: &Path, error: std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

//! Which guest crate a folder stands for, as cargo sees the folder.
//!
//! A guest is a package with a library that is a `cdylib`. A folder of such a package stands for it, whatever else the package
//! builds; the root of a workspace stands for its one guest, or for the one that was chosen.

use std::path::Path;

use serde_json::Value;

use crate::Failure;
use crate::build::cargo;

/// A package that is built into a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// How cargo names the package where a name may be ambiguous.
    pub(crate) id: String,
    /// The package's name.
    pub(crate) name: String,
}

/// The guest that `folder` stands for, or the one of its workspace that is called `chosen`.
pub(crate) fn guest(folder: &Path, chosen: Option<&str>) -> Result<Guest, Failure> {
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(|_| {
        Failure::Usage(format!(
            "{} has no Cargo.toml: go to a guest's crate, or name a .wasm file",
            folder.display()
        ))
    })?;
    let mut cargo = cargo(folder);
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = cargo.output();
    let output = output.map_err(|error| Failure::Refused(format!("cargo can't be started: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Refused(format!("cargo can't read the crate: {}", said.trim())));
    }
    let metadata = serde_json::from_slice(&output.stdout)
        .map_err(|error| Failure::Refused(format!("cargo's description of the crate is no JSON: {error}")))?;
    choose(&metadata, &manifest, chosen).map_err(Failure::Usage)
}

/// Of what `cargo metadata` says: the guest that is meant by the manifest at this path.
fn choose(metadata: &Value, manifest: &Path, chosen: Option<&str>) -> Result<Guest, String> {
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let guests: Vec<Guest> = packages.iter().filter_map(as_guest).collect();
    if let Some(chosen) = chosen {
        let found = guests.iter().find(|guest| guest.name == chosen).cloned();
        return found.ok_or_else(|| match packages.iter().any(|package| package["name"] == chosen) {
            true => format!("the package `{chosen}` makes no module: {CDYLIB}"),
            false => format!("the workspace has no package `{chosen}`{}", list(&guests)),
        });
    }
    let here = packages
        .iter()
        .find(|package| package["manifest_path"].as_str().map(Path::new) == Some(manifest));
    if let Some(guest) = here.and_then(as_guest) {
        return Ok(guest);
    }
    let is_root = metadata["workspace_root"].as_str().map(Path::new) == manifest.parent();
    match guests.as_slice() {
        [guest] if is_root => Ok(guest.clone()),
        [_, _, ..] if is_root => Err(format!(
            "the workspace has several guests: say which one by `--package NAME`{}",
            list(&guests)
        )),
        _ if here.is_some() => Err(format!("the crate makes no module: {CDYLIB}")),
        _ => Err(format!("no crate of the workspace makes a module: {CDYLIB}")),
    }
}

const CDYLIB: &str = "it needs `[lib] crate-type = [\"cdylib\"]` in its Cargo.toml";

fn list(guests: &[Guest]) -> String {
    if guests.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = guests.iter().map(|guest| guest.name.as_str()).collect();
    format!("; there are {}", names.join(", "))
}

fn as_guest(package: &Value) -> Option<Guest> {
    let mut targets = package["targets"].as_array()?.iter();
    // An example may be a cdylib, too.
    targets.find(|target| has(&target["crate_types"], "cdylib") && !has(&target["kind"], "example"))?;
    Some(Guest {
        id: package["id"].as_str()?.to_owned(),
        name: package["name"].as_str()?.to_owned(),
    })
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, targets: &[(&str, &str)]) -> Value {
        let targets: Vec<Value> = targets
            .iter()
            .map(|(kind, crate_type)| json!({ "kind": [kind], "crate_types": [crate_type] }))
            .collect();
        json!({ "id": format!("path+file:///w/{name}#0.1.0"), "name": name, "manifest_path": format!("/w/{name}/Cargo.toml"), "targets": targets })
    }

    fn chosen(packages: &[Value], manifest: &str, name: Option<&str>) -> Result<String, String> {
        let metadata = json!({ "packages": packages, "workspace_root": "/w" });
        choose(&metadata, Path::new(manifest), name).map(|guest| guest.name)
    }

    #[test]
    fn a_workspace_with_several_guests_is_asked_for_one() {
        let cart = package("cart", &[("cdylib", "cdylib"), ("bin", "bin")]);
        let user = package("user", &[("cdylib", "cdylib")]);
        let tool = package("tool", &[("bin", "bin"), ("example", "cdylib")]);
        let all = [cart, user, tool];
        assert_eq!(
            chosen(&all, "/w/Cargo.toml", None).unwrap_err(),
            "the workspace has several guests: say which one by `--package NAME`; there are cart, user"
        );
        assert_eq!(chosen(&all, "/w/Cargo.toml", Some("user")).as_deref(), Ok("user"));
        assert_eq!(chosen(&all, "/w/cart/Cargo.toml", None).as_deref(), Ok("cart"));
        assert_eq!(chosen(&all, "/w/cart/Cargo.toml", Some("user")).as_deref(), Ok("user"));
        assert_eq!(
            chosen(&all, "/w/Cargo.toml", Some("order")).unwrap_err(),
            "the workspace has no package `order`; there are cart, user"
        );
        for error in [
            chosen(&all, "/w/tool/Cargo.toml", None),
            chosen(&all, "/w/Cargo.toml", Some("tool")),
        ] {
            assert!(error.unwrap_err().contains("crate-type = [\"cdylib\"]"));
        }
    }

    #[test]
    fn a_workspace_s_only_guest_is_meant_by_its_root() {
        let all = [
            package("tool", &[("bin", "bin")]),
            package("user", &[("lib", "cdylib")]),
        ];
        assert_eq!(chosen(&all, "/w/Cargo.toml", None).as_deref(), Ok("user"));
        assert!(chosen(&all[..1], "/w/Cargo.toml", None).is_err());
    }
}

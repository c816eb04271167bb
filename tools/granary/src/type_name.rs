//! What a module calls its grain type: by this name its own clients look for it.

use granary_core::id::ModuleHash;
use granary_host::description::Description;
use granary_host::wasm::{CompilerPlace, Engine, WasmConfig};
use wasmparser::{Parser, Payload};

use crate::COMPILE_CHILD;

/// Where the SDK's `export!` writes the name: nothing has to be compiled to read it.
const SECTION: &str = "granary:grain/type";

/// The name, if it can be read without running the module.
pub(crate) fn written(module: &[u8]) -> Option<String> {
    let payloads = Parser::new(0).parse_all(module).map_while(Result::ok);
    let names = payloads.filter_map(|payload| match payload {
        Payload::CustomSection(section) if section.name() == SECTION => Some(section.data().to_vec()),
        _ => None,
    });
    String::from_utf8(names.last()?).ok()
}

/// The name in the module's description, for which it's compiled and run as a host does it at upload. None if that fails: a host says
/// better why.
pub(crate) fn described(module: &[u8]) -> Option<String> {
    let mut config = WasmConfig {
        max_instances: 1,
        ..WasmConfig::default()
    };
    config.compiler.place = CompilerPlace::Child {
        program: "/proc/self/exe".into(),
        args: vec![COMPILE_CHILD.to_owned()],
    };
    let engine = Engine::new(&config).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    // The hash names what a host keeps, and here nothing is kept.
    let prepared = runtime.block_on(engine.prepare(ModuleHash([0; 32]), module.to_vec()));
    let description: Description = serde_json::from_slice(&prepared.ok()?.document).ok()?;
    Some(description.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_in_a_section_of_its_own() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        assert_eq!(written(&module), None);
        module.extend([0, 23, 18]);
        module.extend(b"granary:grain/type");
        module.extend(b"room");
        assert_eq!(written(&module).as_deref(), Some("room"));
        assert_eq!(written(b"no module"), None);
    }
}

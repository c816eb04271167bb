//! Uploads from any bytes. For fuzz targets.

use std::sync::{Arc, LazyLock};

use granary_core::id::ModuleHash;

use super::{Engine, Instance, ModuleError, WasmConfig};

/// One of so many modules is compiled and started, too: that takes a thousand times as long.
const SAMPLED: u8 = 32;

static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    let config = WasmConfig {
        memory_limit: 4 << 20,
        max_instances: 4,
        ..WasmConfig::default()
    };
    Engine::new(&config).expect("this machine can run guests")
});

/// Checks and rewrites a module; of those that are accepted, compiles and starts a sample.
///
/// # Panics
///
/// When a module is accepted and what was made of it isn't valid, doesn't compile or can't be started.
#[doc(hidden)]
pub fn module(bytes: &[u8]) {
    let Ok(checked) = ENGINE.check(bytes) else { return };
    let valid = ENGINE.validate(&checked);
    assert_eq!(valid, Ok(()), "an accepted module is valid after the rewrite");
    let hash = *blake3::hash(bytes).as_bytes();
    if hash[0].is_multiple_of(SAMPLED) {
        let module = match ENGINE.compile(ModuleHash(hash), bytes) {
            // Only the linker knows the types of WASI's functions.
            Err(ModuleError::ImportType { .. }) => return,
            compiled => compiled.expect("an accepted module compiles"),
        };
        Instance::start(&ENGINE, &module, &[]).expect("an accepted module can be started");
    }
}

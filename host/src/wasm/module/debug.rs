//! How much of a module is for debuggers: most of a debug build, and nothing that a host reads.

use wasmparser::{Parser, Payload};

/// The bytes of a module's debug information; what can't be read has none.
pub fn debug_bytes(module: &[u8]) -> usize {
    let payloads = Parser::new(0).parse_all(module).map_while(Result::ok);
    let sections = payloads.filter_map(|payload| match payload {
        Payload::CustomSection(section) => Some(section),
        _ => None,
    });
    let debug = sections.filter(|section| section.name().starts_with(".debug_"));
    debug.map(|section| section.range().len()).sum()
}

/// What to do about a module that is too large, if debug information is a part of it worth mentioning.
pub fn debug_remedy(module: &[u8]) -> Option<String> {
    let debug = debug_bytes(module);
    (debug > module.len() / 20).then(|| {
        format!(
            "{debug} of the {} bytes are debug information, which a host doesn't read: strip it, in Rust by `-Cstrip=debuginfo` or a release \
             build, with clang by `-Wl,--strip-debug`, else by `wasm-tools strip`",
            module.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{CustomSection, Module};

    use super::*;

    fn module(sections: &[(&str, usize)]) -> Vec<u8> {
        let mut module = Module::new();
        for (name, length) in sections {
            module.section(&CustomSection {
                name: (*name).into(),
                data: vec![0; *length].into(),
            });
        }
        module.finish()
    }

    #[test]
    fn debug_information_is_counted_and_worth_a_word_when_its_a_part() {
        let debug = module(&[("name", 1_000), (".debug_info", 5_000), (".debug_str", 4_000)]);
        assert!((9_000..9_100).contains(&debug_bytes(&debug)));
        let told = debug_remedy(&debug).unwrap();
        assert!(told.contains("debug information") && told.contains("strip"), "{told}");
        assert_eq!(debug_remedy(&module(&[("name", 1_000), (".debug_line", 10)])), None);
        assert_eq!(debug_remedy(b"no module"), None);
    }

    #[test]
    fn what_is_cut_off_counts_as_far_as_it_goes() {
        let whole = module(&[(".debug_info", 5_000), (".debug_str", 4_000)]);
        assert!((5_000..5_100).contains(&debug_bytes(&whole[..whole.len() - 10])));
    }
}

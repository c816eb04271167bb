//! One number for a whole state, to compare two without moving them.

use std::collections::BTreeMap;

use granary_core::commit::Delta;
use granary_core::page::{PAGE_SIZE, Page};

use super::BaseImage;

/// The blake3 of the memory and globals that `parts` make of `base`, page by page: equal for equal states, however they were stored.
pub fn digest(base: &BaseImage, parts: &[Delta]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new_derive_key("granary 2026 state of a grain");
    let Some(last) = parts.last() else {
        return hash.finalize();
    };
    let mut changed: BTreeMap<u32, Box<Page>> = BTreeMap::new();
    for patch in parts.iter().flat_map(|part| part.patches.iter()) {
        let page = changed
            .entry(patch.index)
            .or_insert_with(|| Box::new(*base.page(patch.index)));
        patch.lay(page);
    }
    hash.update(&last.memory_len.to_le_bytes());
    for global in &last.globals {
        hash.update(&global.to_le_bytes());
    }
    for index in 0..last.memory_len.div_ceil(PAGE_SIZE as u64) as u32 {
        let page = changed.get(&index).map_or(base.page(index), |page| page);
        hash.update(page);
    }
    hash.finalize()
}

#[cfg(test)]
mod tests {
    use granary_core::page::Patches;

    use super::*;

    fn part(pages: usize, changes: &[(u32, usize, u8)], base: &BaseImage) -> Delta {
        let mut patches = Patches::new();
        for (index, offset, byte) in changes {
            let before = *base.page(*index);
            let mut after = before;
            after[*offset] = *byte;
            patches.push_changes(*index, &before, &after);
        }
        Delta {
            memory_len: (pages * PAGE_SIZE) as u64,
            globals: vec![7],
            patches,
        }
    }

    #[test]
    fn equal_states_have_equal_digests_however_they_are_stored() {
        let base = BaseImage::new([(10, &[1, 2, 3][..])]);
        let apart = [part(16, &[(0, 9, 9)], &base), part(16, &[(5, 1, 1)], &base)];
        let merged = Delta::merge(&apart).unwrap();
        assert_eq!(digest(&base, &apart), digest(&base, &[merged]));
        // A page saved whole, with what the base has anyway.
        let mut whole = apart[1].clone();
        whole.patches.push_whole(3, base.page(3));
        assert_eq!(digest(&base, &apart), digest(&base, &[apart[0].clone(), whole]));
    }

    #[test]
    fn every_difference_shows() {
        let base = BaseImage::new([(10, &[1, 2, 3][..])]);
        let one = part(16, &[(5, 1, 1)], &base);
        let globals = Delta {
            globals: vec![8],
            ..one.clone()
        };
        let others = [
            part(16, &[(5, 1, 2)], &base),
            part(16, &[(5, 2, 1)], &base),
            part(16, &[(6, 1, 1)], &base),
            part(17, &[(5, 1, 1)], &base),
            globals,
        ];
        for (at, other) in others.into_iter().enumerate() {
            assert_ne!(
                digest(&base, std::slice::from_ref(&one)),
                digest(&base, &[other]),
                "{at}"
            );
        }
        assert_ne!(
            digest(&base, std::slice::from_ref(&one)),
            digest(&BaseImage::default(), &[one])
        );
    }
}

//! The type `shape` with a state of another shape than in `shape-1`.
//!
//! The way here fails for some grains, by how their keys end, each in a way of its own: `-trap`, `-error`, `-loop`, `-memory` in the
//! migration, `-check` in the check after it. All others pass.

use granary_sdk::prelude::*;

/// A number, and how often it was added to since it has this shape.
#[derive(Default, Serialize, Deserialize)]
pub struct Shape {
    total: i64,
    adds: u64,
    /// What the check looks at; not saved.
    #[serde(skip)]
    objection: Option<String>,
}

/// As `shape-1` saves it.
#[derive(Deserialize)]
struct ShapeV1 {
    value: i64,
}

#[grain(version = 2, migrate = Self::migrate)]
impl Shape {
    fn migrate(saved: SavedState) -> Result<Self, String> {
        let old: ShapeV1 = saved.decode()?;
        let mut objection = None;
        match saved.key().rsplit_once('-') {
            Some((_, "trap")) => panic!("this grain's key asks for a trap"),
            Some((_, "error")) => return Err("this grain's key asks for an error".to_owned()),
            Some((_, "loop")) => turn_forever(),
            Some((_, "memory")) => take_all_memory(),
            Some((_, "check")) => objection = Some("this grain's key asks for a failing check".to_owned()),
            _ => {}
        }
        Ok(Self {
            total: old.value,
            adds: 0,
            objection,
        })
    }

    #[check]
    fn has_no_objection(&self) -> Result<(), String> {
        self.objection.clone().map_or(Ok(()), Err)
    }

    /// Adds `n` and returns the new value.
    pub fn add(&mut self, n: i64) -> i64 {
        self.adds += 1;
        self.total += n;
        self.total
    }

    /// The value.
    #[read]
    pub fn get(&self) -> i64 {
        self.total
    }

    /// Which code answers.
    #[read]
    pub fn shape(&self) -> u32 {
        2
    }

    /// How often `add` was called since the grain has this code.
    #[read]
    pub fn adds(&self) -> u64 {
        self.adds
    }
}

fn turn_forever() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn take_all_memory() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

granary_sdk::export!(Shape);

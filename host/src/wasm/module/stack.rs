//! The stack in linear memory, which compilers keep besides the engine's own: where it lies, as far as a module shows it.
//!
//! Nothing guards it. One that grows beyond its end runs into whatever is below, or below address 0, where accesses trap.

use wasmparser::{DataKind, ValType};

use super::census::{Census, const_i32};

/// The stack in linear memory, as far as it's known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShadowStack {
    /// Which mutable global is the stack pointer, counted among mutable globals.
    pub(crate) pointer: usize,
    /// The lowest address that belongs to the stack and to nothing else.
    pub(crate) low: u32,
    /// The address behind its highest.
    pub(crate) high: u32,
}

/// What is likely the stack pointer, for the words of an error and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StackPointer {
    /// Which mutable global it is, counted among mutable globals.
    pub(crate) global: usize,
    /// What it begins with: the stack's highest end.
    top: u32,
    /// The lowest address of the stack, if that's known.
    low: Option<u32>,
}

impl StackPointer {
    /// Whether a stack pointer of this value has left its stack.
    pub(crate) fn is_beyond(&self, pointer: u32) -> bool {
        pointer > self.top || self.low.is_some_and(|low| pointer < low)
    }

    /// The stack's length in bytes, if it's known.
    pub(crate) fn bytes(&self) -> Option<u32> {
        Some(self.top - self.low?)
    }
}

/// Where the stack in linear memory lies, when that's sure.
///
/// The linker says it by `__stack_low` and `__stack_high`, if they are exported. Else: when every data segment lies at or above
/// the initial stack pointer, the linker has put the stack first, and nothing but stack is below it (data and what begins
/// as zeros are laid side by side). Without any segment there's no proof: zeros leave no trace in the module.
pub(super) fn find(census: &Census<'_>, globals: &[(u32, ValType)]) -> Option<ShadowStack> {
    let index = census.global("__stack_pointer")?;
    let pointer = place(globals, index)?;
    let (low, high) = bounds(census, index)?;
    Some(ShadowStack { pointer, low, high })
}

/// The stack pointer by its name; in a module without names the first global, where linkers put it.
pub(super) fn find_pointer(census: &Census<'_>, globals: &[(u32, ValType)]) -> Option<StackPointer> {
    let index = census.global("__stack_pointer").unwrap_or(0);
    let (global, top) = (place(globals, index)?, census.initial_i32(index)?);
    let known = bounds(census, index).filter(|(low, high)| *high == top && low < high);
    Some(StackPointer {
        global,
        top,
        low: known.map(|(low, _)| low),
    })
}

/// A global's place among the mutable ones, if it's one that can hold an address.
fn place(globals: &[(u32, ValType)], index: u32) -> Option<usize> {
    globals
        .iter()
        .position(|(global, ty)| *global == index && *ty == ValType::I32)
}

/// The lowest address of the stack and the one behind its highest.
fn bounds(census: &Census<'_>, pointer: u32) -> Option<(u32, u32)> {
    let bound = |name| census.initial_i32(census.global(name)?);
    if let (Some(low), Some(high)) = (bound("__stack_low"), bound("__stack_high")) {
        return (low <= high).then_some((low, high));
    }
    let high = census.initial_i32(pointer)?;
    let above = census.data.iter().all(|data| match &data.kind {
        DataKind::Active { offset_expr, .. } => const_i32(offset_expr).is_some_and(|offset| offset >= high),
        DataKind::Passive => false,
    });
    (above && !census.data.is_empty()).then_some((0, high))
}

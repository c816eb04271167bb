//! Modules that were linked as commands, programs that run once: their constructors would run with every call, or never.
//!
//! Unless something in a module mentions `__wasm_call_ctors`, wasm-ld takes each export for a program of its own and wraps it:
//!
//! ```text
//! (func (export "...") (param i32 i32) (result i32)
//!   call $__wasm_call_ctors      ;; if there are constructors: a body of calls alone, which the linker writes, too
//!   local.get 0
//!   local.get 1
//!   call $the_export
//!   call $__wasm_call_dtors)     ;; if libc is there
//! ```
//!
//! In a grain every call would make the state anew and be answered as if it had been kept. Names may be stripped, so it's the shape that
//! tells. An optimizer puts the inner functions into the outer ones; what is left is one function that all exports call first. Guests that
//! initialize themselves look like that as well, but for the question whether they have done it before.
//!
//! **Not here:** what has to run before a grain's first turn ([`check`](super::check)).

use std::collections::BTreeSet;

use wasmparser::{FuncType, Operator};

use super::ModuleError;
use super::census::Census;
use super::check::HANDLER;

/// Refuses a module whose exports, the functions `exports` of the world, are wrapped, or whose constructors only its `_start` runs.
pub(super) fn check(census: &Census<'_>, exports: &[u32]) -> Result<(), ModuleError> {
    let is_wrapped = |name: &str| name.starts_with(HANDLER) && name.ends_with(".command_export");
    if let Some(name) = census.find_function_name(is_wrapped) {
        return Err(ModuleError::CommandExports(format!("`{name}`")));
    }
    let exports: BTreeSet<u32> = exports.iter().copied().collect();
    if let Some(wrapped) = wrapped(census, &exports) {
        return Err(ModuleError::CommandExports(census.function_name(wrapped)));
    }
    if starts(census) {
        return Err(ModuleError::CommandStart);
    }
    Ok(())
}

/// One of the exports, if they are wrapped.
fn wrapped(census: &Census<'_>, exports: &BTreeSet<u32>) -> Option<u32> {
    let whole = || {
        exports
            .iter()
            .filter_map(move |export| Some((*export, wrapper(census, *export)?)))
    };
    // As the linker wrote them.
    let constructing = whole().find(|(export, Wrapper { first, .. })| {
        let is_shared = || whole().any(|(other, wrapper)| other != *export && wrapper.first == *first);
        first.is_some_and(|first| only_calls(census, first)) && is_shared()
    });
    if let Some((export, _)) = constructing {
        return Some(export);
    }
    // There may be destructors and nothing to construct. Those of a libc that has nothing to end do no harm.
    let (first, rest) = (exports.first()?, exports.len() - 1);
    let destructing =
        |wrapper: &Wrapper| wrapper.first.is_none() && wrapper.last.is_some_and(|last| !is_idle(census, last, 2));
    let mut all = whole().map(|(_, wrapper)| wrapper);
    if let Some(one) = all.next().filter(destructing)
        && rest > 0
        && whole().count() > rest
        && all.all(|wrapper| wrapper == one)
    {
        return Some(*first);
    }
    // As an optimizer leaves them.
    let common = first_call(census, *first)?;
    let is_common = exports.iter().all(|export| first_call(census, *export) == Some(common));
    (rest > 0 && is_common && acts_at_once(census, common)).then_some(*first)
}

/// Whether the linker's constructors are called by `_start` and by nothing else.
fn starts(census: &Census<'_>) -> bool {
    let has = |name: &str| census.exported_function(name).is_some();
    let Some(start) = census
        .exported_function("_start")
        .filter(|_| !has("_initialize") && !has("__wasm_call_ctors"))
    else {
        return false;
    };
    // They come before `main`, which has a result; the destructors behind it are as likely a body of calls.
    const FIRST: usize = 8;
    let mut first = Vec::new();
    let _ = visit(census, start, |operator| match callee(operator) {
        Some(callee) if is_nullary(census, callee) => {
            first.push(callee);
            first.len() < FIRST
        }
        Some(_) => false,
        None => true,
    });
    let is_called_elsewhere = |constructors: u32| {
        let mut others = (census.imported_functions..census.functions.len() as u32).filter(|other| *other != start);
        others.any(|other| calls(census, other, constructors))
    };
    first
        .into_iter()
        .any(|first| only_calls(census, first) && !is_idle(census, first, 2) && !is_called_elsewhere(first))
}

/// What a linker's wrapper calls before and after the export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wrapper {
    first: Option<u32>,
    last: Option<u32>,
}

/// The function's wrapping, if it does nothing but pass its parameters on to another one, with calls around that.
fn wrapper(census: &Census<'_>, function: u32) -> Option<Wrapper> {
    let ty = census.function_type(function)?;
    // Two calls around, the call itself, and the end.
    let operators = operators(census, function, ty.params().len() + 4)?;
    let (Operator::End, body) = operators.split_last()? else {
        return None;
    };
    let nullary = |operator: &Operator<'_>| callee(operator).filter(|callee| is_nullary(census, *callee));
    let (first, body) = match body.split_first()? {
        (operator, rest) if nullary(operator).is_some() => (nullary(operator), rest),
        _ => (None, body),
    };
    let (last, body) = match body.split_last()? {
        (operator, rest) if nullary(operator).is_some() => (nullary(operator), rest),
        _ => (None, body),
    };
    let (call, params) = body.split_last()?;
    let passes_all = params.len() == ty.params().len()
        && params.iter().enumerate().all(
            |(at, operator)| matches!(operator, Operator::LocalGet { local_index } if *local_index as usize == at),
        );
    let is_of_its_type = census.function_type(callee(call)?) == Some(ty);
    let wraps = passes_all && is_of_its_type && (first.is_some() || last.is_some());
    wraps.then_some(Wrapper { first, last })
}

/// Whether a function's body is calls of functions without parameters and nothing else, as that of the linker's constructors.
fn only_calls(census: &Census<'_>, function: u32) -> bool {
    let mut calls = 0;
    let body = visit(census, function, |operator| match operator {
        Operator::Call { function_index } => {
            calls += 1;
            census
                .function_type(*function_index)
                .is_some_and(|ty| ty.params().is_empty())
        }
        Operator::Drop | Operator::Nop | Operator::End => true,
        _ => false,
    });
    body == Some(true) && calls > 0
}

/// Whether a short function does nothing, and neither do those that it calls, as many `levels` deep.
fn is_idle(census: &Census<'_>, function: u32, levels: usize) -> bool {
    const SHORT: usize = 8;
    let Some(operators) = operators(census, function, SHORT) else {
        return false;
    };
    operators.iter().all(|operator| match operator {
        Operator::Nop | Operator::End => true,
        Operator::Call { function_index } => levels > 0 && is_idle(census, *function_index, levels - 1),
        _ => false,
    })
}

/// The function without parameters that this one calls before anything else.
fn first_call(census: &Census<'_>, function: u32) -> Option<u32> {
    let mut first = None;
    visit(census, function, |operator| {
        first = callee(operator);
        false
    })?;
    first.filter(|callee| is_nullary(census, *callee))
}

/// Whether a function writes or calls before it asks anything: one that is meant to act once asks first.
fn acts_at_once(census: &Census<'_>, function: u32) -> bool {
    let mut acts = false;
    let _ = visit(census, function, |operator| match operator {
        Operator::If { .. } | Operator::BrIf { .. } | Operator::BrTable { .. } => false,
        Operator::Call { .. }
        | Operator::CallIndirect { .. }
        | Operator::I32Store { .. }
        | Operator::I64Store { .. }
        | Operator::F32Store { .. }
        | Operator::F64Store { .. }
        | Operator::I32Store8 { .. }
        | Operator::I32Store16 { .. }
        | Operator::I64Store8 { .. }
        | Operator::I64Store16 { .. }
        | Operator::I64Store32 { .. }
        | Operator::V128Store { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryCopy { .. } => {
            acts = true;
            false
        }
        _ => true,
    });
    acts
}

/// Whether a function calls another one.
fn calls(census: &Census<'_>, function: u32, other: u32) -> bool {
    // Visiting ends at the call.
    visit(census, function, |operator| callee(operator) != Some(other)) == Some(false)
}

fn callee(operator: &Operator<'_>) -> Option<u32> {
    match operator {
        Operator::Call { function_index } => Some(*function_index),
        _ => None,
    }
}

/// Whether it's the module's own and has neither parameters nor results.
fn is_nullary(census: &Census<'_>, function: u32) -> bool {
    let nothing = FuncType::new([], []);
    function >= census.imported_functions && census.function_type(function) == Some(&nothing)
}

/// The operators of a function without locals, if there are no more than `most`.
fn operators<'a>(census: &Census<'a>, function: u32, most: usize) -> Option<Vec<Operator<'a>>> {
    let at = function.checked_sub(census.imported_functions)?;
    let body = census.bodies.get(at as usize)?;
    if body.get_locals_reader().ok()?.get_count() > 0 {
        return None;
    }
    let mut operators = Vec::new();
    for operator in body.get_operators_reader().ok()? {
        if operators.len() == most {
            return None;
        }
        operators.push(operator.ok()?);
    }
    Some(operators)
}

/// Visits a function's operators for as long as `visit` wants more. Whether it wanted all; `None` for a function without a body here.
fn visit(census: &Census<'_>, function: u32, mut visit: impl FnMut(&Operator<'_>) -> bool) -> Option<bool> {
    let at = function.checked_sub(census.imported_functions)?;
    let body = census.bodies.get(at as usize)?;
    for operator in body.get_operators_reader().ok()? {
        if !visit(&operator.ok()?) {
            return Some(false);
        }
    }
    Some(true)
}

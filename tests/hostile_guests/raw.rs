//! Guests in wasm text, for what no honest toolchain emits: texts that aren't UTF-8, results that lie about their length,
//! calls by the hundred thousand, modules that are bombs.
//!
//! Every one is also a small counter, `add` and `get`, so that a test can see whether its state is as it was; any other
//! method is the attack.

/// A module by its parts.
pub(crate) struct Raw {
    /// Pages of 64 KiB to begin with.
    pub(crate) pages: u32,
    /// The attack: an expression that leaves a pointer to the result. `$i` is free.
    pub(crate) attack: &'static str,
    /// The body of `describe`, which leaves a pointer to a list.
    pub(crate) describe: &'static str,
    /// The description, at 1,024.
    pub(crate) description: Vec<u8>,
    /// More of the module's fields.
    pub(crate) more: String,
}

const DESCRIPTION: &str = r#"{"name":"raw","durability":"committed","methods":[
    {"name":"add","kind":"write"},{"name":"get","kind":"read"},{"name":"attack","kind":"write"}]}"#;

/// The value is at 66,000; results and lists are described at 65,536; 66,100 on is for what the attack says.
const MODULE: &str = r#"(module
  (import "granary:grain/calls@0.1.0" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "granary:grain/calls@0.1.0" "invoke-all" (func $invoke_all (param i32 i32 i32)))
  (import "granary:grain/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") {pages})
  (global $__stack_pointer (mut i32) (i32.const 65536))
  (global $heap (mut i32) (i32.const 80000))
  (func $list (param $ptr i32) (param $len i32) (result i32)
    (i32.store (i32.const 65536) (local.get $ptr))
    (i32.store (i32.const 65540) (local.get $len))
    (i32.const 65536))
  (func $ok (param $ptr i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 65536) (i32.const 0))
    (i32.store (i32.const 65540) (local.get $ptr))
    (i32.store (i32.const 65544) (local.get $len))
    (i32.const 65536))
  (func $value (result i32)
    (i32.store8 (i32.const 66008) (i32.add (i32.const 48) (i32.load8_u (i32.const 66000))))
    (call $ok (i32.const 66008) (i32.const 1)))
  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (global.set $heap (i32.and (i32.add (i32.add (global.get $heap) (local.get $new)) (i32.const 7)) (i32.const -8)))
    (i32.sub (global.get $heap) (i32.and (i32.add (local.get $new) (i32.const 7)) (i32.const -8))))
  (func (export "{handler}#describe") (result i32) {describe})
  (func (export "{handler}#call")
    (param $kp i32) (param $kl i32) (param $rp i32) (param $rl i32)
    (param $mp i32) (param $ml i32) (param $ap i32) (param $al i32) (result i32)
    (local $i i32) (local $method i32)
    (local.set $method (i32.load8_u offset=1 (local.get $mp)))
    (if (i32.eq (local.get $method) (i32.const 100)) (then
      (i32.store8 (i32.const 66000) (i32.add (i32.const 1) (i32.load8_u (i32.const 66000))))
      (return (call $value))))
    (if (i32.eq (local.get $method) (i32.const 101)) (then (return (call $value))))
    (i32.store8 (i32.const 66000) (i32.const 7))
    {attack})
  (func $post (param i32) (global.set $heap (i32.const 80000)))
  (export "cabi_post_{handler}#describe" (func $post))
  (export "cabi_post_{handler}#call" (func $post))
  (export "cabi_post_{handler}#save" (func $post))
  (export "cabi_post_{handler}#load" (func $post))
  (export "cabi_post_{handler}#check" (func $post))
  (func (export "{handler}#save") (result i32) (call $ok (i32.const 66000) (i32.const 1)))
  (func (export "{handler}#load") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (call $ok (i32.const 0) (i32.const 0)))
  (func (export "{handler}#check") (param i32 i32 i32 i32) (result i32) (call $ok (i32.const 0) (i32.const 0)))
  {more}
  (data (i32.const 1024) "{description}")
  (data (i32.const 66100) "\22\ff\fe\22")
)"#;

impl Default for Raw {
    fn default() -> Raw {
        Raw {
            pages: 16,
            attack: "unreachable",
            describe: "(call $list (i32.const 1024) (i32.const {described}))",
            description: DESCRIPTION.into(),
            more: String::new(),
        }
    }
}

impl Raw {
    /// The module's bytes.
    pub(crate) fn wasm(&self) -> Vec<u8> {
        let escaped: String = self.description.iter().map(|byte| format!("\\{byte:02x}")).collect();
        let text = MODULE
            .replace("{attack}", self.attack)
            .replace("{describe}", self.describe)
            .replace("{described}", &self.description.len().to_string())
            .replace("{more}", &self.more)
            .replace("{pages}", &self.pages.to_string())
            .replace("{description}", &escaped)
            .replace("{handler}", "granary:grain/handler@0.1.0");
        wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// A byte in each page of nearly all the memory that a grain may have: 64 MiB from a module of 150 KB.
pub(crate) fn data_bomb() -> Vec<u8> {
    let segments = (32..16_300).map(|page| format!("(data (i32.const {}) \"x\")", page * 4096));
    Raw {
        pages: 1023,
        more: segments.collect(),
        ..Raw::default()
    }
    .wasm()
}

/// A module within all limits of its size that keeps a compiler busy for minutes: functions as long as they may be, each
/// of loops that keep a thousand variables alive.
pub(crate) fn compile_bomb() -> Vec<u8> {
    let wasm = Raw {
        more: "(func (param i32) (result i32) (local.get 0))".repeat(BOMB_FUNCTIONS),
        ..Raw::default()
    }
    .wasm();
    with_last_bodies(&wasm, BOMB_FUNCTIONS, &busy_body())
}

const BOMB_FUNCTIONS: usize = 120;
const BOMB_LOCALS: u32 = 1000;
const BOMB_BODY: usize = 120 << 10;

fn busy_body() -> Vec<u8> {
    const I32: u8 = 0x7f;
    let mut body = vec![1];
    put_leb(&mut body, BOMB_LOCALS);
    body.push(I32);
    let mut n = 0;
    while body.len() < BOMB_BODY {
        let (from, to) = (1 + n * 7 % BOMB_LOCALS, 1 + n * 13 % BOMB_LOCALS);
        // loop (to += from ^ first) br_if 0 (to) end
        body.extend([0x03, 0x40, 0x20]);
        put_leb(&mut body, from);
        body.extend([0x20, 0x00, 0x73, 0x20]);
        put_leb(&mut body, to);
        body.extend([0x6a, 0x22]);
        put_leb(&mut body, to);
        body.extend([0x0d, 0x00, 0x0b]);
        n += 1;
    }
    // The sum of all variables: each is alive to the end.
    body.extend([0x20, 0x00]);
    for local in 1..=BOMB_LOCALS {
        body.push(0x20);
        put_leb(&mut body, local);
        body.push(0x6a);
    }
    body.push(0x0b);
    body
}

/// The module with the last `count` functions' bodies replaced.
fn with_last_bodies(wasm: &[u8], count: usize, body: &[u8]) -> Vec<u8> {
    const CODE: u8 = 10;
    let mut out = wasm[..8].to_vec();
    let mut rest = &wasm[8..];
    while let [id, after @ ..] = rest {
        let mut after = after;
        let len = take_leb(&mut after) as usize;
        let (content, next) = after.split_at(len);
        let section = if *id == CODE {
            replaced(content, count, body)
        } else {
            content.to_vec()
        };
        out.push(*id);
        put_leb(&mut out, section.len() as u32);
        out.extend(section);
        rest = next;
    }
    out
}

fn replaced(mut code: &[u8], count: usize, body: &[u8]) -> Vec<u8> {
    let all = take_leb(&mut code);
    let mut out = Vec::new();
    put_leb(&mut out, all);
    for n in 0..all as usize {
        let len = take_leb(&mut code) as usize;
        let (old, next) = code.split_at(len);
        code = next;
        let new = if n + count >= all as usize { body } else { old };
        put_leb(&mut out, new.len() as u32);
        out.extend(new);
    }
    out
}

fn put_leb(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_leb(bytes: &mut &[u8]) -> u32 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u32::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

//! Uploads that can't be hosted: refused with a 4xx that names the construct, and nothing is half-registered.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use granary_tests::{Host, Request, built};

/// A module that has the world's exports, with places for more: `{imports}`, `{memory}`, `{describe}` and `{more}`.
/// Its `describe` returns the list at 16: pointer 64, length as given.
const WORLD: &str = r#"(module
  {imports}
  {memory}
  (func $call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func $bytes (result i32) unreachable)
  (func $load (param i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func $check (param i32 i32 i32 i32) (result i32) unreachable)
  (func $post (param i32))
  (func $realloc (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func $describe (result i32) {describe})
  (export "granary:grain/handler@0.1.0#describe" (func $describe))
  (export "granary:grain/handler@0.1.0#call" (func $call))
  (export "granary:grain/handler@0.1.0#save" (func $bytes))
  (export "granary:grain/handler@0.1.0#load" (func $load))
  (export "granary:grain/handler@0.1.0#check" (func $check))
  (export "cabi_post_granary:grain/handler@0.1.0#describe" (func $post))
  (export "cabi_post_granary:grain/handler@0.1.0#call" (func $post))
  (export "cabi_post_granary:grain/handler@0.1.0#save" (func $post))
  (export "cabi_post_granary:grain/handler@0.1.0#load" (func $post))
  (export "cabi_post_granary:grain/handler@0.1.0#check" (func $post))
  (export "cabi_realloc" (func $realloc))
  {more}
)"#;

const DESCRIPTION: &str = r#"{"name":"hostile","durability":"committed","methods":[]}"#;

/// The parts of a module; the default is one that can be hosted.
struct Parts<'a> {
    imports: &'a str,
    memory: &'a str,
    describe: &'a str,
    more: &'a str,
    description: &'a str,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Parts {
            imports: "",
            memory: r#"(memory (export "memory") 1)"#,
            describe: "(i32.const 16)",
            more: "",
            description: DESCRIPTION,
        }
    }
}

impl Parts<'_> {
    fn wasm(&self) -> Vec<u8> {
        let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        let length = u32::try_from(self.description.len()).unwrap().to_le_bytes();
        let data = format!(
            r#"(data (i32.const 16) "{}{}") (data (i32.const 64) "{}")"#,
            escape(&64_u32.to_le_bytes()),
            escape(&length),
            escape(self.description.as_bytes())
        );
        let text = WORLD
            .replace("{imports}", self.imports)
            .replace("{memory}", self.memory)
            .replace("{describe}", self.describe)
            .replace("{more}", &format!("{}\n{data}", self.more));
        wat::parse_str(&text).unwrap()
    }
}

fn is_unknown(host: &Host) {
    let mut client = host.client();
    client.fetch("/v1/modules/hostile").problem(404, "unknown_type");
    client.call("hostile/a/get", "").problem(404, "unknown_type");
}

/// The upload is refused as a bad module, in words that name what is wrong.
#[track_caller]
fn refused(host: &Host, wasm: &[u8], named: &[&str]) {
    let problem = host.client().deploy("hostile", wasm).problem(422, "bad_module");
    let detail = problem["detail"].as_str().unwrap();
    for name in named {
        assert!(detail.contains(name), "`{name}` is not named: {detail}");
    }
    is_unknown(host);
}

#[test]
fn the_template_itself_can_be_hosted() {
    let host = Host::start();
    host.client().deploy("hostile", &Parts::default().wasm()).expect(201);
}

#[test]
fn what_is_no_core_module_is_refused() {
    let host = Host::start();
    refused(&host, b"hello, world", &["WebAssembly"]);
    refused(&host, b"", &["wasm"]);
    let counter = built::module_bytes("counter");
    refused(&host, &counter[..counter.len() / 2], &[]);
    refused(
        &host,
        &wat::parse_str("(component)").unwrap(),
        &["component", "wasm32-wasip1"],
    );
    refused(&host, &wat::parse_str("(module)").unwrap(), &["memory"]);
    let no_world = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    refused(&host, &no_world, &["granary:grain/handler"]);
}

#[test]
fn unknown_imports_are_named() {
    let host = Host::start();
    let imports = r#"(import "env" "mystery" (func (param i32)))"#;
    refused(
        &host,
        &Parts {
            imports,
            ..Parts::default()
        }
        .wasm(),
        &["env", "mystery"],
    );
    let imports = r#"(import "granary:grain/calls@0.2.0" "invoke" (func))"#;
    refused(
        &host,
        &Parts {
            imports,
            ..Parts::default()
        }
        .wasm(),
        &["granary:grain/calls@0.2.0"],
    );
    let imports = r#"(import "wasi_snapshot_preview1" "sock_dial" (func (result i32)))"#;
    refused(
        &host,
        &Parts {
            imports,
            ..Parts::default()
        }
        .wasm(),
        &["sock_dial"],
    );
}

#[test]
fn memories_that_an_image_cannot_hold_are_refused() {
    let host = Host::start();
    let with_memory = |memory: &str, named: &[&str]| {
        refused(
            &host,
            &Parts {
                memory,
                ..Parts::default()
            }
            .wasm(),
            named,
        )
    };
    with_memory(r#"(memory (export "memory") 1) (memory 1)"#, &["memor"]);
    with_memory(r#"(memory (export "memory") 1 2 shared)"#, &["shared"]);
    with_memory(r#"(memory (export "memory") 2000)"#, &["memory"]);
}

#[test]
fn state_outside_of_the_image_is_refused_with_its_place() {
    let host = Host::start();
    let with = |more: &str, named: &[&str]| {
        refused(
            &host,
            &Parts {
                more,
                ..Parts::default()
            }
            .wasm(),
            named,
        )
    };
    with(
        "(table $t 1 funcref) (func $sneak (table.set $t (i32.const 0) (ref.null func)))",
        &["sneak", "table.set"],
    );
    with(
        "(table $t 1 funcref) (func $sneak (drop (table.grow $t (ref.null func) (i32.const 1))))",
        &["sneak", "table.grow"],
    );
    with(
        r#"(data $d "x") (func $sneak (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))"#,
        &["sneak", "memory.init"],
    );
    with(r#"(data $d "x")"#, &["passive"]);
    with(
        r#"(global $g (mut externref) (ref.null extern))"#,
        &["`g`", "reference"],
    );
}

#[test]
fn a_bad_description_is_refused() {
    let host = Host::start();
    let describing = |description: &str| {
        refused(
            &host,
            &Parts {
                description,
                ..Parts::default()
            }
            .wasm(),
            &["describe"],
        )
    };
    describing("not JSON");
    describing("{}");
    let described = |describe: &str| {
        Parts {
            describe,
            ..Parts::default()
        }
        .wasm()
    };
    refused(&host, &described("unreachable"), &["describe"]);
    refused(&host, &described("(i32.const 2000000000)"), &["describe"]);
    // It's stopped: the compiler's process would go on for ever otherwise, and this test with it.
    refused(
        &host,
        &described("(loop $forever (br $forever)) unreachable"),
        &["describe"],
    );
}

#[test]
fn too_large_modules_are_refused() {
    let host = Host::start();
    let mut wasm = built::module_bytes("counter");
    // A custom section that fills it up beyond 16 MiB.
    let filling = 17 << 20;
    wasm.push(0);
    let mut length = filling as u32 + 5;
    while length >= 0x80 {
        wasm.push(length as u8 | 0x80);
        length >>= 7;
    }
    wasm.push(length as u8);
    wasm.extend(b"\x04fill");
    wasm.resize(wasm.len() + filling, 0);
    let request = Request::new("PUT", "/v1/modules/hostile").body(wasm);
    // The host may close the connection while the client still sends.
    if let Ok(reply) = host.client().try_send(&request) {
        reply.problem(413, "too_large");
    }
    is_unknown(&host);
}

#[test]
fn names_of_types_are_checked() {
    let host = Host::start();
    for name in ["Counter", "1counter", "a_b", &"a".repeat(64)] {
        let reply = host.client().deploy(name, &built::module_bytes("counter"));
        reply.problem(400, "bad_arguments");
    }
}

#[test]
fn a_refused_upload_leaves_the_current_revision_alone() {
    let host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    client.call("counter/a/add", "[5]").expect(200);
    client.deploy("counter", b"hello").problem(422, "bad_module");
    assert_eq!(client.fetch("/v1/modules/counter").value()["revision"], 1);
    assert_eq!(client.fetch("/v1/grains/counter/a/get").integer(), 5);
}

//! What the compiler says of a mistake in a grain's source: one error for each, in words for people. The compiler is run on each source.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The SDK that this test was built with: the newest beside it.
fn sdk() -> PathBuf {
    let files = std::fs::read_dir(deps()).unwrap().map(|file| file.unwrap().path());
    let is_sdk = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libgranary_sdk-") && name.ends_with(".rlib")
    };
    let newest = files
        .filter(is_sdk)
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("cargo builds the SDK before its tests")
}

fn deps() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().map(Path::to_owned).unwrap()
}

/// The errors' messages.
fn errors(source: &str) -> Vec<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compiler = Command::new(rustc)
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--crate-name",
            "mistaken",
            "--emit",
            "metadata",
        ])
        .args([
            "--error-format",
            "json",
            "--cap-lints",
            "allow",
            "--out-dir",
            env!("CARGO_TARGET_TMPDIR"),
        ])
        .arg("-L")
        .arg(format!("dependency={}", deps().display()))
        .arg("--extern")
        .arg(format!("granary_sdk={}", sdk().display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tests run where rustc is");
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = compiler.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let errors = messages.filter(|message| message["level"] == "error");
    let texts = errors.filter_map(|error| error["message"].as_str().map(str::to_owned));
    texts.filter(|text| !text.starts_with("aborting due to")).collect()
}

/// A whole module whose grain has this among its functions, and somebody who calls the grain.
fn module(functions: &str) -> String {
    module_with("", functions)
}

fn module_with(items: &str, functions: &str) -> String {
    format!(
        "use granary_sdk::prelude::*;
        {items}
        #[derive(Default, Serialize, Deserialize)]
        pub struct Cart {{ n: i64 }}
        #[grain]
        impl Cart {{
            {functions}
            pub fn count(&mut self) -> i64 {{ self.n }}
        }}
        granary_sdk::export!(Cart);
        pub fn ask(ctx: &Context) -> Result<i64, CallError> {{ ctx.grain::<Cart>(\"a\").count() }}"
    )
}

#[track_caller]
fn one(source: &str, expect: &str) {
    let errors = errors(source);
    assert!(errors.len() == 1 && errors[0].contains(expect), "{source}\n{errors:#?}");
}

#[test]
fn a_grain_without_a_mistake_compiles() {
    let functions = "
        pub fn into(&mut self, n: i64) -> i64 { n }
        pub fn try_into(&mut self) -> Result<i64, String> { Ok(self.n) }
        pub fn from(&mut self, n: Maybe) -> Option<i64> { n }
        pub fn clone(self: &mut Self) {}";
    let items = "
        type Maybe = Option<i64>;
        pub fn convert(ctx: &Context) -> Result<i64, CallError> {
            ctx.grain::<Cart>(\"a\").clone()?;
            let [a] = ctx.all([ctx.prepare::<Cart>(\"b\").into(5)]);
            Ok(a? + ctx.grain::<Cart>(\"a\").into(5)? + ctx.grain::<Cart>(\"a\").try_into()?)
        }";
    assert_eq!(errors(&module_with(items, functions)), [""; 0]);
}

#[test]
fn a_mistake_in_a_signature_is_the_only_error() {
    for (function, expect) in [
        ("pub fn say(&mut self, text: &str) {}", "an argument is owned"),
        ("pub fn say(&mut self, text: Option<&str>) {}", "an argument is owned"),
        ("pub fn say(&mut self, text: Vec<&str>) {}", "an argument is owned"),
        (
            "#[read] pub fn name(&self) -> &str { \"\" }",
            "a method's value is owned",
        ),
        ("pub async fn say(&mut self) {}", "no `async fn`"),
        (
            "pub fn say<'a>(&mut self, text: &'a str) {}",
            "no type or lifetime parameters",
        ),
        ("pub fn say(&mut self, ctx: Context) {}", "`ctx: &Context`"),
        ("pub fn say(&mut self, ctx: &mut Context) {}", "`ctx: &Context`"),
        ("pub fn say(self) {}", "`&mut self`"),
        ("#[read] pub fn say(&mut self) {}", "`#[read]` method takes `&self`"),
        ("pub fn say(&mut self, n: i64, _n: i64) {}", "two arguments are `n`"),
        (
            "fn activate() -> Self { Cart { n: 1 } }",
            "`fn activate(ctx: &Context) -> Self`",
        ),
    ] {
        one(&module(function), expect);
    }
}

#[test]
fn a_mistake_in_the_options_is_the_only_error() {
    let source = module("").replace("#[grain]", "#[grain(durability = \"eventual\")]");
    one(&source, "durability is");
}

#[test]
fn a_second_block_of_a_type_is_one_error() {
    let second = "#[grain] impl Cart { pub fn add(&mut self, n: i64) -> i64 { n } }";
    // Which of the two a caller means can't be known, either.
    let source = module_with(second, "").replace("ctx.grain::<Cart>(\"a\").count()", "Ok(0)");
    one(
        &source,
        "conflicting implementations of trait `granary_sdk::Grain` for type `Cart`",
    );
}

#[test]
fn a_type_that_can_not_be_sent_is_one_error_where_it_stands() {
    for derived in [
        "",
        "#[derive(Serialize, Deserialize)]",
        "#[derive(Deserialize, JsonSchema)]",
        "#[derive(Serialize, JsonSchema)]",
    ] {
        type_is_refused(&format!("{derived} pub struct Item {{ n: i64 }}"));
    }
}

#[track_caller]
fn type_is_refused(item: &str) {
    let expect = "`Item` can't be an argument or a result of a grain's method";
    one(&module_with(item, "pub fn put(&mut self, item: Item) {}"), expect);
    one(
        &module_with(item, "pub fn take(&mut self) -> Item { Item { n: 1 } }"),
        expect,
    );
    one(
        &module_with(
            item,
            "pub fn take(&mut self) -> Result<Item, String> { Ok(Item { n: 1 }) }",
        ),
        expect,
    );
}

#[test]
fn a_result_under_another_name_is_refused() {
    let alias = "type Res<T> = Result<T, String>;";
    one(
        &module_with(alias, "pub fn take(&mut self) -> Res<i64> { Err(\"no\".to_owned()) }"),
        "a method's `Result<T, E>` is written out",
    );
}

#[test]
fn a_block_that_nobody_can_call_is_one_error() {
    let source = module("").replace("pub fn count", "fn count").replace(".count()", "");
    let source = source.replace(
        "pub fn ask(ctx: &Context) -> Result<i64, CallError> { ctx.grain::<Cart>(\"a\") }",
        "",
    );
    one(&source, "nobody can call this grain");
}

//! What the macros write, as golden files, and what they refuse, with the messages that a person gets.
//!
//! `GRANARY_WRITE_GOLDEN=1 cargo test -p granary-sdk-macros` writes the files anew; read the difference.

use proc_macro2::TokenStream;

use crate::{delegate, error, expand};

fn tokens(source: &str) -> TokenStream {
    source.parse().expect("the test's source is Rust")
}

/// Compares what a macro writes with a golden file.
fn golden(name: &str, written: TokenStream) {
    let file = syn::parse2(written).expect("the macro wrote Rust");
    let written = prettyplease::unparse(&file);
    let golden = format!("{}/tests/golden/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GRANARY_WRITE_GOLDEN").is_some() {
        std::fs::write(&golden, &written).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(written, expected, "{golden}");
}

/// The messages of the `compile_error!`s that a macro wrote.
fn mistakes(written: TokenStream) -> Vec<String> {
    let file: syn::File = syn::parse2(written).expect("mistakes leave Rust behind");
    let messages = file.items.into_iter().filter_map(|item| match item {
        syn::Item::Macro(item) => {
            assert!(
                item.mac
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == "compile_error")
            );
            let message: syn::LitStr = item.mac.parse_body().expect("a text");
            Some(message.value())
        }
        _ => None,
    });
    messages.collect()
}

/// The one message for a `#[grain]` block with this content.
fn refuses_item(item: &str, expect: &str) {
    refuses("", &format!("impl Counter {{ {item} }}"), expect);
}

fn refuses(options: &str, block: &str, expect: &str) {
    let found = mistakes(expand::grain(tokens(options), tokens(block)));
    assert_eq!(found, [expect], "{block}");
}

#[test]
fn a_grain_expands() {
    let block = r#"
        /// One counter for each key.
        impl Counter {
            /// Adds `n` and returns the new value.
            pub fn add(&mut self, n: i64, note: Option<String>) -> i64 {
                self.value += n;
                self.value
            }

            #[read]
            pub fn get(&self) -> i64 {
                self.value
            }

            pub fn mirror(&mut self, ctx: &Context, to: String) -> Result<Self, CallError> {
                todo!()
            }

            fn helper(&self) {}
        }
    "#;
    golden("grain", expand::grain(TokenStream::new(), tokens(block)));
}

#[test]
fn a_grain_with_every_option_expands() {
    let block = r#"
        impl Room {
            fn activate(ctx: &Context) -> Result<Self, RoomError> {
                Ok(Self)
            }

            #[check]
            fn is_sound(&self) -> Result<(), String> {
                Ok(())
            }

            #[cfg(feature = "chat")]
            pub fn say(&mut self) {}
        }
    "#;
    let options = r#"name = "chat-room", durability = "volatile", placement = "balanced", version = 7"#;
    golden("options", expand::grain(tokens(options), tokens(block)));
}

#[test]
fn migrations_expand() {
    let block = "impl Room { pub fn say(&mut self) {} }";
    golden(
        "migrate",
        expand::grain(tokens("version = 2, migrate = Self::migrate"), tokens(block)),
    );
    golden(
        "migrate_each",
        expand::grain(
            tokens("version = 3, migrate(1 => from_v1, 2 => v2::Room::upgrade)"),
            tokens(block),
        ),
    );
}

#[test]
fn migrations_have_versions() {
    let form = "write `migrate = Self::migrate` for a function that takes an older state, or \
                `migrate(1 => from_v1, 2 => from_v2)` for one a version";
    for wrong in [
        "migrate",
        "migrate = 1",
        "migrate()",
        "migrate(from_v1)",
        "migrate(1 = from_v1)",
        "migrate(1 => 2)",
    ] {
        refuses(&format!("version = 2, {wrong}"), "impl Counter {}", form);
    }
    refuses(
        "migrate = Self::migrate",
        "impl Counter {}",
        "`migrate` wants `version = N`, too: a number above that of the states that are to be migrated",
    );
    refuses(
        "version = 2, migrate(1 => a, 2 => b)",
        "impl Counter {}",
        "a state of the current version is read as it is and needs no migration",
    );
    refuses(
        "migrate(1 => a, 1 => b), version = 2",
        "impl Counter {}",
        "this version has a migration already",
    );
}

#[test]
fn derives_expand() {
    let item = tokens(
        r#"
        /// A pair.
        #[serde(default)]
        pub struct Pair<'a, T: Copy = u8> {
            #[serde(rename = "l")]
            left: &'a str,
            #[other]
            right: T,
        }
    "#,
    );
    golden("serialize", delegate::derive(item.clone(), delegate::serialize));
    golden("deserialize", delegate::derive(item.clone(), delegate::deserialize));
    golden("json_schema", delegate::derive(item, delegate::json_schema));
}

#[test]
fn a_grain_error_expands() {
    let item = r#"
        #[status(409)]
        pub enum BankError {
            /// The account holds
            /// less than that.
            ///
            /// More about it.
            InsufficientFunds { balance: u64 },
            #[status(400)]
            InvalidAmount,
            #[from]
            Call(CallError),
        }
    "#;
    golden("grain_error", error::derive(tokens(item)));
}

#[test]
fn a_read_method_cannot_change_the_state() {
    refuses_item(
        "#[read] pub fn get(&mut self) -> i64 { 0 }",
        "a `#[read]` method takes `&self`: what it changed would not be committed. Take `&self`, or drop `#[read]`",
    );
}

#[test]
fn read_belongs_on_methods() {
    let message = "`#[read]` belongs on a `pub fn` that takes `&self`: only those are methods of a grain";
    refuses_item("#[read] fn get(&self) -> i64 { 0 }", message);
    refuses_item("#[read] pub fn get() -> i64 { 0 }", message);
    let stray = mistakes(expand::stray_read(tokens("fn get() {}")));
    assert_eq!(stray, ["`#[read]` belongs on a method inside a `#[grain]` block"]);
}

#[test]
fn arguments_travel() {
    refuses_item(
        "pub fn say(&mut self, text: &str) {}",
        "an argument is owned, because it travels: `String` instead of `&str`, `Vec<T>` instead of `&[T]`",
    );
    refuses_item(
        "#[read] pub fn name(&self) -> &str { \"\" }",
        "a method's value is owned, because it travels: `String` instead of `&str`, `Vec<T>` instead of `&[T]`",
    );
    for borrowing in ["Option<&str>", "Vec<&str>", "(u8, &[u8])", "[&str; 2]", "Cow<'_, str>"] {
        refuses_item(
            &format!("pub fn say(&mut self, text: {borrowing}) {{}}"),
            "an argument is owned, because it travels: `String` instead of `&str`, `Vec<T>` instead of `&[T]`",
        );
    }
    for unnamed in ["impl Into<String>", "Vec<impl Into<String>>", "Box<dyn Any>"] {
        refuses_item(
            &format!("pub fn say(&mut self, text: {unnamed}) {{}}"),
            "an argument has a type that callers can name",
        );
    }
    refuses_item(
        "pub fn say(&mut self) -> Result<i64, &str> { Ok(0) }",
        "a method's error is owned, because it travels: `String`, or `&'static str`",
    );
    assert_eq!(
        mistakes(expand::grain(
            tokens(""),
            tokens("impl C { pub fn a(&self, t: Cow<'static, str>) -> Result<u8, &'static str> { Ok(0) } }")
        )),
        [""; 0]
    );
    refuses_item(
        "pub fn say(&mut self, (a, b): (i64, i64)) {}",
        "an argument wants a plain name: it's its name for callers",
    );
    refuses_item(
        "pub fn say(&mut self, _: i64) {}",
        "an argument wants a plain name: it's its name for callers",
    );
    let params: Vec<String> = (0..17).map(|n| format!("p{n}: i64")).collect();
    refuses_item(
        &format!("pub fn say(&mut self, {}) {{}}", params.join(", ")),
        "a method takes at most 16 arguments: put them into a struct",
    );
}

#[test]
fn two_arguments_with_one_name_for_callers_are_refused() {
    refuses_item(
        "pub fn add(&mut self, n: i64, _n: i64) {}",
        "two arguments are `n` for callers, who see no leading `_`: give one another name",
    );
}

#[test]
fn a_block_that_nobody_can_call_is_refused() {
    let message = "nobody can call this grain: its methods are the block's functions that are `pub` and take `self`";
    refuses("", "impl Counter {}", message);
    refuses_item("fn add(&mut self) {} pub fn make() -> Self { Self }", message);
}

#[test]
fn a_receiver_may_be_written_out() {
    let block = "impl C { pub fn a(self: &mut Self) {} #[read] pub fn b(self: &Self) {} }";
    assert_eq!(mistakes(expand::grain(tokens(""), tokens(block))), [""; 0]);
    for receiver in ["self: Box<Self>", "self: Rc<Self>", "mut self"] {
        refuses_item(
            &format!("pub fn say({receiver}) {{}}"),
            "a grain's method takes `&mut self` or, with `#[read]`, `&self`: the grain lives on after the call",
        );
    }
    refuses_item(
        "#[read] pub fn get(self: &mut Self) {}",
        "a `#[read]` method takes `&self`: what it changed would not be committed. Take `&self`, or drop `#[read]`",
    );
}

#[test]
fn a_mistake_in_one_method_leaves_a_grain_with_the_others() {
    let written = expand::grain(
        tokens(""),
        tokens("impl C { pub fn a(&mut self, t: &str) {} pub fn b(&mut self) {} }"),
    );
    let written = written.to_string();
    assert!(
        written.contains("Grain for C") && written.contains("pub fn b (& self ,)"),
        "{written}"
    );
}

#[test]
fn the_context_comes_first() {
    for context in ["Context", "&mut Context", "granary_sdk::Context"] {
        refuses_item(
            &format!("pub fn say(&mut self, ctx: {context}) {{}}"),
            "the context is taken as `ctx: &Context`, right after `self`",
        );
    }
    refuses_item(
        "pub fn say(&mut self, text: String, ctx: &Context) {}",
        "the context comes first, right after `self`, and once",
    );
}

#[test]
fn methods_are_plain_functions() {
    refuses_item(
        "pub async fn say(&mut self) {}",
        "a grain's method is no `async fn`: a call of another grain suspends the whole turn by itself",
    );
    refuses_item(
        "pub fn say<T>(&mut self, value: T) {}",
        "a grain's method has no type or lifetime parameters: its arguments come as JSON",
    );
    refuses_item(
        "pub unsafe fn say(&mut self) {}",
        "a grain's method is safe to call: anybody may",
    );
    refuses_item(
        "pub fn say(self) {}",
        "a grain's method takes `&mut self` or, with `#[read]`, `&self`: the grain lives on after the call",
    );
    refuses_item(
        "pub fn say(&mut self) -> io::Result<i64> { Ok(0) }",
        "write both types of `Result<T, E>`: callers want to know the error's",
    );
}

#[test]
fn activate_and_check_have_one_form() {
    let activate = "the first state is made by `fn activate(ctx: &Context) -> Self`, or `-> Result<Self, E>`";
    refuses_item("fn activate() -> Self { Self }", activate);
    refuses_item("fn activate(ctx: &Context) {}", activate);
    let check = "`#[check]` belongs on `fn(&self) -> Result<(), E>`";
    refuses_item("#[check] fn sound(&mut self) -> Result<(), String> { Ok(()) }", check);
    refuses_item("#[check] fn sound(&self) -> bool { true }", check);
    refuses_item(
        "#[check] fn a(&self) -> Result<(), String> { Ok(()) } #[check] fn b(&self) -> Result<(), String> { Ok(()) }",
        "a grain has one `#[check]`",
    );
}

#[test]
fn a_grain_is_one_known_type() {
    refuses(
        "",
        "impl Clone for Counter {}",
        "`#[grain]` belongs on the type's own `impl` block, not on a trait's",
    );
    refuses(
        "",
        "impl<T> Counter<T> {}",
        "a grain type has no type parameters: a module holds one type, fully known",
    );
    refuses(
        "",
        "impl other::Counter {}",
        "`#[grain]` belongs into the type's own module: `impl Counter`, without a path or parameters",
    );
    refuses("", "struct Counter;", "`#[grain]` belongs on an `impl` block");
}

#[test]
fn options_are_known_and_right() {
    let unknown = "`#[grain]` knows `name = \"...\"`, `durability = \"...\"`, `placement = \"...\"`, `version = N` and \
                   `migrate = path`";
    refuses("colour = \"red\"", "impl Counter {}", unknown);
    refuses(
        "durability = \"eventual\"",
        "impl Counter {}",
        "durability is \"committed\" (a reply is durable), \"relaxed\" (durable within 100 ms) or \
         \"volatile\" (memory only)",
    );
    refuses(
        "placement = \"nearest\"",
        "impl Counter {}",
        "placement is \"primary\" (the first host that keeps the grain's copies), \"prefer-local\" (where the first call comes \
         in), \"random\" or \"balanced\" (the less loaded of two)",
    );
    let name = "a grain type's name starts with a letter a-z, goes on with letters a-z, digits and `-`, \
                and has at most 63 of them";
    for wrong in ["", "Counter", "1st", "a_b", "-a", &"a".repeat(64)] {
        refuses(&format!("name = {wrong:?}"), "impl Counter {}", name);
    }
    refuses(
        "version = 4294967296",
        "impl Counter {}",
        "a state's version is a whole number from 0 to 4294967295",
    );
    refuses(
        "version = 1, version = 2",
        "impl Counter {}",
        "`version` is given twice",
    );
    refuses(
        "",
        "impl Zähler {}",
        "`zähler` is no grain type's name: a grain type's name starts with a letter a-z, goes on with letters a-z, \
         digits and `-`, and has at most 63 of them. Say `#[grain(name = \"...\")]`",
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let block = "impl Counter { #[read] pub fn a(&mut self) {} pub fn b(&mut self, t: &str) {} }";
    let found = mistakes(expand::grain(TokenStream::new(), tokens(block)));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn errors_have_statuses_of_http() {
    for wrong in ["399", "600", "70000", "\"409\""] {
        let item = format!("enum E {{ #[status({wrong})] A }}");
        let found = mistakes(error::derive(tokens(&item)));
        assert_eq!(found, ["`#[status(N)]` wants an HTTP status from 400 to 599"]);
    }
}

#[test]
fn from_wraps_one_value() {
    let message = "`#[from]` belongs on a variant that holds one value: `Call(CallError)`";
    for wrong in ["A", "A { inner: CallError }", "A(CallError, u8)"] {
        let item = format!("enum E {{ #[from] {wrong} }}");
        assert_eq!(mistakes(error::derive(tokens(&item))), [message]);
    }
    let both = mistakes(error::derive(tokens("enum E { #[from] #[status(409)] A(CallError) }")));
    assert_eq!(
        both,
        ["a `#[from]` variant is passed on as what it holds and has no status of its own"]
    );
}

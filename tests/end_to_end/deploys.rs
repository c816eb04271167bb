//! `granary deploy`: under which name, and what a host's refusal looks like.

use std::fs::{self, File};

use granary_tests::cli::granary;
use granary_tests::{Host, built};

#[test]
fn a_type_takes_the_module_s_own_name_or_the_one_that_is_given() {
    let host = Host::start();
    let file = host.scratch().join("chat_server.wasm");
    fs::copy(built::module("probe-relaxed"), &file).unwrap();
    let deployed = granary(&host, &["deploy", file.to_str().unwrap()]);
    assert!(
        deployed.ok().starts_with("probe-relaxed revision 1"),
        "{}",
        deployed.stdout
    );
    assert!(deployed.stderr.contains("`chat-server`"), "{}", deployed.stderr);
    assert_eq!(granary(&host, &["call", "probe-relaxed/a", "add", "n=1"]).ok(), "1");

    let counter = built::module("counter");
    let deployed = granary(&host, &["deploy", counter.to_str().unwrap(), "--type", "clicks"]);
    assert!(deployed.ok().starts_with("clicks revision 1"), "{}", deployed.stdout);
    assert!(
        deployed.stderr.contains("calls itself `counter`"),
        "{}",
        deployed.stderr
    );
    assert_eq!(granary(&host, &["call", "clicks/a", "add", "n=2"]).ok(), "2");

    let deployed = granary(&host, &["deploy", counter.to_str().unwrap()]);
    assert_eq!((deployed.code, deployed.stderr.as_str()), (0, ""));
}

#[test]
fn a_module_without_a_name_of_the_sdk_s_describes_itself() {
    let host = Host::start();
    let mut module = built::module_bytes("counter");
    let name = b"granary:grain/type";
    let at = module.windows(name.len()).position(|window| window == name).unwrap();
    // Another section's name: as in a module that was made without the SDK.
    module[at] = b'G';
    let file = host.scratch().join("chat_server.wasm");
    fs::write(&file, module).unwrap();
    let deployed = granary(&host, &["deploy", file.to_str().unwrap()]);
    assert!(deployed.ok().starts_with("counter revision 1"), "{}", deployed.stdout);
}

#[test]
fn a_module_that_is_too_long_is_refused_in_the_host_s_words() {
    let host = Host::start();
    let file = host.scratch().join("long.wasm");
    File::create(&file).unwrap().set_len(39 << 20).unwrap();
    let refused = granary(&host, &["deploy", file.to_str().unwrap()]);
    refused.expect(1);
    let said = &refused.stderr;
    assert!(
        said.contains("the module is larger than the limit of") && said.contains("too_large"),
        "{said}"
    );
}

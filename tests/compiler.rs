//! Compiling takes place in a process of its own: calls go on meanwhile, it ends with its limits and with its host, and what it made is
//! used again.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[allow(dead_code, reason = "the guests of another test, of which this needs some")]
#[path = "hostile_guests/raw.rs"]
mod raw;

use std::fs;
use std::path::{Path, PathBuf};

use granary_tests::wait::{until, until_equal};
use granary_tests::{Host, Request};

use raw::{Raw, compile_bomb};

/// The processes that this one has started, also those that nobody has asked how they ended.
fn children(of: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_there(pid: u32) -> bool {
    // A process that has ended and whose new parent hasn't noticed isn't running.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn compiler_of(host: u32) -> u32 {
    until("a compiler runs", || children(host).first().copied())
}

fn with_variables(mut host: Host, variables: &[(&'static str, &'static str)]) -> Host {
    for (name, value) in variables {
        host.set_variable(name, value);
    }
    host.start_again();
    host
}

#[test]
fn calls_go_on_while_a_module_compiles_and_its_compiler_is_gone_afterwards() {
    // It has the honest guest's machine code: only the module without an end is compiled, within a deadline that is short.
    let host = with_variables(Host::prepared(&[]), &[("GRANARY_COMPILE_DEADLINE", "3s")]);
    host.deploy("counter");
    assert!(children(host.pid()).is_empty());
    let mut deployer = host.client();
    let deploy = std::thread::spawn(move || {
        let problem = deployer.deploy("raw", &compile_bomb()).problem(422, "bad_module");
        problem["detail"].as_str().unwrap().to_owned()
    });
    let compiler = compiler_of(host.pid());
    let mut client = host.client();
    let mut calls = 0;
    while is_there(compiler) && !deploy.is_finished() {
        calls += 1;
        assert_eq!(client.call("counter/a/add", "[1]").integer(), calls);
    }
    assert!(calls > 10, "{calls} calls while the compiler ran");
    let detail = deploy.join().unwrap();
    assert!(detail.contains("longer than 3s"), "{detail}");
    until_equal("no compiler is left, not even a zombie", vec![], || {
        children(host.pid())
    });
    client.fetch("/v1/modules/raw").problem(404, "unknown_type");
}

#[test]
fn a_compiler_takes_no_more_memory_than_it_may() {
    // The other limit is out of the way: on a busy machine it would come first.
    let limits = [("GRANARY_COMPILE_MEMORY", "8MiB"), ("GRANARY_COMPILE_DEADLINE", "10m")];
    let host = with_variables(Host::prepared(&[]).compiling(), &limits);
    // On top of what the program itself and a guest's memory take.
    let problem = host.client().deploy("raw", &compile_bomb()).problem(422, "bad_module");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("more memory than 8 MiB"), "{detail}");
    until_equal("no compiler is left", vec![], || children(host.pid()));
    // What honest guests need is there.
    host.deploy("counter");
    assert_eq!(host.client().call("counter/a/add", "[2]").integer(), 2);
}

#[test]
fn a_host_that_is_killed_leaves_no_compiler_behind() {
    let mut host = Host::start();
    let mut deployer = host.client();
    let deploy = std::thread::spawn(move || {
        let request = Request::new("PUT", "/v1/modules/raw").body(compile_bomb());
        deployer.try_send(&request).is_err()
    });
    let compiler = compiler_of(host.pid());
    host.kill();
    until_equal("the compiler is gone", false, || is_there(compiler));
    assert!(deploy.join().unwrap(), "nobody answers");
}

#[test]
fn a_host_that_stops_waits_for_no_compiler() {
    // It would go on for long.
    let mut host = with_variables(Host::prepared(&[]), &[("GRANARY_COMPILE_DEADLINE", "10m")]);
    let mut deployer = host.client();
    let deploy = std::thread::spawn(move || {
        let request = Request::new("PUT", "/v1/modules/raw").body(compile_bomb());
        drop(deployer.try_send(&request));
    });
    let compiler = compiler_of(host.pid());
    assert!(host.stop().success());
    until_equal("the compiler is gone", false, || is_there(compiler));
    deploy.join().unwrap();
}

/// The files of compiled code.
fn compiled(host: &Host) -> Vec<PathBuf> {
    let files = fs::read_dir(host.data().join("compiled")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "code"));
    files
}

fn inode(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).unwrap().ino()
}

#[test]
fn a_restart_compiles_nothing_unless_what_was_kept_is_damaged() {
    let mut host = Host::prepared(&[]).compiling();
    host.start_again();
    host.deploy("counter");
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 1);
    let file = compiled(&host).remove(0);
    let before = inode(&file);
    host.stop();
    // No compiler could do anything in a millisecond.
    host.set_variable("GRANARY_COMPILE_DEADLINE", "1ms");
    host.start_again();
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 2);
    let refused = host.client().deploy("raw", &Raw::default().wasm());
    refused.problem(422, "bad_module");
    assert_eq!((compiled(&host), inode(&file)), (vec![file.clone()], before));
    host.stop();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    host.set_variable("GRANARY_COMPILE_DEADLINE", "60s");
    host.start_again();
    assert_eq!(host.client().call("counter/a/add", "[1]").integer(), 3);
    assert!(fs::read(&file).unwrap() != bytes, "it was compiled anew");
    host.has_logged("damaged");
}

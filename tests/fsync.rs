//! A reply leaves after its commit is on the disk: shown by the order of the host's own system calls, since a kill alone
//! proves nothing (the page cache survives it).
//!
//! For each call: the request is read, then the log is written, then a sync of the log begins and returns, then the reply
//! is written. Under load one sync serves many replies.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; what it prints is shown then"
)]

use std::fs;

use granary_tests::trace::{self, Syscall};
use granary_tests::{Client, Host, Request, tool, wait};

const SEQUENTIAL_CALLS: usize = 50;
const CLIENTS: usize = 64;

/// A host under strace, and where the trace is.
fn traced_host(more: &[&str], fault: Option<&'static str>) -> (Host, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap().keep();
    let path = folder.join("trace");
    let calls = "trace=fsync,fdatasync,sync_file_range,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,read,readv,recvfrom,recvmsg";
    // With seccomp only the calls in question stop the host.
    let mut words = vec![
        "strace",
        "-f",
        "--seccomp-bpf",
        "-yy",
        "-s",
        "32",
        "-o",
        path.to_str().unwrap(),
        "-e",
        calls,
    ];
    words.extend(more);
    let mut host = Host::prepared(&[]).sabotaged(fault).wrapped(&words);
    host.start_again();
    (host, path)
}

/// A call of the system is written down when it returns. The client can have a reply before that, but not an answer to what
/// it asks next: a connection's task asks the system one thing at a time.
fn see_the_last_reply_written(client: &mut Client) {
    client.fetch("/v2").problem(404, "not_found");
}

fn read_trace(path: &std::path::Path) -> Vec<Syscall> {
    let calls = trace::read(&String::from_utf8_lossy(&fs::read(path).unwrap()));
    let _ = fs::remove_dir_all(path.parent().unwrap());
    calls
}

fn is_socket(call: &Syscall) -> bool {
    call.target.starts_with("TCP:")
}

/// A segment that takes commits; one that is being prepared for that is called `.seg.new`.
fn is_log(call: &Syscall) -> bool {
    call.target.contains("/log/") && call.target.ends_with(".seg")
}

fn is_log_sync(call: &Syscall) -> bool {
    call.name == "fdatasync" && call.result == 0 && is_log(call)
}

fn is_log_write(call: &Syscall) -> bool {
    ["write", "writev", "pwrite64", "pwritev", "pwritev2"].contains(&call.name.as_str()) && is_log(call)
}

/// A read from a socket that brought the head of such a request.
fn is_request(call: &Syscall, method: &str) -> bool {
    is_socket(call) && call.result > 0 && call.arguments.contains(&format!("\"{method} /v1/grains/"))
}

fn is_reply(call: &Syscall) -> bool {
    is_socket(call) && call.arguments.contains("\"HTTP/1.1 200")
}

/// Follows each request to its reply and looks for write and sync of the log in between. `Err` names the first call
/// that was answered without.
fn each_reply_waits_for_its_sync(calls: &[Syscall]) -> Result<usize, String> {
    let requests: Vec<&Syscall> = calls.iter().filter(|call| is_request(call, "POST")).collect();
    for (index, request) in requests.iter().enumerate() {
        let reply = calls
            .iter()
            .find(|call| is_reply(call) && call.target == request.target && call.began > request.ended);
        let reply = reply.ok_or(format!("request {index} got no reply"))?;
        let written = calls
            .iter()
            .find(|call| is_log_write(call) && call.began > request.ended && call.ended < reply.began)
            .ok_or(format!("reply {index} left before its commit was written"))?;
        calls
            .iter()
            .find(|call| is_log_sync(call) && call.began > written.ended && call.ended < reply.began)
            .ok_or(format!("reply {index} left before its commit was synced"))?;
    }
    Ok(requests.len())
}

#[test]
fn a_reply_waits_for_the_sync_of_its_commit() {
    if !tool::is_there("a_reply_waits_for_the_sync_of_its_commit", "strace") {
        return;
    }
    let (mut host, path) = traced_host(&[], None);
    host.deploy("counter");
    let mut client = host.client();
    for _ in 0..SEQUENTIAL_CALLS {
        client.call("counter/alice/add", "[1]").expect(200);
    }
    see_the_last_reply_written(&mut client);
    host.kill();
    assert_eq!(each_reply_waits_for_its_sync(&read_trace(&path)), Ok(SEQUENTIAL_CALLS));
}

/// What the test above says of hosts that reply first: one that is told to, one whose syncs do nothing, and one whose
/// grains are `relaxed`.
#[test]
fn a_reply_before_the_sync_is_noticed() {
    if !tool::is_there("a_reply_before_the_sync_is_noticed", "strace") {
        return;
    }
    for (guest, fault) in [
        ("counter", Some("report-before-sync")),
        ("counter", Some("no-sync")),
        ("probe-relaxed", None),
    ] {
        // A slow disk, so that a reply which doesn't wait for it surely comes first.
        let (mut host, path) = traced_host(&["-e", "inject=fdatasync:delay_enter=2000"], fault);
        host.deploy(guest);
        let mut client = host.client();
        for _ in 0..SEQUENTIAL_CALLS {
            client.call(&format!("{guest}/alice/add"), "[1]").expect(200);
        }
        see_the_last_reply_written(&mut client);
        host.kill();
        let said = each_reply_waits_for_its_sync(&read_trace(&path)).expect_err("it does not wait");
        assert!(said.contains("left before its commit"), "{said}");
    }
}

#[test]
fn a_read_syncs_nothing() {
    if !tool::is_there("a_read_syncs_nothing", "strace") {
        return;
    }
    let (mut host, path) = traced_host(&[], None);
    host.deploy("counter");
    let mut client = host.client();
    client.call("counter/alice/add", "[1]").expect(200);
    for _ in 0..SEQUENTIAL_CALLS {
        client.fetch("/v1/grains/counter/alice/get").expect(200);
    }
    see_the_last_reply_written(&mut client);
    host.kill();
    let calls = read_trace(&path);
    let first_read = calls.iter().find(|call| is_request(call, "GET")).unwrap().ended;
    let last_read = calls.iter().rfind(|call| is_request(call, "GET")).unwrap().ended;
    let writes = calls
        .iter()
        .filter(|call| is_log_write(call) && (first_read..last_read).contains(&call.began))
        .count();
    assert_eq!(writes, 0, "reads commit nothing");
}

/// While a sync is under way commits come, and wait. However many, they share the next one.
#[test]
fn under_load_one_sync_serves_many_replies() {
    if !tool::is_there("under_load_one_sync_serves_many_replies", "strace") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let hold = folder.path().join("hold");
    let (mut host, path) = traced_host(&[], Some(format!("held-sync:{}", hold.display()).leak()));
    host.deploy("counter");
    let appended = || host.metric("granary_log_appends_total").unwrap();
    let before = appended();
    fs::write(&hold, "").unwrap();
    let address = host.address();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = Client::new(address);
                let path = format!("/v1/grains/counter/key-{number}/add");
                client.send(&Request::new("POST", path).body("[1]")).expect(200);
                see_the_last_reply_written(&mut client);
            });
        }
        wait::until_equal("all wait for the disk", CLIENTS as f64, || appended() - before);
        fs::remove_file(&hold).unwrap();
    });
    host.kill();
    let calls = read_trace(&path);
    let first = calls.iter().find(|call| is_request(call, "POST")).unwrap().began;
    let since = || calls.iter().filter(|call| call.began > first);
    let replies = since().filter(|call| is_reply(call)).count();
    assert!(replies >= CLIENTS, "{replies} replies");
    let syncs = since().filter(|call| is_log_sync(call)).count();
    assert!((1..=2).contains(&syncs), "{syncs} syncs for {replies} replies");
    // Not one of all the syncs was the kind that only asks the kernel to begin.
    assert!(
        !calls.iter().any(|call| call.name == "sync_file_range"),
        "sync_file_range is no sync"
    );
}

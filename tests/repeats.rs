//! A host is killed at each step between a request under an `idempotency-key` and its reply. Whatever there was by then, a repeat leaves the
//! request carried out once, and gets its reply.
//!
//! | killed before | so that there is |
//! |---|---|
//! | the commit is written | nothing of it |
//! | the commit is synced | a commit that a crash of the machine would take, and that may be there now |
//! | the reply is sent | a commit of which nobody knows |
//! | the request comes again | a commit of which the client knows |
//!
//! Each for a call that returns a value, one that ends in the guest's own error, one whose failure was passed on, and a deletion; on a host
//! alone, and in a cluster of three for the host that has the grain, for one that has a copy of it, and for the one that the client talks
//! to. The steps are system calls of the host, which a tracer answers with SIGKILL before they are made.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use granary_tests::{Client, Cluster, Host, Reply, Request, tool, wait};

/// A step that a host doesn't live to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write,
    Sync,
    Reply,
    /// It makes them all.
    None,
}

const STEPS: [Step; 4] = [Step::Write, Step::Sync, Step::Reply, Step::None];

impl Step {
    /// The system calls.
    fn calls(self) -> Option<&'static str> {
        match self {
            Step::Write => Some("pwrite64"),
            Step::Sync => Some("fdatasync"),
            // Of a connection by HTTP; hosts talk by others.
            Step::Reply => Some("sendto,writev"),
            Step::None => None,
        }
    }
}

/// Kills a host at its next step of this kind.
struct Killer(Option<Child>);

impl Killer {
    fn attach(host: &Host, step: Step) -> Killer {
        let Some(calls) = step.calls() else { return Killer(None) };
        let (pid, trace) = (host.pid().to_string(), format!("trace={calls}"));
        let inject = format!("inject={calls}:signal=SIGKILL");
        let words = ["-f", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p", &pid];
        let mut child = Command::new("strace")
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        // What else it says is of no interest, but must not stop it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Killer(Some(child))
    }

    /// Waits until the host is gone, and starts it again.
    fn revive(self, host: &mut Host) {
        match self.0 {
            Some(mut tracer) => {
                wait::until("the host is killed", || host.end());
                tracer.wait().unwrap();
            }
            None => host.kill(),
        }
        host.start_again();
    }
}

/// A request that may come again, and what comes of it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Value,
    GuestError,
    PassedOn,
    Deletion,
}

const KINDS: [Kind; 4] = [Kind::Value, Kind::GuestError, Kind::PassedOn, Kind::Deletion];

impl Kind {
    fn request(self, key: &str) -> Request<'static> {
        let (verb, path, body) = match self {
            Kind::Value => ("POST", "/add", "[5]".to_owned()),
            Kind::GuestError => ("POST", "/fail_after_write", "[5]".to_owned()),
            Kind::PassedOn => ("POST", "/pass_on", format!(r#"[5, "probe", "{key}", "get", []]"#)),
            Kind::Deletion => ("DELETE", "", String::new()),
        };
        let request = Request::new(verb, format!("/v1/grains/probe/{key}{path}")).header("idempotency-key", key);
        if body.is_empty() { request } else { request.body(body) }
    }

    fn check_reply(self, reply: Reply) {
        match self {
            Kind::Value => assert_eq!(reply.integer(), 5),
            Kind::GuestError => assert_eq!(reply.problem(422, "guest_error")["committed"], "yes"),
            Kind::PassedOn => assert_eq!(reply.problem(508, "deadlock")["committed"], "yes"),
            Kind::Deletion => assert_eq!(reply.expect(204).status, 204),
        }
    }

    /// The grain's value before the request.
    fn before(self) -> i64 {
        match self {
            Kind::Deletion => 3,
            Kind::Value | Kind::GuestError | Kind::PassedOn => 0,
        }
    }

    /// And once it's carried out.
    fn after(self) -> i64 {
        match self {
            Kind::Deletion => 0,
            Kind::Value | Kind::GuestError | Kind::PassedOn => 5,
        }
    }

    fn prepare(self, client: &mut Client, key: &str) {
        if self.before() > 0 {
            let add = format!("[{}]", self.before());
            assert_eq!(client.call(&format!("probe/{key}/add"), &add).integer(), self.before());
        }
    }
}

fn value(client: &mut Client, key: &str) -> i64 {
    let get = Request::new("GET", format!("/v1/grains/probe/{key}/get"));
    answered(client, &get).integer()
}

/// The reply, however often that has to be asked for.
fn answered(client: &mut Client, request: &Request<'_>) -> Reply {
    wait::until("it's answered", || {
        let reply = client.try_send(request).ok()?;
        (![409, 503, 504].contains(&reply.status)).then_some(reply)
    })
}

/// The request came again: it was carried out once, and would be again by nobody.
fn check(kind: Kind, client: &mut Client, key: &str) {
    let request = kind.request(key);
    kind.check_reply(answered(client, &request));
    assert_eq!(value(client, key), kind.after());
    assert_eq!(answered(client, &add_one(key)).integer(), kind.after() + 1);
    kind.check_reply(answered(client, &request));
    assert_eq!(value(client, key), kind.after() + 1);
}

/// Under a key of its own, so that it may be asked for until it's answered.
fn add_one(key: &str) -> Request<'static> {
    Request::new("POST", format!("/v1/grains/probe/{key}/add"))
        .header("idempotency-key", &format!("{key}-one"))
        .body("[1]")
}

#[test]
fn whatever_step_a_host_is_killed_at_a_repeat_finds_one_effect() {
    if !tool::is_there("whatever_step_a_host_is_killed_at_a_repeat_finds_one_effect", "strace") {
        return;
    }
    let mut host = Host::start();
    host.deploy("probe");
    for kind in KINDS {
        for step in STEPS {
            let key = format!("{kind:?}-{step:?}");
            kind.prepare(&mut host.client(), &key);
            let mut client = host.client();
            let killer = Killer::attach(&host, step);
            let reply = client.try_send(&kind.request(&key));
            assert_eq!(reply.is_ok(), step == Step::None, "{key}");
            killer.revive(&mut host);
            let client = &mut host.client();
            match step {
                Step::Write => assert_eq!(value(client, &key), kind.before(), "{key}"),
                Step::Reply | Step::None => assert_eq!(value(client, &key), kind.after(), "{key}"),
                Step::Sync => {}
            }
            check(kind, client, &key);
        }
    }
}

#[test]
fn whichever_host_of_three_is_killed_at_whatever_step_a_repeat_finds_one_effect() {
    let name = "whichever_host_of_three_is_killed_at_whatever_step_a_repeat_finds_one_effect";
    if !tool::is_there(name, "strace") {
        return;
    }
    let mut cluster = Cluster::start(3);
    cluster.deploy("probe");
    // The grain is on the first host, and the client talks to the second.
    let trials = [
        (0, Step::Write),
        (0, Step::Sync),
        (1, Step::Reply),
        (2, Step::Write),
        (2, Step::Sync),
        (0, Step::None),
    ];
    for kind in KINDS {
        // What differs between the three that aren't deletions is the reply alone, which a step of each shows.
        let is_all = matches!(kind, Kind::Value | Kind::Deletion);
        for (killed, step) in trials.into_iter().filter(|trial| is_all || *trial == (0, Step::Sync)) {
            let key = format!("{kind:?}-{step:?}-{killed}");
            let client = &mut cluster.hosts[1].client();
            kind.prepare(client, &key);
            assert_eq!(value(client, &key), kind.before());
            move_to_first(&cluster, &key);
            let killer = Killer::attach(&cluster.hosts[killed], step);
            if let Ok(reply) = client.try_send(&kind.request(&key))
                && ![503, 504].contains(&reply.status)
            {
                kind.check_reply(reply);
            }
            killer.revive(&mut cluster.hosts[killed]);
            for at in 0..3 {
                let client = &mut cluster.hosts[at].client();
                let request = kind.request(&key);
                kind.check_reply(answered(client, &request));
                assert_eq!(value(client, &key), kind.after(), "{key}");
            }
            check(kind, &mut cluster.hosts[(killed + 1) % 3].client(), &key);
            cluster.settle();
        }
    }
}

fn move_to_first(cluster: &Cluster, key: &str) {
    let order = format!(r#"{{"type":"probe","key":"{key}","host":"{}"}}"#, cluster.id(0));
    let mut owner = cluster.hosts[0].owner();
    let moved = owner.send(&Request::new("POST", "/v1/cluster/move").body(order));
    moved.expect(200);
}

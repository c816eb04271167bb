//! Several hosts of one cluster on this machine, as an operator starts them: the first founds it, the others join with tokens.

use serde_json::Value;

use crate::host::signal;
use crate::network::Network;
use crate::{Host, Request, port, procfs, wait};

/// A port of its own, which it keeps when it starts again: the others look for it there, or where the network says.
fn start(network: Option<&Network>, flags: &[&str]) -> Host {
    let listens = port::own();
    // Hosts that join here stay.
    let mut all = ["--cluster-join-after", "200ms", "--cluster-listen"]
        .map(str::to_owned)
        .to_vec();
    all.push(listens.to_string());
    if let Some(network) = network {
        all.extend(["--cluster-advertise".to_owned(), network.attach(listens).to_string()]);
    }
    let all: Vec<&str> = all.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    Host::start_with(&all)
}

/// See the file's text.
#[derive(Debug)]
pub struct Cluster {
    /// In the order in which they joined; a killed one stays in its place.
    pub hosts: Vec<Host>,
    /// Between them; nothing when they reach each other directly.
    pub network: Option<Network>,
    /// More flags for hosts that join.
    flags: Vec<String>,
}

impl Cluster {
    /// So many hosts, all in the configuration and with their copies in place.
    pub fn start(count: usize) -> Cluster {
        Cluster::start_with(count, &[])
    }

    /// The same with more flags for each host.
    pub fn start_with(count: usize, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::of(|| start(None, flags));
        cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        cluster.grown(count)
    }

    /// The first host alone, with flags that others don't get.
    pub fn start_first(flags: &[&str]) -> Cluster {
        Cluster::of(|| start(None, flags))
    }

    /// The same on a network that can lose what it carries.
    pub fn start_apart(count: usize) -> Cluster {
        let network = Network::new();
        let mut cluster = Cluster::of(|| start(Some(&network), &[]));
        cluster.network = Some(network);
        cluster.grown(count)
    }

    fn grown(mut self, count: usize) -> Cluster {
        for _ in 1..count {
            self.join();
        }
        self.settle();
        self
    }

    /// A cluster of a host that is in one already.
    pub fn of(start: impl FnOnce() -> Host) -> Cluster {
        Cluster {
            hosts: vec![start()],
            network: None,
            flags: Vec::new(),
        }
    }

    /// One host more.
    pub fn join(&mut self) -> usize {
        self.join_with(&[])
    }

    /// One host more, with more flags of its own.
    pub fn join_with(&mut self, own: &[&str]) -> usize {
        let token = self.token();
        let mut flags = vec!["--join", &token];
        flags.extend(self.flags.iter().map(String::as_str));
        flags.extend(own);
        self.hosts.push(start(self.network.as_ref(), &flags));
        self.hosts.len() - 1
    }

    /// Empties a killed host's folder and has it join as the new host that it is.
    pub fn wipe(&mut self, at: usize) {
        let token = self.token();
        let host = &mut self.hosts[at];
        host.wipe();
        host.join_with(&token);
        host.start_again();
    }

    /// Deploys one of this repository's guests under its own name, and waits until every host that runs has it ready: those that take
    /// long to compile it aren't waited for by the deploy itself.
    pub fn deploy(&self, guest: &str) {
        self.running().next().unwrap().deploy(guest);
        for host in self.running() {
            wait::until("every host has the type", || {
                let reply = host.client().fetch(&format!("/v1/modules/{guest}"));
                (reply.status == 200).then_some(())
            });
        }
    }

    /// A join token of the first host that runs.
    pub fn token(&self) -> String {
        let reply = self
            .running()
            .next()
            .unwrap()
            .owner()
            .send(&Request::new("POST", "/v1/cluster/token"));
        reply.expect(200).json()["token"].as_str().unwrap().to_owned()
    }

    /// Waits until every host that runs sees all that run in the configuration, and all slots served.
    pub fn settle(&self) {
        wait::until("the configuration has all hosts", || self.is_settled().then_some(()));
    }

    /// Whether it is so now.
    pub fn is_settled(&self) -> bool {
        let running: Vec<&Host> = self.running().collect();
        running.iter().all(|host| {
            let view = host.view();
            let members = view["members"].as_array().unwrap();
            let is_in = |member: &&Value| member["in_configuration"] == true && member["state"] == "alive";
            let is_whole = members.iter().filter(is_in).count() == running.len();
            is_whole && view["cluster"]["slots_arriving"] == 0
        })
    }

    /// The hosts that run.
    pub fn running(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.is_running())
    }

    /// A host's id.
    pub fn id(&self, at: usize) -> String {
        self.hosts[at].view()["host"].as_str().unwrap().to_owned()
    }

    /// In which host's memory a grain is, by the host's place.
    pub fn holder(&self, grain: &str) -> usize {
        let from = self.running().next().unwrap();
        let status = from.client().fetch(&format!("/v1/grains/{grain}")).value();
        assert_eq!(status["resident"], true, "{status}");
        let is_it = |at: &usize| self.hosts[*at].is_running() && self.id(*at) == status["host"];
        (0..self.hosts.len()).find(is_it).unwrap()
    }

    /// Stops a host's process without its knowledge, or lets it go on.
    pub fn freeze(&self, at: usize, frozen: bool) {
        let pid = self.hosts[at].pid();
        signal(pid, if frozen { "STOP" } else { "CONT" });
        // The others of its threads run on until the one that takes the signal has got a processor.
        wait::until_equal("all of its threads stand still", true, || {
            !frozen || procfs::is_stopped(pid)
        });
    }
}

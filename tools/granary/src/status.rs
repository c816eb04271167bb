//! `granary status`: a host, its cluster as it sees it, and what is deployed.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::client::Client;
use crate::output::out;
use crate::{Failure, Target, ls, units};

/// Shows a host, its cluster and what is deployed
#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target);
        let mut view = client.value("/v1/cluster")?;
        let modules = client.value("/v1/modules")?["modules"].take();
        if self.json {
            view["modules"] = modules;
            out!("{view}");
            return Ok(());
        }
        let modules = modules.as_array().into_iter().flatten();
        let parts = [host(&view), cluster(&view), modules.map(module).collect()];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.join("\n"))
            .collect();
        out!("{}", parts.join("\n\n"));
        Ok(())
    }
}

/// The host that answers.
fn host(view: &Value) -> Vec<String> {
    let up = Duration::from_millis(view["uptime_ms"].as_u64().unwrap_or(0));
    let memory = &view["memory"];
    let size = |name: &str| units::size(memory[name].as_u64().unwrap_or(0));
    vec![
        format!("host    {} at {}", word(view, "host"), word(view, "address")),
        format!("runs    granary {}, for {}", word(view, "version"), units::span(up)),
        format!(
            "memory  {} of {}, {} grains",
            size("taken_bytes"),
            size("budget_bytes"),
            memory["grains_in_memory"]
        ),
        format!(
            "pages   found by {}: {}",
            word(view, "dirty_tracking"),
            word(view, "dirty_tracking_reason")
        ),
    ]
}

const HEAD: [&str; 10] = [
    "  HOST", "ADDRESS", "STATE", "ZONE", "WEIGHT", "SLOTS", "GRAINS", "CPU", "MEMORY", "WAIT",
];

/// All hosts of the cluster, and how it is; nothing of a host alone.
fn cluster(view: &Value) -> Vec<String> {
    let cluster = &view["cluster"];
    if cluster.is_null() {
        return Vec::new();
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let members = view["members"].as_array().into_iter().flatten();
    rows.extend(members.map(|of| member(of, of["host"] == view["host"])));
    let mut lines = table(&rows);
    let copies = match cluster["slots_degraded"].as_u64() {
        None => String::new(),
        Some(0) => "; all slots have all their copies".to_owned(),
        Some(1) => "; 1 slot lacks a copy".to_owned(),
        Some(lacking) => format!("; {lacking} slots lack a copy"),
    };
    lines.push(format!("configuration {}{copies}", cluster["configuration"]));
    lines
}

/// A host's row; a star marks the one that answers.
fn member(member: &Value, answers: bool) -> [String; HEAD.len()] {
    let mark = if answers { '*' } else { ' ' };
    let count = |name: &str| member[name].as_u64().map_or("-".to_owned(), |count| count.to_string());
    let percent = |name: &str| {
        member[name]
            .as_u64()
            .map_or("-".to_owned(), |permille| format!("{} %", permille / 10))
    };
    let wait = member["queue_wait_ms"]
        .as_u64()
        .map_or("-".to_owned(), |wait| format!("{wait} ms"));
    let state = match (word(member, "state"), &member["in_configuration"]) {
        (state @ ("alive" | "suspect"), Value::Bool(false)) => format!("{state}, not in yet"),
        (state, _) => state.to_owned(),
    };
    let zone = member["zone"].as_str().filter(|zone| !zone.is_empty()).unwrap_or("-");
    [
        format!("{mark} {}", word(member, "host")),
        word(member, "address").to_owned(),
        state,
        zone.to_owned(),
        count("weight"),
        count("slots"),
        count("activations"),
        percent("cpu_permille"),
        percent("memory_permille"),
        wait,
    ]
}

/// Words to the left, figures to the right.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    const WORDS: usize = 4;
    let widths: [usize; N] = std::array::from_fn(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(at, (cell, width))| match at {
            at if at < WORDS => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn module(module: &Value) -> String {
    let kind = format!("type {}", word(module, "type"));
    let line = format!("{kind:<24} revision {} {}", module["revision"], ls::upgrading(module));
    line.trim_end().to_owned()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_is_a_table_of_its_hosts() {
        let view = json!({
            "host": "aa",
            "cluster": { "configuration": 7, "slots_degraded": 12 },
            "members": [
                { "host": "aa", "address": "10.0.0.1:7778", "state": "alive", "in_configuration": true, "slots": 4096, "zone": "north", "weight": 100,
                  "activations": 12, "cpu_permille": 135, "memory_permille": 80, "queue_wait_ms": 3 },
                { "host": "bb", "address": null, "state": "down", "in_configuration": true, "slots": 4096, "zone": "", "weight": 50 },
                { "host": "cc", "address": "10.0.0.3:7778", "state": "alive", "in_configuration": false, "slots": 0 },
            ],
        });
        let says = [
            "  HOST  ADDRESS        STATE              ZONE   WEIGHT  SLOTS  GRAINS   CPU  MEMORY  WAIT",
            "* aa    10.0.0.1:7778  alive              north     100   4096      12  13 %     8 %  3 ms",
            "  bb    -              down               -          50   4096       -     -       -     -",
            "  cc    10.0.0.3:7778  alive, not in yet  -           -      0       -     -       -     -",
            "configuration 7; 12 slots lack a copy",
        ];
        assert_eq!(cluster(&view), says);
        assert!(cluster(&json!({ "host": "aa", "members": [{ "host": "aa" }] })).is_empty());
    }
}

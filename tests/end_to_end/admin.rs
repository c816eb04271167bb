//! Modules, probes, metrics, the view of the host, and what isn't built yet.

use granary_tests::{Host, built};
use serde_json::Value;

#[test]
fn a_module_is_deployed_once_and_described() {
    let mut host = Host::start();
    let mut client = host.client();
    let wasm = built::module_bytes("counter");
    let reply = client.deploy("counter", &wasm);
    let deployed = reply.expect(201).json();
    assert_eq!(deployed["revision"], 1, "{deployed}");
    assert_eq!(deployed["blake3"].as_str().map(str::len), Some(64), "{deployed}");
    let again = client.deploy("counter", &wasm).expect(200).json();
    assert_eq!(
        (&again["revision"], &again["blake3"]),
        (&deployed["revision"], &deployed["blake3"])
    );

    host.kill();
    host.start_again();
    let module = host.client().fetch("/v1/modules/counter").value();
    assert_eq!(module["blake3"], deployed["blake3"], "a deploy is durable");
    let method = |name: &str| {
        let methods = module["methods"].as_array().unwrap();
        methods
            .iter()
            .find(|method| method["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {module}"))
            .clone()
    };
    assert_eq!(method("get")["kind"], "read");
    let add = method("add");
    assert_eq!(add["kind"], "write");
    assert_eq!(add["doc"], "Adds `n` and returns the new value.");
    assert_eq!(add["params"][0]["name"], "n");
    assert_eq!(add["params"][0]["schema"]["type"], "integer");
    assert_eq!(add["result"]["type"], "integer");
}

#[test]
fn all_modules_are_listed() {
    let host = Host::start();
    host.deploy("counter");
    host.deploy("bank");
    let list = host.client().fetch("/v1/modules").value();
    let text = list.to_string();
    assert!(text.contains("\"counter\"") && text.contains("\"bank\""), "{text}");
}

#[test]
fn probes_and_metrics_answer() {
    let host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    client.fetch("/healthz").expect(200);
    client.fetch("/readyz").expect(200);
    client.call("counter/alice/add", "[1]").expect(200);
    let metrics = client.fetch("/metrics");
    assert!(
        metrics.header("content-type").unwrap().starts_with("text/plain"),
        "Prometheus' text form"
    );
    let text = metrics.expect(200).text();
    assert!(text.lines().any(|line| line.starts_with("# TYPE granary_")), "{text}");
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("granary_")).collect();
    assert!(series.iter().all(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(_, value)| value.parse::<f64>().is_ok())
    }));
}

#[test]
fn the_view_says_what_the_kernel_allowed() {
    let host = Host::start();
    let view = host.view();
    assert!(
        ["userfaultfd", "compare"]
            .map(Value::from)
            .contains(&view["dirty_tracking"]),
        "{view}"
    );
}

#[test]
fn what_is_not_built_says_so() {
    let host = Host::start();
    host.deploy("counter");
    let mut client = host.client();
    for path in ["/v1/openapi.json", "/"] {
        client.fetch(path).problem(501, "not_implemented");
    }
}

#[test]
fn what_guests_write_is_in_the_log_with_grain_and_request() {
    let host = Host::start();
    host.deploy("probe");
    let mut client = host.client();
    for (method, body) in [
        ("log", r#"["warn", "by the log interface"]"#),
        ("print", r#"["on standard output"]"#),
        ("eprint", r#"["on standard error"]"#),
    ] {
        let reply = client.call(&format!("probe/some-key/{method}"), body);
        reply.expect(200);
        let message = body.rsplit('"').nth(1).unwrap();
        let id = reply.header("granary-request-id").unwrap();
        host.has_logged(message);
        let log = host.log();
        let line = log.lines().find(|line| line.contains(message));
        let line = line.unwrap_or_else(|| panic!("`{message}` is not in the log:\n{log}"));
        assert!(
            line.contains("probe") && line.contains("some-key") && line.contains(id),
            "{line}"
        );
    }
}

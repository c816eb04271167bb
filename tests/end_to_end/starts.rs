//! What a host says that can't start: what is in the way, and where.

use std::net::{TcpListener, UdpSocket};

use granary_tests::Host;

/// What a host says instead of starting.
fn said(mut host: Host) -> String {
    let said = host.try_start().expect_err("it must not serve");
    assert!(said.ends_with("exit status: 1"), "{said}");
    said
}

#[test]
fn a_port_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let http = said(Host::prepared(&["--listen", &address]));
    assert!(http.contains(&format!("can't listen for HTTP on {address}")), "{http}");
    assert!(http.contains("--listen"), "{http}");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cluster = said(Host::prepared(&["--cluster-listen", &address]));
    assert!(
        cluster.contains(&format!("can't listen for other hosts on UDP {address}")),
        "{cluster}"
    );
    assert!(
        cluster.contains("--cluster-listen") && !cluster.contains("authority"),
        "{cluster}"
    );
}

#[test]
fn an_address_that_others_cannot_use_is_named_with_its_flag() {
    let nowhere = said(Host::prepared(&["--cluster-listen", "0.0.0.0:0"]));
    assert!(
        nowhere.contains("0.0.0.0") && nowhere.contains("--cluster-advertise"),
        "{nowhere}"
    );
}

#[test]
fn a_file_or_folder_that_is_in_the_way_is_named() {
    let file = |name: &str, expect: &str| {
        let host = Host::prepared(&["--cluster-listen", "127.0.0.1:0"]);
        std::fs::create_dir(host.data()).unwrap();
        std::fs::write(host.data().join(name), "no folder").unwrap();
        let said = said(host);
        assert!(said.contains(expect), "{name}: {said}");
    };
    for name in ["log", "modules", "images", "cluster"] {
        file(name, &format!("/data/{name}: "));
    }
    file("snapshots", "snapshots");
    file("compiled", "the folder of compiled modules");
    for name in [
        "lock",
        "audit.log",
        "admin.sock",
        "cluster/identity",
        "cluster/authority",
        "cluster/tokens",
    ] {
        let host = Host::prepared(&["--cluster-listen", "127.0.0.1:0"]);
        std::fs::create_dir_all(host.data().join(name)).unwrap();
        let said = said(host);
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn a_data_folder_that_is_none_and_a_token_file_that_is_missing_are_named() {
    let host = Host::prepared(&[]);
    std::fs::write(host.data(), "no folder").unwrap();
    let path = host.data();
    let no_folder = said(host);
    assert!(
        no_folder.contains(&format!("the data folder {}", path.display())),
        "{no_folder}"
    );

    let no_tokens = said(Host::prepared(&["--token-file", "/nowhere/tokens"]));
    assert!(
        no_tokens.contains("can't read the token file /nowhere/tokens"),
        "{no_tokens}"
    );
}

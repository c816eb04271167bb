//! Revisions: deploys that break, going back, moving grains, and what is shown of it.

use serde_json::json;

use super::script::Served;

#[tokio::test]
async fn a_breaking_deploy_is_refused_with_the_list_unless_it_is_allowed() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let problem = wire
        .ask("PUT", "/v1/modules/counter", "", "breaking")
        .await
        .problem(409, "breaking_change");
    assert_eq!(problem["error"], json!(["`get` is gone", "`put` is gone"]));
    assert_eq!(problem["committed"], "no");
    let path = |query: &str| format!("/v1/modules/counter?{query}");
    wire.ask("PUT", &path("allow_breaking=false"), "", "breaking")
        .await
        .problem(409, "breaking_change");
    let got = wire.ask("PUT", &path("allow_breaking=true"), "", "breaking").await;
    assert_eq!(got.status, 201);
}

#[tokio::test]
async fn unknown_options_are_refused_by_name() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    for (verb, path, detail) in [
        (
            "PUT",
            "counter?force=true",
            "unknown: `force`. A deploy takes `allow_breaking`",
        ),
        (
            "PUT",
            "counter?allow_breaking=yes",
            "`allow_breaking` is `true` or `false`",
        ),
        ("PUT", "counter?allow_breaking", "`allow_breaking` is `true` or `false`"),
        (
            "PUT",
            "counter?allow_breaking=true&allow_breaking=true",
            "`allow_breaking` is given twice",
        ),
        ("GET", "counter?all=1", "unknown: `all`. This path takes no query"),
        (
            "POST",
            "counter/rollback?to=1",
            "unknown: `to`. This path takes no query",
        ),
        (
            "POST",
            "counter/upgrade?now",
            "unknown: `now`. This path takes no query",
        ),
        (
            "GET",
            "counter/upgrade?limit=5",
            "unknown: `limit`. This path takes no query",
        ),
    ] {
        let got = wire.ask(verb, &format!("/v1/modules/{path}"), "", "\0asm").await;
        assert_eq!(got.problem(400, "bad_arguments")["detail"], detail, "{verb} {path}");
    }
    wire.ask("GET", "/v1/modules?type=a", "", "")
        .await
        .problem(400, "bad_arguments");
}

#[tokio::test]
async fn a_type_goes_back_as_far_as_it_can() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let got = wire.ask("POST", "/v1/modules/counter/rollback", "", "").await;
    assert_eq!((got.status, &got.json()["revision"]), (200, &json!(2)));
    let problem = wire
        .ask("POST", "/v1/modules/counter/rollback", "", "")
        .await
        .problem(409, "no_revision");
    assert_eq!(problem["detail"], "revision 2 is the first that is kept");
    for (verb, path) in [
        ("POST", "/v1/modules/nothing/rollback"),
        ("POST", "/v1/modules/nothing/upgrade"),
        ("GET", "/v1/modules/nothing/upgrade"),
    ] {
        wire.ask(verb, path, "", "").await.problem(404, "unknown_type");
    }
    let got = wire.ask("GET", "/v1/modules/counter/rollback", "", "").await;
    got.problem(405, "read_only_verb");
    assert_eq!(got.header("allow"), Some("POST"));
}

#[tokio::test]
async fn moving_all_grains_is_started_and_watched() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let mut expect = json!({
        "type": "counter", "revision": 3, "running": false, "total": 10, "moved": 5, "failed": 1, "left": 4, "stuck": 2,
        "failures": [{"key": "a/1", "revision": 2, "code": "trap", "reason": "it trapped"}],
    });
    let path = "/v1/modules/counter/upgrade";
    assert_eq!(wire.ask("GET", path, "", "").await.json(), expect);
    expect["running"] = json!(true);
    let got = wire.ask("POST", path, "", "").await;
    assert_eq!((got.status, got.json()), (202, expect.clone()));
    assert_eq!(wire.ask("GET", path, "", "").await.json(), expect);
}

#[tokio::test]
async fn a_type_is_shown_with_its_revisions() {
    let served = Served::start().await;
    let mut wire = served.connect().await;
    let shown = wire.ask("GET", "/v1/modules/counter", "", "").await.json();
    let revision = |number: u8, current: bool, follows: Option<u8>| {
        let hash = format!("{number:02x}").repeat(32);
        json!({
            "revision": number, "blake3": hash, "deployed_at_ms": number, "current": current, "follows": follows,
        })
    };
    let expect = json!([
        revision(1, false, None),
        revision(2, false, Some(1)),
        revision(3, true, Some(1))
    ]);
    assert_eq!(shown["revisions"], expect);
    let figures = json!({"running": false, "total": 10, "moved": 5, "failed": 1, "left": 4, "stuck": 2});
    assert_eq!(shown["upgrade"], figures);
    let list = wire.ask("GET", "/v1/modules", "", "").await.json();
    assert_eq!(list["modules"][0]["upgrade"], figures);
}

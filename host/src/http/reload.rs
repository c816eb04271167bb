//! Reads again, when the host is told to, what it was given in files: the token file. What is wrong with a file leaves what was in force before.
//!
//! **Not here:** the certificates of a cluster, which hosts make and renew by themselves (`cluster`).

use std::sync::Arc;

use granary_core::api::Code;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::exchange::Api;
use crate::audit::{Audit, Entry};

/// Tells a host to read again what it was given in files.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<()>);

/// Where a host hears that.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<()>);

/// Both ends.
pub(crate) fn reloader() -> (Reloader, Reloads) {
    let (told, hears) = mpsc::channel(1);
    (Reloader(told), Reloads(hears))
}

impl Reloader {
    /// Returns at once. A host that has yet to begin with what it was told before reads once for both.
    pub fn reload(&self) {
        let _ = self.0.try_send(());
    }
}

impl Reloads {
    /// Reads each time that it's told to; never ends.
    pub(super) async fn run<H: Send + Sync + 'static>(mut self, api: Arc<Api<H>>) {
        while self.0.recv().await.is_some() {
            reload(&api).await;
        }
        std::future::pending().await
    }
}

pub(super) async fn reload<H: Send + Sync + 'static>(api: &Arc<Api<H>>) {
    let api = api.clone();
    let read = tokio::task::spawn_blocking(move || read_again(&api));
    if let Err(error) = read.await {
        tracing::error!(%error, "reading again failed");
    }
}

/// May wait for a disk.
fn read_again<H>(api: &Api<H>) {
    // As with each administrative act: what can't be written down isn't done.
    if let Err(error) = write(&api.audit, Value::Null, "begun") {
        tracing::error!(%error, audit = %api.audit, "nothing is read again, since that can't be written down");
        return;
    }
    let (about, outcome) = match api.security.read_again() {
        None => {
            tracing::info!("there is no token file, and so nothing to read again");
            (Value::Null, "done")
        }
        Some(Ok(changes)) => {
            let about = json!(changes);
            tracing::info!(%about, "the token file was read again");
            (about, "done")
        }
        Some(Err(error)) => {
            tracing::error!(%error, "the token file can't be used: the tokens of before stay in force");
            (Value::from(error.to_string()), Code::BadArguments.as_str())
        }
    };
    if let Err(error) = write(&api.audit, about, outcome) {
        tracing::error!(%error, audit = %api.audit, "the end of reading again isn't written down");
    }
}

/// Only the user who runs the host can send it a signal, and that is its folder's owner.
fn write(audit: &Audit, about: Value, outcome: &'static str) -> std::io::Result<()> {
    audit.write(&Entry {
        request_id: None,
        by: "owner".to_owned(),
        from: "a signal".to_owned(),
        act: "reload",
        about,
        outcome,
    })
}

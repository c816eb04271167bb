//! An administrative act's lines in the audit log: one before it begins, one when it has ended.

use std::io;
use std::sync::Arc;

use axum::http::{Extensions, Method};
use granary_core::api::Code;
use serde_json::Value;

use super::security::Principal;
use crate::audit::{Audit, Entry};
use crate::http::error::Refusal;
use crate::http::exchange::Caller;

/// What an act was about, by its handler: goes along with its response.
#[derive(Clone, Debug)]
pub(in crate::http) struct About(pub(in crate::http) Value);

/// An act that has begun.
pub(in crate::http) struct Trail {
    audit: Arc<Audit>,
    caller: Caller,
    act: String,
}

impl Trail {
    /// Writes down that an act begins. One that can't be written down doesn't.
    pub(in crate::http) async fn begin(
        audit: &Arc<Audit>,
        caller: &Caller,
        verb: &Method,
        path: &str,
    ) -> Result<Trail, Refusal> {
        let trail = Trail {
            audit: audit.clone(),
            caller: caller.clone(),
            act: format!("{verb} {}", path.chars().take(256).collect::<String>()),
        };
        match trail.write("begun", Value::Null).await {
            Ok(()) => Ok(trail),
            Err(error) => {
                tracing::error!(%error, audit = %trail.audit, "an administrative act is refused: it can't be written down");
                let detail = format!("the audit log can't be written, and what it can't record isn't done: {error}");
                Err(Refusal::new(Code::Internal, detail))
            }
        }
    }

    /// Writes down what became of it.
    pub(in crate::http) async fn end(self, code: Option<Code>, told: &Extensions) {
        let about = told.get::<About>().map_or(Value::Null, |About(about)| about.clone());
        if let Err(error) = self.write(code.map_or("done", Code::as_str), about).await {
            tracing::error!(%error, act = self.act, audit = %self.audit, "the end of an administrative act isn't written down");
        }
    }

    async fn write(&self, outcome: &'static str, about: Value) -> io::Result<()> {
        let (audit, act, caller) = (self.audit.clone(), self.act.clone(), self.caller.clone());
        let write = move || {
            audit.write(&Entry {
                request_id: Some(caller.id.to_string()),
                by: caller.by.to_string(),
                from: match caller.by {
                    Principal::Owner => "the owner's socket".to_owned(),
                    Principal::Token(_) | Principal::Anybody => caller.client.address.to_canonical().to_string(),
                },
                act: &act,
                about,
                outcome,
            })
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

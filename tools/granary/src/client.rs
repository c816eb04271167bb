//! Talks to a host.

use std::cell::OnceCell;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::config::Config;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};

use crate::early_answer::EarlyAnswer;
use crate::{Failure, Target, owner};

/// Longer than any deadline that a host allows: the host's own answer says more than giving up here would.
const TIME_LIMIT: Duration = Duration::from_secs(90);
/// The longest answer that is read.
const ANSWER_LIMIT: u64 = 64 << 20;
/// The longest stream that is read before the next one is begun.
const STREAM_LIMIT: u64 = 1 << 30;

/// Of a longer body a host is first asked whether it takes it.
const ASKED_FROM: usize = 1 << 20;

/// A host to talk to.
pub(crate) struct Client {
    target: Target,
    agent: ureq::Agent,
    /// By the owner's socket: named by the command line, or by a host that wants a token.
    as_owner: OnceCell<ureq::Agent>,
}

/// A host's answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Client {
    pub(crate) fn new(target: &Target) -> Client {
        let by_socket = |data: &PathBuf| OnceCell::from(owner::agent(config(), owner::socket_in(data)));
        Client {
            target: target.clone(),
            agent: ureq::Agent::with_parts(
                config(),
                DefaultConnector::new().chain(EarlyAnswer),
                DefaultResolver::default(),
            ),
            as_owner: target.data.as_ref().map(by_socket).unwrap_or_default(),
        }
    }

    /// Sends one request. An answer that is an error is a [`Failure::Refused`] or [`Failure::NotNow`] with the host's own words.
    pub(crate) fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let answer = self.answer(method, path, body)?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(answer.refusal())
        }
    }

    /// The same, with an answer that is an error given back as it is.
    pub(crate) fn answer(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let mut response = self.ask(method, path, None, body)?;
        let status = response.status();
        let read = response.body_mut().with_config().limit(ANSWER_LIMIT).read_to_string();
        let text = read.map_err(|error| self.unreachable(&error))?;
        Ok(Answer { status, text })
    }

    /// The lines of an event stream, as they come: from its beginning, or behind the event with this id.
    pub(crate) fn stream(&self, path: &str, last_id: Option<&str>) -> Result<impl Read + use<>, Failure> {
        let mut response = self.ask(Method::GET, path, last_id, Vec::new())?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response.into_body().into_with_config().limit(STREAM_LIMIT).reader());
        }
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| self.unreachable(&error))?;
        Err(Answer { status, text }.refusal())
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        last_id: Option<&str>,
        body: Vec<u8>,
    ) -> Result<Response<ureq::Body>, Failure> {
        let request = |host: &str| {
            let url = format!("{}{path}", host.trim_end_matches('/'));
            let mut request = Request::builder().method(&method).uri(&url);
            if let Some(token) = &self.target.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if body.len() > ASKED_FROM {
                request = request.header("expect", "100-continue");
            }
            if let Some(id) = last_id {
                request = request.header("last-event-id", id);
            }
            let request = request.body(body.clone());
            request.map_err(|error| Failure::Usage(format!("`{url}` is no URL of a host: {error}")))
        };
        if let Some(agent) = self.as_owner.get() {
            let sent = agent.run(request(owner::URL)?);
            return sent.map_err(|error| Failure::Unreachable(format!("no answer from the host: {error}")));
        }
        let sent = self.agent.run(request(&self.target.host)?);
        let response = sent.map_err(|error| self.unreachable(&error))?;
        let socket = owner::socket_named(&response, &self.target.host).filter(|_| self.target.token.is_none());
        let Some(socket) = socket else { return Ok(response) };
        let agent = owner::agent(config(), socket);
        match agent.run(request(owner::URL)?) {
            Ok(by_socket) => {
                // The next request needs no refusal first.
                let _ = self.as_owner.set(agent);
                Ok(by_socket)
            }
            // This user isn't the owner: what the host said holds.
            Err(error) if owner::is_shut(&error) => Ok(response),
            Err(error) => Err(Failure::Unreachable(format!("no answer from the host: {error}"))),
        }
    }

    /// The JSON value at a path.
    pub(crate) fn value(&self, path: &str) -> Result<Value, Failure> {
        let answer = self.send(Method::GET, path, Vec::new())?;
        answer.value()
    }

    /// Waits until the host answers.
    pub(crate) fn wait(&self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        loop {
            match self.send(Method::GET, "/readyz", Vec::new()) {
                Ok(_) => return Ok(()),
                Err(failure @ Failure::Usage(_)) => return Err(failure),
                Err(failure) if Instant::now() >= deadline => return Err(failure),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable(format!(
            "no answer from {}: {error}. Is a host up there? `granary up` starts one",
            self.target.host
        ))
    }
}

fn config() -> Config {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(TIME_LIMIT))
        .build()
}

impl Answer {
    pub(crate) fn value(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.text)
            .map_err(|error| Failure::Refused(format!("the host's answer is no JSON: {error}")))
    }

    /// What an answer that is an error says, in the host's own words.
    pub(crate) fn refusal(&self) -> Failure {
        let said = problem(self.status, &self.text);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            Failure::NotNow(said)
        } else {
            Failure::Refused(said)
        }
    }
}

/// What a problem document says, for a person.
fn problem(status: StatusCode, text: &str) -> String {
    let Ok(problem) = serde_json::from_str::<Value>(text) else {
        return format!("the host answered {status}: {text}");
    };
    let field = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    if problem["code"] == "breaking_change" {
        return breaking(&problem);
    }
    let mut said = format!("{} ({})", field("detail"), field("code"));
    if !problem["error"].is_null() {
        said += &format!("\n  error: {}", problem["error"]);
    }
    if problem["committed"] == "unknown" {
        said += "\n  whether it took effect is unknown";
    }
    said + &format!("\n  request: {}", field("request_id"))
}

/// A deploy that would take something from callers: what, a line each.
fn breaking(problem: &Value) -> String {
    let mut said = "the module takes something from callers of the revision before (breaking_change):".to_owned();
    for difference in problem["error"].as_array().into_iter().flatten() {
        said += &format!("\n  {}", difference.as_str().unwrap_or_default());
    }
    said + "\nNothing was deployed. `--allow-breaking` deploys it nevertheless"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_deploy_lists_what_callers_lose_and_the_way_out() {
        let text = r#"{"code": "breaking_change", "detail": "...", "error": ["`get` is gone", "`put` is gone"]}"#;
        assert_eq!(
            problem(StatusCode::CONFLICT, text),
            "the module takes something from callers of the revision before (breaking_change):\n  `get` is gone\n  \
             `put` is gone\nNothing was deployed. `--allow-breaking` deploys it nevertheless"
        );
    }
}

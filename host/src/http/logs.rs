//! Guests' log records, of all hosts: the last ones, or each as it's written, as an event stream.
//!
//! A stream asks the hosts in rounds. Each round's last event has as its `id` how far each host's records were read, with
//! which a client goes on where it was, on any host: streams end after a while, as connections that rest do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use granary_core::api::{CallFailure, Code};
use granary_core::id::{GrainKey, GrainType, HostId, RequestId};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::access::Act;
use super::admin::refuse;
use super::error::Refusal;
use super::exchange::{Api, Caller};
use super::inside::Inside;
use super::memory::{SMALL, Share};
use super::query;
use crate::router::{LogCursor, LogFilter, LogPage, LogRecord};

/// Records in an answer unless the caller says otherwise.
const RECORDS_DEFAULT: usize = 100;
/// Records in an answer at most.
const RECORDS_LIMIT: usize = 1000;
/// Those who follow at a time: each has all hosts asked in each round.
const FOLLOWERS_LIMIT: usize = 32;
/// From the end of a round to the next.
const ROUND_PAUSE: Duration = Duration::from_millis(250);
/// How long a client and what is between hear nothing, at most.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a stream goes on, at most.
const STREAM_TIME: Duration = Duration::from_secs(60);
/// The header by which a client goes on.
const LAST_EVENT_ID: &str = "last-event-id";

/// Goes along with a reply that is for those who stay: who sends no more has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

/// Places for those who follow.
pub(super) fn followers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(FOLLOWERS_LIMIT))
}

/// `GET /v1/logs`.
pub(super) async fn read<H: Inside>(
    State(api): State<Arc<Api<H>>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answered = answer(&api, &caller, query.as_deref().unwrap_or_default(), &headers).await;
    answered.unwrap_or_else(|refusal| refuse(refusal, &caller))
}

async fn answer<H: Inside>(
    api: &Arc<Api<H>>,
    caller: &Caller,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let options = Options::read(query)?;
    caller.may(options.filter.kind.as_ref().map_or(Act::Watch, Act::Read))?;
    if let Some(kind) = &options.filter.kind {
        api.inside.find(kind).await?;
    }
    if !options.follow {
        return last(api, &options).await;
    }
    let cursor = headers.get(LAST_EVENT_ID).map(cursor_of).transpose()?;
    let place = api.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        let detail = format!("{FOLLOWERS_LIMIT} follow log records on this host, as many as may; try again");
        Refusal::new(Code::Overloaded, detail)
    })?;
    let events = follow(api.clone(), options, cursor, place);
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = stream.into_response();
    response.extensions_mut().insert(Endless);
    Ok(response)
}

async fn last<H: Inside>(api: &Api<H>, options: &Options) -> Result<Response, Refusal> {
    let page = api.inside.logs(&options.filter, None, options.limit).await;
    let records: Vec<Value> = page.records.iter().map(|(host, record)| shown(*host, record)).collect();
    let document = json!({ "records": records, "silent": silent(&page.silent) }).to_string();
    let kept = api.body_memory.keep(document.into_bytes()).await;
    let document = kept.ok_or_else(no_memory)?;
    let json = HeaderValue::from_static("application/json");
    let fresh = HeaderValue::from_static("no-store");
    Ok(([(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, fresh)], document).into_response())
}

fn no_memory() -> Refusal {
    Refusal::new(Code::Overloaded, "the host has no memory for the records; try again")
}

/// The records behind a cursor, or the last ones, and then those that follow.
fn follow<H: Inside>(
    api: Arc<Api<H>>,
    options: Options,
    cursor: Option<LogCursor>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    // A connection that rests too long is closed, and one whose reply isn't complete rests.
    let time = STREAM_TIME.min(api.config.idle_timeout * 3 / 4);
    let following = Following {
        until: Instant::now() + time,
        events: VecDeque::new(),
        room: api.body_memory.share(),
        silent: Vec::new(),
        has_begun: false,
        api,
        options,
        cursor,
        _place: place,
    };
    unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok(event), following))
    })
}

/// A stream of records.
struct Following<H> {
    api: Arc<Api<H>>,
    options: Options,
    /// How far the records were read; `None` before the first round and after the last.
    cursor: Option<LogCursor>,
    /// Those of the last round that the client hasn't taken yet.
    events: VecDeque<Event>,
    /// For these.
    room: Share,
    /// Hosts that didn't answer in the last round.
    silent: Vec<HostId>,
    has_begun: bool,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

impl<H: Inside> Following<H> {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.room = self.api.body_memory.share();
            let is_over = Instant::now() >= self.until || self.api.stopping.load(Ordering::Relaxed);
            if is_over {
                // Without records in the last rounds the client has no newer one yet.
                let cursor = self.cursor.take()?;
                return Some(Event::default().id(cursor.to_string()));
            }
            if std::mem::replace(&mut self.has_begun, true) {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            let (filter, limit) = (&self.options.filter, self.options.limit);
            let page = self.api.inside.logs(filter, self.cursor.as_ref(), limit).await;
            self.take(page).await?;
        }
    }

    /// A round's events. None when there is no memory for them: the client goes on later.
    async fn take(&mut self, mut page: LogPage) -> Option<()> {
        let mut told: Vec<(&str, String)> = Vec::new();
        if page.lost > 0 {
            told.push(("lost", json!({ "records": page.lost }).to_string()));
        }
        page.silent.sort_unstable();
        if page.silent != self.silent {
            told.push(("silent", json!({ "hosts": silent(&page.silent) }).to_string()));
            self.silent = page.silent;
        }
        let records = page.records.iter();
        told.extend(records.map(|(host, record)| ("record", shown(*host, record).to_string())));
        let bytes = told.iter().map(|(_, data)| data.len()).sum();
        if bytes > SMALL {
            self.room.grow(bytes).await.ok()?;
        }
        let last = told.len().saturating_sub(1);
        let events = told.into_iter().enumerate().map(|(index, (name, data))| {
            let event = Event::default().event(name).data(data);
            if index == last {
                event.id(page.next.to_string())
            } else {
                event
            }
        });
        self.events.extend(events);
        self.cursor = Some(page.next);
        Some(())
    }
}

fn shown(host: HostId, record: &LogRecord) -> Value {
    let request = RequestId(record.request);
    json!({
        "at_ms": record.at_ms,
        "host": host.to_string(),
        "type": record.kind,
        "key": record.key,
        "level": record.level,
        "source": record.source,
        "request_id": (record.request != [0; 16]).then(|| request.to_string()),
        "message": record.message,
    })
}

fn silent(hosts: &[HostId]) -> Vec<String> {
    hosts.iter().map(HostId::to_string).collect()
}

fn cursor_of(value: &HeaderValue) -> Result<LogCursor, CallFailure> {
    let text = value.to_str().map_err(|error| error.to_string());
    let cursor = text.and_then(str::parse);
    cursor.map_err(|why| bad(format!("`{LAST_EVENT_ID}`: {why}")))
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    filter: LogFilter,
    limit: usize,
    follow: bool,
}

impl Options {
    fn read(query: &str) -> Result<Options, CallFailure> {
        let (mut kind, mut key, mut limit, mut follow) = (None, None, None, None);
        for pair in query::pairs(query) {
            let (name, value) = pair?;
            let wrong = |why: &dyn std::fmt::Display| bad(format!("`{name}`: {why}"));
            let twice = match &*name {
                "type" => kind
                    .replace(GrainType::new(&value).map_err(|why| wrong(&why))?)
                    .is_some(),
                "key" => key.replace(GrainKey::new(&value).map_err(|why| wrong(&why))?).is_some(),
                "limit" => limit.replace(limit_of(&value)?).is_some(),
                "follow" => follow.replace(flag_of(&value)?).is_some(),
                _ => {
                    let name: String = name.chars().take(64).collect();
                    let taken = "Log records take `type`, `key`, `limit` and `follow`";
                    return Err(bad(format!("unknown: `{name}`. {taken}")));
                }
            };
            if twice {
                return Err(bad(format!("`{name}` is given twice")));
            }
        }
        if key.is_some() && kind.is_none() {
            return Err(bad("a `key` needs its `type`".into()));
        }
        Ok(Options {
            filter: LogFilter { kind, key },
            limit: limit.unwrap_or(RECORDS_DEFAULT),
            follow: follow.unwrap_or(false),
        })
    }
}

fn limit_of(text: &str) -> Result<usize, CallFailure> {
    let limit = text.parse().ok().filter(|limit| (1..=RECORDS_LIMIT).contains(limit));
    limit.ok_or_else(|| bad(format!("`limit` is a number from 1 to {RECORDS_LIMIT}")))
}

fn flag_of(text: &str) -> Result<bool, CallFailure> {
    text.parse().map_err(|_| bad("`follow` is `true` or `false`".into()))
}

fn bad(detail: String) -> CallFailure {
    CallFailure::before(Code::BadArguments, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let kind = Some(GrainType::new("x").unwrap());
        let key = Some(GrainKey::new("a/b c").unwrap());
        let all = Options {
            filter: LogFilter::default(),
            limit: 100,
            follow: false,
        };
        assert_eq!(Options::read(""), Ok(all));
        let one = Options {
            filter: LogFilter { kind, key },
            limit: 7,
            follow: true,
        };
        assert_eq!(Options::read("key=a%2Fb+c&type=x&limit=7&follow=true"), Ok(one));
        for (wrong, says) in [
            ("key=a", "`type`"),
            ("type=X", "`type`"),
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("follow=yes", "`true` or `false`"),
            ("folow=true", "unknown: `folow`"),
            ("type=x&type=x", "twice"),
        ] {
            let failure = Options::read(wrong).unwrap_err();
            assert_eq!(failure.code, Code::BadArguments);
            assert!(failure.detail.contains(says), "{wrong}: {}", failure.detail);
        }
    }
}

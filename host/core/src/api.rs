//! How a call can fail, in the words that callers see: the codes of problem documents and of guests' call errors.

use std::fmt;

/// Whether what a call did to its grain lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It lasts.
    Yes,
    /// Nothing was changed.
    No,
    /// It may last or not; a retry under the same idempotency key finds out.
    Unknown,
}

impl Committed {
    /// The word in a problem document.
    pub fn as_str(self) -> &'static str {
        match self {
            Committed::Yes => "yes",
            Committed::No => "no",
            Committed::Unknown => "unknown",
        }
    }
}

/// How sure a reply is: a grain type's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The reply leaves when its commit is durable.
    #[default]
    Committed,
    /// The reply leaves at once; its commit is durable within 100 ms.
    Relaxed,
    /// Memory only; kept by evictions and planned restarts, not by a crash.
    Volatile,
}

impl Durability {
    /// The word in descriptions and reply headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Committed => "committed",
            Durability::Relaxed => "relaxed",
            Durability::Volatile => "volatile",
        }
    }

    /// Reads the word.
    pub fn from_word(word: &str) -> Option<Durability> {
        [Durability::Committed, Durability::Relaxed, Durability::Volatile]
            .into_iter()
            .find(|d| d.as_str() == word)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, retry $retry:literal;)*) => {
        /// Why a call failed. The word is the `code` of problem documents; callers may rely on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All codes, for documentation and tests.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The word that callers see.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// The HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// Whether the same request may succeed later without anybody changing anything.
            pub fn is_retryable(self) -> bool {
                match self { $(Code::$name => $retry,)* }
            }

            /// Reads the word.
            pub fn from_word(word: &str) -> Option<Code> {
                match word { $($word => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// Arguments, key, header or body are not what the method takes.
    BadArguments = "bad_arguments", 400, retry false;
    /// The request carries no token where one is needed.
    Unauthenticated = "unauthenticated", 401, retry false;
    /// The token, the origin or the host name isn't allowed.
    Forbidden = "forbidden", 403, retry false;
    /// No module of this type is deployed.
    UnknownType = "unknown_type", 404, retry false;
    /// The type has no such method.
    UnknownMethod = "unknown_method", 404, retry false;
    /// There is nothing at this path.
    NotFound = "not_found", 404, retry false;
    /// GET on a method that writes, or a verb that the path doesn't have.
    ReadOnlyVerb = "read_only_verb", 405, retry false;
    /// The request came too slowly.
    SlowClient = "slow_client", 408, retry true;
    /// The same idempotency key is being worked on.
    InProgress = "idempotency_in_progress", 409, retry true;
    /// The module offers less than the one before it: callers of what is gone would fail. `error` lists the differences.
    BreakingChange = "breaking_change", 409, retry false;
    /// There is no earlier revision to go back to.
    NoRevision = "no_revision", 409, retry false;
    /// The call took place earlier under the same idempotency key, but its reply was too long to be kept.
    ReplyNotKept = "reply_not_kept", 410, retry false;
    /// A body, argument, reply or module exceeds its limit.
    TooLarge = "too_large", 413, retry false;
    /// The module can't be hosted; the detail names the construct.
    BadModule = "bad_module", 422, retry false;
    /// The grain's state could not be moved to its type's current revision; it stays on the one that it has, and serves.
    UpgradeFailed = "upgrade_failed", 422, retry false;
    /// The guest's own error.
    GuestError = "guest_error", 422, retry false;
    /// The idempotency key was used with another method or other arguments.
    IdempotencyMismatch = "idempotency_mismatch", 422, retry false;
    /// The grain's mailbox is full.
    MailboxFull = "mailbox_full", 429, retry true;
    /// The grain keeps as many replies to calls with an idempotency key as it may: the call wasn't begun.
    IdempotencyFull = "idempotency_full", 429, retry true;
    /// The caller has used up its share.
    Quota = "quota", 429, retry true;
    /// The guest trapped; its grain is as it was before the call.
    Trap = "trap", 500, retry false;
    /// The turn used more processor time than it may.
    TurnTimeout = "turn_timeout", 500, retry false;
    /// The grain's memory would have grown past its limit.
    MemoryLimit = "memory_limit", 500, retry false;
    /// The host itself failed: a fault of ours or damaged storage.
    Internal = "internal", 500, retry false;
    /// Named in the contract, not built yet.
    NotImplemented = "not_implemented", 501, retry false;
    /// The host is at a limit: the turn didn't run, or left nothing behind.
    Overloaded = "overloaded", 503, retry true;
    /// Too few replicas can be reached; the turn was not started.
    NoQuorum = "no_quorum", 503, retry true;
    /// The grain's activation on this host is over; the grain is on another host, or will be.
    Moved = "moved", 503, retry true;
    /// The deadline passed.
    Deadline = "deadline", 504, retry true;
    /// Free disk space is below the reserve.
    DiskReserve = "disk_reserve", 507, retry true;
    /// The calls wait for each other in a circle.
    Deadlock = "deadlock", 508, retry true;
    /// A call of a call of a call, and so on, once more than may be.
    ChainTooDeep = "chain_too_deep", 508, retry false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed call, as its caller hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// Which kind.
    pub code: Code,
    /// For a person: what would have been right. No internals.
    pub detail: String,
    /// Whether the call's effect on its grain lasts.
    pub committed: Committed,
    /// [`Code::GuestError`]: the guest's error value, UTF-8 JSON.
    pub error: Option<Vec<u8>>,
    /// [`Code::GuestError`]: the HTTP status that the guest chose.
    pub status: Option<u16>,
}

impl CallFailure {
    /// A call that changed nothing.
    pub fn before(code: Code, detail: impl Into<String>) -> CallFailure {
        CallFailure {
            code,
            detail: detail.into(),
            committed: Committed::No,
            error: None,
            status: None,
        }
    }

    /// The deadline passed while the turn may have been running.
    pub fn deadline(committed: Committed) -> CallFailure {
        let detail = match committed {
            Committed::No => "the deadline passed before the turn began; nothing was changed",
            _ => {
                "the deadline passed; the turn may still end and commit. Retry under the same idempotency-key to find out"
            }
        };
        CallFailure {
            code: Code::Deadline,
            detail: detail.into(),
            committed,
            error: None,
            status: None,
        }
    }
}

impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for CallFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_statuses_are_errors() {
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()));
        }
        assert_eq!(Code::from_word("ok"), None);
    }
}

//! The bounded queue of requests of one grain, first in, first out.

use std::collections::VecDeque;

use super::Limits;
use crate::message::{Request, Token};

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    requests: VecDeque<Request>,
    bytes: usize,
}

impl Mailbox {
    pub(super) fn has_room(&self, request: &Request, limits: &Limits) -> bool {
        // A single request larger than the limit in bytes still gets in when nothing waits: its size has its own limit.
        self.requests.is_empty()
            || self.requests.len() < limits.mailbox_messages && self.bytes + request.cost() <= limits.mailbox_bytes
    }

    pub(super) fn push(&mut self, request: Request) {
        self.bytes += request.cost();
        self.requests.push_back(request);
    }

    /// Puts a request back that was popped last.
    pub(super) fn push_front(&mut self, request: Request) {
        self.bytes += request.cost();
        self.requests.push_front(request);
    }

    pub(super) fn pop(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        self.bytes -= request.cost();
        if self.requests.is_empty() && self.requests.capacity() > 16 {
            // A burst's room would stay with an idle grain.
            self.requests = VecDeque::new();
        }
        Some(request)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.token == token)?;
        let request = self.requests.remove(at)?;
        self.bytes -= request.cost();
        Some(request)
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

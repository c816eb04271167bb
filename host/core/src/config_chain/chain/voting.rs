//! A voter's answers.
//!
//! **Not here:** what a voter may answer ([`crate::config_chain::decree`]); here is when it may at all, and that it's durable before.

use super::{Chain, Waiting};
use crate::config_chain::config::{Config, ConfigNumber};
use crate::config_chain::event::{Message, Output, Record};
use crate::id::{Ballot, HostId};
use crate::time::Time;

impl Chain {
    pub(super) fn promise(&mut self, now: Time, from: HostId, of: ConfigNumber, ballot: Ballot, out: &mut Vec<Output>) {
        if !self.votes(from, of, out) {
            return;
        }
        let before = self.acceptor.promised();
        match self.acceptor.promise(ballot) {
            Ok(accepted) => {
                let message = Message::Promise { of, ballot, accepted };
                self.answer(now, from, before, message, out);
            }
            Err(outbid) => {
                let promised = outbid.0;
                self.send(from, Message::Outbid { of, ballot, promised }, out);
            }
        }
    }

    pub(super) fn accept(
        &mut self,
        now: Time,
        from: HostId,
        of: ConfigNumber,
        ballot: Ballot,
        config: Config,
        out: &mut Vec<Output>,
    ) {
        if !self.votes(from, of, out) || !self.is_next(&config) {
            return;
        }
        if self
            .acceptor
            .accepted()
            .is_some_and(|(accepted, _)| *accepted == ballot)
        {
            self.send_after(from, Message::Accepted { of, ballot }, out);
            return;
        }
        match self.acceptor.accept(ballot, config) {
            Ok(()) => self.answer(now, from, None, Message::Accepted { of, ballot }, out),
            Err(outbid) => {
                let promised = outbid.0;
                self.send(from, Message::Outbid { of, ballot, promised }, out);
            }
        }
    }

    /// Whether this host has a vote on the successor of `of`, and who asks may propose it. If the two know different
    /// configurations, one of them learns.
    fn votes(&mut self, from: HostId, of: ConfigNumber, out: &mut Vec<Output>) -> bool {
        let known = self.number();
        if of > known {
            self.send(from, Message::Fetch { known }, out);
        } else if of < known {
            self.tell(from, out);
        }
        let both_vote = |config: &Config| config.is_voter(self.settings.me) && config.is_voter(from);
        of == known && self.config.as_ref().is_some_and(both_vote)
    }

    /// Answers once the vote is durable. A promise that was given before is on the disk or on its way there.
    fn answer(&mut self, now: Time, to: HostId, before: Option<Ballot>, message: Message, out: &mut Vec<Output>) {
        self.voted_at = now;
        let promised = self.acceptor.promised();
        self.counter = self.counter.max(promised.map_or(0, |ballot| ballot.counter));
        if before.is_some() && before == promised {
            self.send_after(to, message, out);
            return;
        }
        let record = Record::Vote {
            of: self.number(),
            acceptor: self.acceptor.clone(),
        };
        self.persist(record, Waiting::Send(to, message), out);
    }
}

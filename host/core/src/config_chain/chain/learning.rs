//! How a host comes to know the newest configuration, and its voters what of it is served.
//!
//! **Not here:** deciding ([`super::voting`], [`super::proposing`]).

use super::{Chain, RIVALS_MOST, Waiting};
use crate::config_chain::config::{Config, ConfigHash, ConfigNumber};
use crate::config_chain::decree::Acceptor;
use crate::config_chain::event::{Message, Output, Record};
use crate::config_chain::successor;
use crate::id::HostId;
use crate::slot::SlotSet;
use crate::time::Time;

impl Chain {
    pub(super) fn start(&mut self, now: Time, out: &mut Vec<Output>) {
        self.roster.begin(now);
        self.known_at = now;
        self.voted_at = now;
        self.compare_at = Some(now);
        self.counter = self.acceptor.promised().map_or(0, |ballot| ballot.counter);
        out.extend(self.config.clone().map(Output::Installed));
    }

    /// Whether a configuration may come after the one that is known. One that skips some can't be compared with that.
    pub(super) fn is_next(&self, config: &Config) -> bool {
        let follows = match &self.config {
            Some(known) if config.n == known.n.next() => config.check_follows(known),
            Some(known) if config.n <= known.n => return false,
            _ => Ok(()),
        };
        match follows.and_then(|()| config.check()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(n = config.n.0, %error, "refused a configuration");
                false
            }
        }
    }

    /// Takes over a configuration that was decided and is newer than the one that is known.
    pub(super) fn learn(&mut self, now: Time, config: Config, out: &mut Vec<Output>) {
        self.hash = config.hash();
        self.known_at = now;
        self.acceptor = Acceptor::default();
        self.attempt = None;
        self.wished_at = None;
        self.backed_off_to = now;
        self.lost = 0;
        self.served.clear();
        self.rivals.clear();
        self.all_served_at = config.is_settled().then_some(now);
        // What isn't held any more needn't be remembered; what is held again is told again.
        let me = self.settings.me;
        self.serving
            .retain(|slot, n| config.slot(*slot).concerns(me) && *n <= config.n);
        self.report_at = Some(now.plus_nanos(self.settings.times.report_nanos));
        self.compare_at.get_or_insert(now);
        self.config = Some(config.clone());
        self.persist(Record::Decided(config.clone()), Waiting::Install(config), out);
    }

    /// Says what is newest here.
    pub(super) fn compare(&mut self, with: HostId, out: &mut Vec<Output>) {
        let (n, hash) = (self.number(), self.hash);
        self.send(with, Message::Status { n, hash }, out);
    }

    pub(super) fn compare_with(&mut self, from: HostId, n: ConfigNumber, hash: ConfigHash, out: &mut Vec<Output>) {
        let known = self.number();
        if n > known {
            self.send(from, Message::Fetch { known }, out);
        } else if n < known {
            self.tell(from, out);
        } else if hash != self.hash {
            self.forked(from, out);
        }
    }

    /// Another host has a configuration that can't be beside the one that is known here.
    pub(super) fn forked(&mut self, host: HostId, out: &mut Vec<Output>) {
        if self.rivals.len() >= RIVALS_MOST || !self.rivals.insert(host) {
            return;
        }
        let Some(config) = &self.config else { return };
        let others = config.voters.iter().filter(|voter| self.rivals.contains(voter));
        out.push(Output::Forked {
            n: config.n,
            host,
            is_odd: others.count() >= config.voter_quorum(),
        });
    }

    /// Compares with one of the hosts that are there or should be.
    pub(super) fn compare_with_some(&mut self, out: &mut Vec<Output>) {
        let members = self
            .config
            .iter()
            .flat_map(|config| &config.members)
            .map(|member| member.host);
        let mut hosts: Vec<HostId> = self
            .roster
            .alive()
            .chain(members)
            .filter(|host| *host != self.settings.me)
            .collect();
        hosts.sort_unstable();
        hosts.dedup();
        let drawn = self.draw(hosts.len() as u64) as usize;
        if let Some(host) = hosts.get(drawn) {
            self.compare(*host, out);
        }
    }

    /// Sends the newest configuration.
    pub(super) fn tell(&mut self, to: HostId, out: &mut Vec<Output>) {
        if let Some(config) = self.config.clone() {
            self.send(to, Message::Decided(config), out);
        }
    }

    /// Tells the voters what is served here; again and again while the configuration isn't settled, for messages get lost.
    pub(super) fn report(&mut self, now: Time, out: &mut Vec<Output>) {
        self.report_at = None;
        let Some(config) = self
            .config
            .clone()
            .filter(|config| config.member(self.settings.me).is_some())
        else {
            return;
        };
        let slots = self.served_here(&config);
        for voter in &config.voters {
            let message = Message::Serving {
                n: config.n,
                slots: slots.clone(),
            };
            self.send(*voter, message, out);
        }
        if !config.is_settled() {
            self.report_at = Some(now.plus_nanos(20 * self.settings.times.report_nanos));
        }
    }

    pub(super) fn note_serving(
        &mut self,
        now: Time,
        from: HostId,
        n: ConfigNumber,
        slots: SlotSet,
        out: &mut Vec<Output>,
    ) {
        let known = self.number();
        if n > known {
            self.send(from, Message::Fetch { known }, out);
        } else if n < known {
            self.tell(from, out);
        }
        let Some(config) = self
            .config
            .as_ref()
            .filter(|config| config.n == n && config.member(from).is_some())
        else {
            return;
        };
        self.served.insert(from, slots);
        if self.all_served_at.is_none() && successor::all_served(config, &self.served) {
            self.all_served_at = Some(now);
        }
    }
}

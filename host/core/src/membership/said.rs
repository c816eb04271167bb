//! What foca says during one of its steps, collected so that the machine can act on it afterwards.

use std::time::Duration;

use foca::{Message, Notification, Runtime, Timer};

use super::identity::Identity;
use crate::id::HostId;

/// One step's worth.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Datagrams to send.
    pub(super) sent: Vec<(Identity, Vec<u8>)>,
    /// Timers to keep.
    pub(super) submitted: Vec<(Timer<Identity>, Duration)>,
    /// A probe began: whom, and its number.
    pub(super) pinged: Option<(HostId, u8)>,
    /// A probe's direct answer came.
    pub(super) acked: Option<(HostId, u8)>,
    /// A probe ended without an answer.
    pub(super) failed: Option<HostId>,
    /// The membership may have changed.
    pub(super) news: bool,
    /// This host was called dead and has a new identity.
    pub(super) renewed: bool,
}

impl Runtime<Identity> for Said {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(_) | Notification::MemberDown(_) | Notification::Rename(..) => self.news = true,
            Notification::Rejoin(_) => self.renewed = true,
            Notification::ProbeFailed(_, id) => {
                self.failed = Some(id.host);
                self.news = true;
            }
            Notification::DataReceived(header) => {
                if let Message::Ack(number) = header.message {
                    self.acked = Some((header.src.host, number));
                }
            }
            Notification::DataSent(header) => {
                if let Message::Ping(number) = header.message {
                    self.pinged = Some((header.dst.host, number));
                }
            }
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sent.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.submitted.push((event, after));
    }
}

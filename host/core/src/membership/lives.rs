//! Which of the processes that show one host's identity is that host: a folder may be copied, or come back from a backup.
//!
//! A host is its disk: what it has acknowledged is there, and quorums count on it. So each process says by its certificate which *life* of the
//! host it is, and whoever is connected to one believes one life at a time:
//!
//! - While the known life answers, another one is a **rival** and has to wait. It gets in when the other's connections are over, which takes a
//!   moment after a death. At the same address it needn't wait: two processes can't have one, so the earlier one is dead.
//! - A life that isn't later than the known one is **superseded** for good: by number of start, or, of two with the same number, whichever came
//!   second. Both can't be of one folder.
//! - A life whose log begins before what the host has already said to be durable is **rewound**: a backup, a copy, a repaired log. What
//!   it has acknowledged counts for quorums, and it hasn't got it. Who finds one out tells the others: whoever hadn't heard of the last
//!   that the host has acknowledged took the process for it, and would refuse the host itself from then on.
//!
//! Hence acknowledgements of two lives that are counted by one host are those of one disk (**invariant 7** of [`crate::replication`]).
//!
//! **Not here:** connections and certificates. What is known lasts as long as this process: see docs/cluster.md for what that leaves open.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{HostId, Lsn};

/// Addresses of one life that are kept: where it's dialled, and as what it shows when it dials.
const ADDRESSES_MOST: usize = 4;

/// Hosts that are known at most; above it those without a connection are forgotten. Stops a peer's made-up hosts from eating memory.
const HOSTS_MOST: usize = 4_096;

/// One process on a host's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The host's n-th start; kept on its disk.
    pub incarnation: u32,
    /// Drawn at the start: processes on copies of one folder may have the same incarnation.
    pub draw: u64,
    /// Up to where its log was durable when it started.
    pub began: Lsn,
}

/// Why a process isn't believed to be the host that it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Another process is that host, and answers at this address. Later it may be otherwise.
    Rival(SocketAddr),
    /// A start of the host with this number is known already. For good.
    Superseded(u32),
    /// The host's log was durable up to the first place and this process' begins at the second. For good.
    Rewound(Lsn, Lsn),
}

impl Doubt {
    /// Whether it will never be believed.
    pub fn is_final(&self) -> bool {
        !matches!(self, Doubt::Rival(_))
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Rival(address) => write!(
                f,
                "a host with this identity answers at {address}: one of both runs on a copied data folder; stop the wrong one, or wipe its \
                 folder and join with a token"
            ),
            Doubt::Superseded(start) => write!(
                f,
                "start {start} of this host is known already, by another process: its data folder was copied or came back from a backup; go \
                 on with the newest folder, or wipe this one and join with a token"
            ),
            Doubt::Rewound(known, begun) => write!(
                f,
                "the data folder is older than what this host has acknowledged (place {} of its log, the folder ends at {}): go on with the \
                 newest folder, or wipe this one and join with a token",
                known.0, begun.0
            ),
        }
    }
}

#[derive(Debug)]
struct Known {
    life: Life,
    /// Those of it that are open.
    connections: usize,
    addresses: Vec<SocketAddr>,
    /// Up to where it has said that its log is durable.
    durable: Lsn,
}

/// The lives of other hosts that this one knows. See the module's text.
#[derive(Debug, Default)]
pub struct Lives(BTreeMap<HostId, Known>);

impl Lives {
    /// A connection with a process at an address that shows the host's identity. Unless it's doubted, say [`Lives::part`] when it ends.
    pub fn meet(&mut self, host: HostId, life: Life, address: SocketAddr) -> Result<(), Doubt> {
        let Some(known) = self.0.get_mut(&host) else {
            if self.0.len() >= HOSTS_MOST {
                self.0.retain(|_, known| known.connections > 0);
            }
            self.0.insert(host, Known::new(life, address, life.began));
            return Ok(());
        };
        if known.life == life {
            known.connections += 1;
            if !known.addresses.contains(&address) && known.addresses.len() < ADDRESSES_MOST {
                known.addresses.push(address);
            }
            return Ok(());
        }
        if life.incarnation <= known.life.incarnation {
            return Err(Doubt::Superseded(known.life.incarnation));
        }
        if let Some(other) = known.addresses.first().filter(|_| known.connections > 0)
            && !known.addresses.contains(&address)
        {
            return Err(Doubt::Rival(*other));
        }
        if life.began < known.durable {
            return Err(Doubt::Rewound(known.durable, life.began));
        }
        *known = Known::new(life, address, known.durable.max(life.began));
        Ok(())
    }

    /// A connection has ended.
    pub fn part(&mut self, host: HostId, life: Life) {
        if let Some(known) = self.0.get_mut(&host).filter(|known| known.life == life) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    /// Another host has found out that a life lacks what its host had acknowledged, which was durable up to `durable`. It isn't believed any more.
    pub fn warn(&mut self, host: HostId, rewound: Life, durable: Lsn) {
        let Some(known) = self.0.get_mut(&host) else { return };
        known.durable = known.durable.max(durable);
        if known.life == rewound {
            // So that the host itself may have the same number, which it has counted by its own folder.
            let before = rewound.incarnation.saturating_sub(1);
            known.life = Life {
                incarnation: before,
                ..rewound
            };
            (known.connections, known.addresses) = (0, Vec::new());
        }
    }

    /// A message of a life came, which says that its log is durable up to here. False when that life is over: it doesn't count.
    pub fn hear(&mut self, host: HostId, life: Life, durable: Lsn) -> bool {
        let known = self.0.get_mut(&host).filter(|known| known.life == life);
        known.is_some_and(|known| {
            known.durable = known.durable.max(durable);
            true
        })
    }
}

impl Known {
    fn new(life: Life, address: SocketAddr, durable: Lsn) -> Known {
        Known {
            life,
            connections: 1,
            addresses: vec![address],
            durable,
        }
    }
}

/// `INCARNATION-DRAW-PLACE`: fits a label of a domain's name.
impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.incarnation, self.draw, self.began.0)
    }
}

/// The text isn't a life's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoLife;

impl FromStr for Life {
    type Err = NoLife;
    fn from_str(text: &str) -> Result<Life, NoLife> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(NoLife);
        Ok(Life {
            incarnation: part()?.parse().map_err(|_| NoLife)?,
            draw: u64::from_str_radix(part()?, 16).map_err(|_| NoLife)?,
            began: Lsn(part()?.parse().map_err(|_| NoLife)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostId = HostId([7; 16]);

    fn life(incarnation: u32, draw: u64, began: u64) -> Life {
        Life {
            incarnation,
            draw,
            began: Lsn(began),
        }
    }

    fn at(n: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], 7778))
    }

    /// Knows a life at address 1 that has said that place 50 is durable.
    fn known() -> (Lives, Life) {
        let (mut lives, first) = (Lives::default(), life(3, 1, 40));
        lives.meet(HOST, first, at(1)).unwrap();
        assert!(lives.hear(HOST, first, Lsn(50)));
        (lives, first)
    }

    #[test]
    fn a_copy_waits_while_the_other_answers_and_the_other_goes_on() {
        let (mut lives, first) = known();
        let copy = life(4, 2, 60);
        assert_eq!(lives.meet(HOST, copy, at(2)), Err(Doubt::Rival(at(1))));
        assert!(!lives.hear(HOST, copy, Lsn(60)), "nothing that it says counts");
        assert_eq!(
            lives.meet(HOST, first, at(3)),
            Ok(()),
            "a second connection of the same life"
        );
        lives.part(HOST, first);
        assert_eq!(lives.meet(HOST, copy, at(2)), Err(Doubt::Rival(at(1))));
        lives.part(HOST, first);
        assert_eq!(lives.meet(HOST, copy, at(2)), Ok(()), "all of its connections are over");
    }

    #[test]
    fn a_restart_is_taken_at_once_at_its_address_and_elsewhere_when_the_earlier_process_is_silent() {
        for (is_silent, address) in [(false, at(1)), (true, at(1)), (true, at(2))] {
            let (mut lives, first) = known();
            if is_silent {
                lives.part(HOST, first);
            }
            let next = life(4, 2, 50);
            assert_eq!(lives.meet(HOST, next, address), Ok(()));
            assert!(
                !lives.hear(HOST, first, Lsn(70)),
                "what was on its way from the earlier one is late"
            );
            assert!(lives.hear(HOST, next, Lsn(51)));
            // The earlier one's connections end only now, and are none of this one's.
            lives.part(HOST, first);
            lives.part(HOST, first);
            assert_eq!(lives.meet(HOST, life(5, 3, 51), at(3)), Err(Doubt::Rival(address)));
        }
    }

    #[test]
    fn an_earlier_life_never_comes_back() {
        let (mut lives, first) = known();
        lives.part(HOST, first);
        let next = life(4, 2, 50);
        lives.meet(HOST, next, at(2)).unwrap();
        lives.part(HOST, next);
        let doubt = lives.meet(HOST, first, at(1)).unwrap_err();
        assert_eq!(doubt, Doubt::Superseded(4));
        assert!(doubt.is_final() && !Doubt::Rival(at(1)).is_final());
    }

    #[test]
    fn of_two_lives_with_one_number_the_second_is_never_taken() {
        let (mut lives, first) = known();
        let twin = life(3, 2, 50);
        assert_eq!(lives.meet(HOST, twin, at(1)), Err(Doubt::Superseded(3)));
        lives.part(HOST, first);
        assert_eq!(lives.meet(HOST, twin, at(2)), Err(Doubt::Superseded(3)));
    }

    #[test]
    fn a_folder_older_than_what_was_acknowledged_is_never_taken() {
        let (mut lives, first) = known();
        lives.part(HOST, first);
        let old = life(4, 2, 49);
        assert_eq!(lives.meet(HOST, old, at(1)), Err(Doubt::Rewound(Lsn(50), Lsn(49))));
        // Nor by way of a life that had more.
        let newest = life(5, 3, 90);
        lives.meet(HOST, newest, at(1)).unwrap();
        lives.part(HOST, newest);
        assert_eq!(
            lives.meet(HOST, life(6, 4, 89), at(1)),
            Err(Doubt::Rewound(Lsn(90), Lsn(89)))
        );
    }

    /// One that hadn't heard of the last takes an old copy for the host, until another one tells it.
    #[test]
    fn a_rewound_life_that_was_taken_makes_way_for_the_host_itself() {
        let (mut lives, first) = known();
        lives.part(HOST, first);
        let (copy, itself) = (life(4, 2, 50), life(4, 3, 60));
        lives.meet(HOST, copy, at(2)).unwrap();
        assert_eq!(lives.meet(HOST, itself, at(1)), Err(Doubt::Superseded(4)));
        lives.warn(HOST, copy, Lsn(60));
        assert!(!lives.hear(HOST, copy, Lsn(50)), "nothing that it says counts any more");
        lives.part(HOST, copy);
        assert_eq!(lives.meet(HOST, copy, at(2)), Err(Doubt::Rewound(Lsn(60), Lsn(50))));
        assert_eq!(lives.meet(HOST, itself, at(1)), Ok(()));
        // A warning of one that isn't known here changes nothing but what's known to be durable.
        lives.warn(HOST, copy, Lsn(70));
        assert!(lives.hear(HOST, itself, Lsn(61)));
        lives.warn(HostId([8; 16]), copy, Lsn(70));
    }

    #[test]
    fn hosts_have_nothing_to_do_with_one_another() {
        let (mut lives, _) = known();
        assert_eq!(lives.meet(HostId([8; 16]), life(1, 9, 0), at(1)), Ok(()));
    }

    #[test]
    fn a_life_is_read_back_from_a_label_and_nothing_else_is_one() {
        let life = life(u32::MAX, u64::MAX, u64::MAX);
        assert!(life.to_string().len() <= 63, "{life}");
        assert_eq!(life.to_string().parse(), Ok(life));
        for text in ["", "1", "1-2", "1-x-3", "-1-2-3", "1-2-3-4"] {
            assert_eq!(text.parse::<Life>(), Err(NoLife), "{text}");
        }
    }
}

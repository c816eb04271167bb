//! The network between hosts: loses, doubles, delays and re-orders, and is cut in one direction or both.
//!
//! **Not here:** corrupted bytes. Transport is authenticated; what arrives is what was sent.

use std::collections::BTreeSet;

use crate::dice::Dice;
use crate::queue::{MICROS, MILLIS, Nanos};

/// See the module's text.
#[derive(Debug, Default)]
pub struct Network {
    cut: BTreeSet<(usize, usize)>,
    /// Of 1,000 messages so many are lost.
    pub loss: u64,
    /// Of 1,000 messages so many arrive twice.
    pub doubles: u64,
    /// Of 1,000 messages so many take up to half a second, and are overtaken by others.
    pub stragglers: u64,
}

/// What becomes of a message: when it arrives, for each time that it does.
pub type Arrivals = [Option<Nanos>; 2];

impl Network {
    /// Cuts the way from one host to another.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Mends one way.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cut.remove(&(from, to));
    }

    /// Mends all, and loses nothing more.
    pub fn heal(&mut self) {
        *self = Network::default();
    }

    /// Whether the way is open.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Rolls what becomes of a message.
    pub fn carry(&self, from: usize, to: usize, dice: &mut Dice) -> Arrivals {
        if from == to {
            return [Some(2 * MICROS), None];
        }
        if !self.is_open(from, to) || dice.permille(self.loss) {
            return [None, None];
        }
        let again = dice.permille(self.doubles).then(|| self.latency(dice) * 3);
        [Some(self.latency(dice)), again]
    }

    fn latency(&self, dice: &mut Dice) -> Nanos {
        if dice.permille(self.stragglers) {
            dice.between(5 * MILLIS, 500 * MILLIS)
        } else {
            dice.between(80 * MICROS, 900 * MICROS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_cut_in_one_direction_only() {
        let (mut network, mut dice) = (Network::default(), Dice::new(1));
        network.cut(0, 1);
        assert_eq!(network.carry(0, 1, &mut dice), [None, None]);
        assert!(network.carry(1, 0, &mut dice)[0].is_some());
        network.mend(0, 1);
        assert!(network.carry(0, 1, &mut dice)[0].is_some());
    }

    #[test]
    fn messages_are_lost_doubled_and_overtaken() {
        let network = Network {
            loss: 100,
            doubles: 100,
            stragglers: 100,
            ..Network::default()
        };
        let mut dice = Dice::new(3);
        let all: Vec<Arrivals> = (0..1000).map(|_| network.carry(0, 1, &mut dice)).collect();
        assert!(all.iter().any(|[first, _]| first.is_none()));
        assert!(all.iter().any(|[_, again]| again.is_some()));
        assert!(all.iter().flatten().flatten().any(|after| *after > 5 * MILLIS));
    }
}

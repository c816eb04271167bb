//! Two configurations of one number: who is listened to, and who stops.

use super::config::{ClusterId, Config, ConfigHash};
use super::event::{Input, Message, Output};
use super::tests::{handle, host, voter};
use crate::id::{Ballot, HostId};

#[test]
fn a_second_configuration_of_a_number_is_told_and_never_taken() {
    let (mut chain, config) = voter();
    let stranger = host(7);
    assert!(!config.is_voter(stranger));
    let status = |from| Input::Received {
        from,
        message: Message::Status {
            n: config.n,
            hash: ConfigHash([1; 32]),
        },
    };
    let forked = |host, is_odd| Output::Forked {
        n: config.n,
        host,
        is_odd,
    };
    // One odd host stops nobody, and isn't listened to.
    assert_eq!(handle(&mut chain, status(stranger)), [forked(stranger, false)]);
    assert_eq!(handle(&mut chain, status(stranger)), []);
    let ballot = Ballot {
        counter: 1_000,
        host: stranger,
        incarnation: 1,
    };
    let asks = Message::Prepare { of: config.n, ballot };
    let asked = Input::Received {
        from: stranger,
        message: asks,
    };
    assert_eq!(handle(&mut chain, asked), []);
    // Nor one voter; two of three say who is odd.
    let others: Vec<HostId> = config
        .voters
        .iter()
        .copied()
        .filter(|voter| *voter != host(2))
        .collect();
    assert_eq!(handle(&mut chain, status(others[0])), [forked(others[0], false)]);
    let mut other = config.clone();
    (other.n, other.prev_hash) = (config.n.next(), ConfigHash([1; 32]));
    let decided = |config: &Config| Input::Received {
        from: others[1],
        message: Message::Decided(config.clone()),
    };
    assert_eq!(handle(&mut chain, decided(&other)), [forked(others[1], true)]);
    // What another cluster decides is none of this one's business.
    (other.prev_hash, other.cluster) = (config.hash(), ClusterId([8; 16]));
    handle(&mut chain, decided(&other));
    assert_eq!(chain.config(), Some(&config));
}

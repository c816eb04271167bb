//! The bank on the SDK's own test host: every refusal leaves every cent where it was.

use granary_sdk::testing::Host;

use super::*;

fn bank(balances: &[(&str, u64)]) -> Host {
    let host = Host::new().with::<Account>();
    for (key, balance) in balances {
        assert_eq!(host.grain::<Account>(*key).deposit(*balance), Ok(*balance));
    }
    host
}

fn balances(host: &Host) -> [u64; 2] {
    let calls = ["alice", "bob"].map(|key| host.outside().prepare::<Account>(key).balance());
    host.outside().all(calls).map(Result::unwrap)
}

#[test]
fn a_transfer_moves_money() {
    let host = bank(&[("alice", 100), ("bob", 1)]);
    assert_eq!(host.grain::<Account>("alice").transfer("bob".into(), 30), Ok(70));
    assert_eq!(balances(&host), [70, 31]);
}

#[test]
fn insufficient_funds_say_what_there_is() {
    let host = bank(&[("alice", 100)]);
    let refusal = host.grain::<Account>("alice").transfer("bob".into(), 101).unwrap_err();
    assert_eq!(refusal, CallError::Guest(BankError::InsufficientFunds { balance: 100 }));
    assert_eq!(refusal.to_string(), "The account holds less than that.");
    assert_eq!(balances(&host), [100, 0]);
}

#[test]
fn a_wrong_amount_changes_nothing() {
    let host = bank(&[("alice", 100), ("bob", u64::MAX)]);
    let alice = host.grain::<Account>("alice");
    let wrong = || Err(CallError::Guest(BankError::InvalidAmount));
    assert_eq!(alice.deposit(0), wrong());
    assert_eq!(alice.deposit(u64::MAX), wrong());
    assert_eq!(alice.withdraw(0), wrong());
    assert_eq!(alice.transfer("bob".into(), 0), wrong());
    assert_eq!(alice.transfer("bob".into(), 1), wrong(), "bob's account is full");
    assert_eq!(balances(&host), [100, u64::MAX]);
}

#[test]
fn a_transfer_to_oneself_is_refused() {
    let host = bank(&[("alice", 100)]);
    let refusal = host.grain::<Account>("alice").transfer("alice".into(), 1);
    assert_eq!(refusal, Err(CallError::Guest(BankError::SameAccount)));
    assert_eq!(balances(&host), [100, 0]);
}

#[test]
fn a_call_that_did_not_happen_puts_the_money_back() {
    for code in ["deadlock", "mailbox_full", "trap", "overloaded"] {
        let host = bank(&[("alice", 100)]);
        host.fail_next::<Account>("bob", code);
        let failure = host.grain::<Account>("alice").transfer("bob".into(), 30).unwrap_err();
        assert_eq!(failure.code(), code);
        assert_eq!(balances(&host), [100, 0]);
    }
}

#[test]
fn a_call_in_doubt_keeps_the_money_out_of_both() {
    let host = bank(&[("alice", 100)]);
    host.fail_next::<Account>("bob", "deadline");
    let failure = host.grain::<Account>("alice").transfer("bob".into(), 30).unwrap_err();
    assert_eq!(failure.code(), "deadline");
    assert_eq!(balances(&host), [70, 0]);
    assert_eq!(host.grain::<Account>("alice").in_doubt(), Ok(30));
}

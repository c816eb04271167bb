//! A configuration's form on the wire and on the disk: hosts are named once and then by their place in a table.
//!
//! 4,096 slots with three hosts of 16 bytes, twice, would be 400 KB in each message; so it's some 20 KB. What is read is
//! checked: a peer's table that points nowhere is an error, never a panic.
//!
//! **Not here:** which encoder writes it. Anything that serde drives will do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{ClusterId, Config, ConfigError, ConfigHash, ConfigNumber, Member, Replicas, SlotReplicas, Source};
use crate::id::HostId;
use crate::slot::Slot;

/// What serde sees of a [`Config`].
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct ConfigForm {
    n: ConfigNumber,
    cluster: ClusterId,
    prev_hash: ConfigHash,
    members: Vec<Member>,
    voters: Vec<HostId>,
    r: u8,
    /// Hosts that aren't members any more but are still somebody's source.
    former: Vec<HostId>,
    slots: Vec<SlotForm>,
}

/// A slot, with hosts as places in members, then former.
#[derive(Clone, Serialize, Deserialize)]
struct SlotForm {
    replicas: Vec<u16>,
    since: ConfigNumber,
    /// A source's hosts are left out when they are `replicas`.
    sources: Vec<(ConfigNumber, Vec<u16>)>,
}

impl From<Config> for ConfigForm {
    fn from(config: Config) -> ConfigForm {
        let mut places: BTreeMap<HostId, u16> = BTreeMap::new();
        for member in &config.members {
            let next = places.len() as u16;
            places.entry(member.host).or_insert(next);
        }
        let mut former = Vec::new();
        let mut place = |host: &HostId| {
            let next = places.len() as u16;
            *places.entry(*host).or_insert_with(|| {
                former.push(*host);
                next
            })
        };
        let mut places = |replicas: &Replicas| replicas.hosts().iter().map(&mut place).collect::<Vec<u16>>();
        let mut slots = Vec::with_capacity(config.slots.len());
        for slot in config.slots.iter() {
            let known = |source: &Source| source.replicas == slot.replicas;
            let sources = slot.sources.iter().map(|source| match known(source) {
                true => (source.n, Vec::new()),
                false => (source.n, places(&source.replicas)),
            });
            let sources = sources.collect();
            slots.push(SlotForm {
                replicas: places(&slot.replicas),
                since: slot.since,
                sources,
            });
        }
        let Config {
            n,
            cluster,
            prev_hash,
            members,
            voters,
            r,
            ..
        } = config;
        ConfigForm {
            n,
            cluster,
            prev_hash,
            members,
            voters,
            r,
            former,
            slots,
        }
    }
}

impl TryFrom<ConfigForm> for Config {
    type Error = ConfigError;
    fn try_from(form: ConfigForm) -> Result<Config, ConfigError> {
        let hosts: Vec<HostId> = form
            .members
            .iter()
            .map(|member| member.host)
            .chain(form.former)
            .collect();
        let read = |places: &[u16]| {
            let found: Option<Vec<HostId>> = places
                .iter()
                .map(|place| hosts.get(usize::from(*place)).copied())
                .collect();
            found.and_then(|hosts| Replicas::new(&hosts))
        };
        let slots = form.slots.iter().zip(Slot::all()).map(|(slot, number)| {
            let replicas = read(&slot.replicas).ok_or(ConfigError::Slot(number))?;
            let sources = slot.sources.iter().map(|(n, places)| {
                let replicas = match places[..] {
                    [] => Some(replicas),
                    _ => read(places),
                };
                Some(Source {
                    n: *n,
                    replicas: replicas?,
                })
            });
            let sources: Option<Vec<Source>> = sources.collect();
            Ok(SlotReplicas {
                replicas,
                since: slot.since,
                sources: sources.ok_or(ConfigError::Slot(number))?,
            })
        });
        let config = Config {
            n: form.n,
            cluster: form.cluster,
            prev_hash: form.prev_hash,
            members: form.members,
            voters: form.voters,
            r: form.r,
            slots: slots.collect::<Result<Vec<_>, ConfigError>>()?.into(),
        };
        if form.slots.len() != config.slots.len() {
            return Err(ConfigError::Replicas);
        }
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> HostId {
        HostId([n; 16])
    }

    /// Two hosts, and a source that has left.
    fn second() -> Config {
        let member = |n| Member {
            host: host(n),
            weight: 1,
            zone: "a".to_string(),
        };
        let before = Config::first(ClusterId([9; 16]), member(7));
        let replicas = Replicas::new(&[host(2), host(1)]).unwrap();
        let here = before.slot(Slot::default()).then(before.n.next(), replicas, true);
        Config {
            n: before.n.next(),
            prev_hash: before.hash(),
            members: vec![member(1), member(2)],
            voters: vec![host(1)],
            r: 2,
            slots: vec![here; 4096].into(),
            ..before
        }
    }

    #[test]
    fn a_configuration_is_read_back_as_it_was() {
        assert_eq!(Config::try_from(ConfigForm::from(second())), Ok(second()));
    }

    #[test]
    fn a_form_that_points_nowhere_is_an_error() {
        let broken = |change: fn(&mut ConfigForm)| {
            let mut form = ConfigForm::from(second());
            change(&mut form);
            Config::try_from(form).unwrap_err()
        };
        let slot = |n| ConfigError::Slot(Slot::new(n).unwrap());
        assert_eq!(broken(|form| form.slots[5].replicas[0] = 3), slot(5));
        assert_eq!(broken(|form| form.slots[6].sources[0].1 = vec![2, 2]), slot(6));
        assert_eq!(broken(|form| form.former.clear()), slot(0));
        assert_eq!(
            broken(|form| form.slots.push(form.slots[0].clone())),
            ConfigError::Replicas
        );
    }
}

//! The flags of `granary up` about its cluster; the same names stand in the section `[cluster]` of `granary.toml`, without `cluster-`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use granary_host::config::ClusterConfig;
use serde::Deserialize;

use crate::units;
use crate::up::resolve;

/// Suspicion takes some seconds, and hosts that came back are taken in again by then.
const REMOVE_AFTER_LEAST: Duration = Duration::from_secs(5);

/// See the file's text.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Membership {
    /// Where other hosts reach this one (UDP) [default: the port after HTTP's]
    #[arg(
        id = "cluster_listen",
        long = "cluster-listen",
        env = "GRANARY_CLUSTER_LISTEN",
        value_name = "ADDR"
    )]
    listen: Option<String>,
    /// The address that other hosts are told, if it isn't the one listened on
    #[arg(
        id = "cluster_advertise",
        long = "cluster-advertise",
        env = "GRANARY_CLUSTER_ADVERTISE",
        value_name = "ADDR"
    )]
    advertise: Option<String>,
    /// A join token: joins the cluster of the host that printed it
    #[arg(long, env = "GRANARY_JOIN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<String>,
    /// `name:port` of a host to ask for others when nobody is known
    #[arg(long, env = "GRANARY_SEED", value_name = "ADDR", value_delimiter = ',')]
    seed: Vec<String>,
    /// Hosts of one zone may fail together: copies are spread over zones
    #[arg(long, env = "GRANARY_ZONE", value_name = "NAME")]
    zone: Option<String>,
    /// This host's share of the copies relative to the others' [default: 100]
    #[arg(long, env = "GRANARY_WEIGHT", value_name = "NUMBER")]
    weight: Option<u32>,
    /// A host that is silent for so long is taken out of the configuration, and its copies are made anew [default: 60s]
    #[arg(
        id = "cluster_remove_after",
        long = "cluster-remove-after",
        env = "GRANARY_CLUSTER_REMOVE_AFTER",
        value_name = "DURATION"
    )]
    remove_after: Option<String>,
    /// A host that joins gets its share of the grains when it has been there for so long [default: 3s]
    #[arg(
        id = "cluster_join_after",
        long = "cluster-join-after",
        env = "GRANARY_CLUSTER_JOIN_AFTER",
        value_name = "DURATION"
    )]
    join_after: Option<String>,
    /// No cluster: nobody can join, and no other host is listened for
    #[arg(long, env = "GRANARY_ALONE")]
    alone: bool,
}

impl Membership {
    /// The settings; none for a host that is alone: it's told so, or listens on all addresses and wasn't told which of them others shall use.
    pub(crate) fn settings(self, file: Membership, http: SocketAddr) -> Result<Option<ClusterConfig>, String> {
        let listen = self.listen.or(file.listen);
        let advertise = self.advertise.or(file.advertise);
        let join = self.join.or(file.join);
        let seeds = if self.seed.is_empty() { file.seed } else { self.seed };
        let says_something = listen.is_some() || advertise.is_some() || join.is_some() || !seeds.is_empty();
        if self.alone || file.alone {
            let mistake =
                "a host that is alone has no cluster: leave out either `alone` or what is said of the cluster";
            return if says_something {
                Err(mistake.to_owned())
            } else {
                Ok(None)
            };
        }
        let listen = match listen {
            Some(listen) => resolve(&listen)?,
            None if http.ip().is_unspecified() && !says_something => return Ok(None),
            None => SocketAddr::new(http.ip(), port_after(http.port())),
        };
        let mut config = ClusterConfig::new(listen);
        config.advertise = match advertise {
            Some(address) => Some(resolve(&address)?),
            None => None,
        };
        config.join = join;
        config.seeds = seeds;
        config.zone = self.zone.or(file.zone).unwrap_or_default();
        config.weight = self.weight.or(file.weight).unwrap_or(config.weight);
        config.check()?;
        if let Some(silence) = self.remove_after.or(file.remove_after) {
            config.remove_after = remove_after(&silence)?;
        }
        if let Some(presence) = self.join_after.or(file.join_after) {
            config.join_after = units::duration(&presence)?;
        }
        Ok(Some(config))
    }
}

/// Not shorter than a host may be suspected: those that merely pause would lose their copies each time.
fn remove_after(text: &str) -> Result<Duration, String> {
    let silence = units::duration(text)?;
    if silence < REMOVE_AFTER_LEAST {
        return Err(format!(
            "--cluster-remove-after {text} is too short: a host that pauses for less than {REMOVE_AFTER_LEAST:?} isn't even suspected"
        ));
    }
    Ok(silence)
}

/// A free one when HTTP's is.
fn port_after(port: u16) -> u16 {
    if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joins_of(none: &Membership) -> Membership {
        Membership {
            join: Some("granary-join-x".to_owned()),
            ..none.clone()
        }
    }

    #[test]
    fn a_host_is_a_cluster_unless_it_is_told_to_be_alone_or_can_not_be_reached() {
        let http = "10.0.0.1:7777".parse().unwrap();
        let none = Membership::default();
        let config = none.clone().settings(none.clone(), http).unwrap().unwrap();
        assert_eq!(config.listen, "10.0.0.1:7778".parse().unwrap());
        let alone = Membership {
            alone: true,
            ..none.clone()
        };
        assert!(alone.clone().settings(none.clone(), http).unwrap().is_none());
        let anywhere = "0.0.0.0:7777".parse().unwrap();
        assert!(none.clone().settings(none.clone(), anywhere).unwrap().is_none());
        let config = joins_of(&none).settings(none.clone(), http).unwrap().unwrap();
        assert_eq!(config.listen, "10.0.0.1:7778".parse().unwrap());
        assert!(alone.settings(joins_of(&none), http).unwrap_err().contains("alone"));
        let listens = Membership {
            listen: Some("127.0.0.1:0".to_owned()),
            ..none.clone()
        };
        assert!(none.settings(listens, http).unwrap().unwrap().join.is_none());
    }

    #[test]
    fn the_silence_before_a_host_is_removed_can_be_set_and_is_not_shorter_than_a_pause() {
        let http = "10.0.0.1:7777".parse().unwrap();
        let after = |text: &str| {
            let set = Membership {
                remove_after: Some(text.to_owned()),
                ..Membership::default()
            };
            set.settings(Membership::default(), http)
                .map(|config| config.unwrap().remove_after)
        };
        assert_eq!(after("10m"), Ok(Duration::from_secs(600)));
        assert!(after("1s").unwrap_err().contains("too short"));
        assert!(after("soon").is_err());
    }
}

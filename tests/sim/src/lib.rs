//! A cluster in one thread: real machines, virtual everything else.
//!
//! The machines of `granary-core` do no I/O, so a simulator can be their clock, network, disk and clients. One number, the seed,
//! decides all that happens: a failure is repeated by its seed, with a trace. What must hold is checked at every step, by the
//! names that the machines' own texts use.
//!
//! 1. [`world`] runs a seed: [`queue`] is the time, [`clock`] a host's, [`network`] and [`disk`] lose things, [`faults`] says what goes wrong.
//! 2. [`clients`] work; [`guest`] is what their grains do.
//! 3. [`subject`] is what is simulated: [`replicated`] hosts with the real replication, under a [`layout`].
//! 4. [`checkers`] say what must not happen, [`coverage`] what has to.
//! 5. [`whole`] is the other world: nobody there has an authority's knowledge, hosts agree on configurations, hand slots over and find grains by
//!    themselves. Dearer, so fewer seeds.
//! 6. [`seeds`] are run on all cores.
//!
//! **Not here:** sockets, tokio, real disks and processes; tests of the whole host have those.

pub mod checkers;
pub mod clients;
pub mod clock;
pub mod coverage;
pub mod dice;
pub mod disk;
pub mod faults;
pub mod floors;
pub mod guest;
pub mod layout;
pub mod network;
pub mod queue;
pub mod replicated;
pub mod seeds;
pub mod subject;
pub mod whole;
pub mod world;

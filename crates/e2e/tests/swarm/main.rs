//! The swarm's journeys, end to end: real daemons on hosts of their own, driven by the stock docker CLI.
//!
//! Needs root and the docker CLI; a test says so and passes where they are missing.

mod api_walk;
mod attachable;
mod both;
mod chaos;
mod client;
mod coexist;
mod connect;
mod devices;
mod doctor;
mod drain;
mod encrypted;
mod faults;
mod form;
mod friends;
mod gossip;
mod health;
mod inside;
mod ipv6;
mod journey_one;
mod keys;
mod logdrivers;
mod logs;
mod machine;
mod modes;
mod names;
mod netopts;
mod options;
mod placement;
mod plugins;
mod refusals;
mod registry;
mod rounds;
mod sctp;
mod secrets;
mod service;
mod shells;
mod shown;
mod specs;
mod stacks;
mod tasks;
mod updates;
mod upkeep;
mod volumes;
mod wordpress;

/// Ends a test where it cannot run.
macro_rules! needs {
    () => {
        if let Some(why) = skep_e2e::missing() {
            return skep_testkit::skip(why);
        }
    };
}
pub(crate) use needs;

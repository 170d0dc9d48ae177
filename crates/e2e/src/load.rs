//! Load that counts: clients outside of the swarm that ask for the demo's page without end, each time on a new connection, and
//! remember every request that was not answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::web;

/// Failures that are told in words, and slow answers; the rest is counted.
const TOLD: usize = 20;
/// An answer that took longer lost a packet on its way: TCP sends the first one again after a second.
const SLOW: Duration = Duration::from_millis(900);

/// What came of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not.
    pub failed: u64,
    /// The first failures: seconds since the start, and why.
    pub failures: Vec<String>,
    /// Answers by the version that the page says.
    pub versions: BTreeMap<String, u64>,
    /// Answers by the container that the page names.
    pub hosts: BTreeMap<String, u64>,
    /// The longest that an answer took.
    pub longest: Duration,
    /// The first slow answers: seconds since the start, the address that was asked, and who answered.
    pub slow: Vec<String>,
}

/// Clients that ask until they are told to stop.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients that ask at each address in turn, pausing so long between requests.
    #[must_use]
    pub fn start(addresses: &[String], port: u16, clients: usize, pause: Duration) -> Self {
        let (stop, tally) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Tally>>::default());
        let start = Instant::now();
        let clients = (0..clients)
            .map(|number| {
                let (stop, tally, addresses) = (stop.clone(), tally.clone(), addresses.to_vec());
                std::thread::spawn(move || {
                    for address in addresses.iter().cycle().skip(number) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let asked = Instant::now();
                        let page = web::get(address, port);
                        note(&tally, address, page, asked - start, asked.elapsed());
                        std::thread::sleep(pause);
                    }
                })
            })
            .collect();
        Self { stop, tally, clients }
    }

    /// Requests until now: answered and failed.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        let t = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        (t.answered, t.failed)
    }

    /// Ends the load.
    ///
    /// # Panics
    /// If a client did.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap_or_else(|_| panic!("a client of the load panicked"));
        }
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn note(tally: &Mutex<Tally>, address: &str, page: Result<String, String>, at: Duration, took: Duration) {
    let mut t = tally.lock().unwrap_or_else(PoisonError::into_inner);
    t.longest = t.longest.max(took);
    match page {
        Ok(page) => {
            t.answered += 1;
            if took > SLOW && t.slow.len() < TOLD {
                let host = web::field(&page, "Hostname");
                t.slow.push(format!(
                    "{:.3} s: {address}, answered by {host} after {:.3} s",
                    at.as_secs_f64(),
                    took.as_secs_f64()
                ));
            }
            *t.versions.entry(web::field(&page, "Version")).or_default() += 1;
            *t.hosts.entry(web::field(&page, "Hostname")).or_default() += 1;
        }
        Err(why) => {
            t.failed += 1;
            if t.failures.len() < TOLD {
                t.failures.push(format!("{:.3} s: {why} after {:.3} s", at.as_secs_f64(), took.as_secs_f64()));
            }
        }
    }
}

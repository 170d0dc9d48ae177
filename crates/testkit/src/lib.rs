//! What tests of the whole share: images packed from the distribution's own software, the stock docker client, a registry,
//! a client of served pages, and waiting for what must become true.
//!
//! Helpers panic with what was tried and what came of it: they are for tests, and nothing that ships uses them.

#![forbid(unsafe_code)]

pub mod docker;
pub mod http;
pub mod images;
pub mod linear;
pub mod registry;
pub mod typed;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Says that a test is skipped, and why: `return skip("needs root")`.
///
/// # Panics
/// Where nothing may be skipped: `CI=true` or `SKEP_NO_SKIP=1` in the environment.
pub fn skip(reason: &str) {
    let set = |key: &str, value: &str| std::env::var(key).is_ok_and(|v| v == value);
    assert!(!(set("CI", "true") || set("SKEP_NO_SKIP", "1")), "this test must not be skipped here, but it {reason}");
    println!("SKIP: {reason}");
}

/// Waits until a condition holds.
///
/// # Panics
/// With `what` when it does not hold in time.
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(POLL);
    }
}

/// Waits until a probe gives a value; one that does not says why.
///
/// # Panics
/// With `what` and the last reason when it gives none in time.
pub fn wait_for<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) => assert!(begin.elapsed() < limit, "{what}: not within {limit:?}: {why}"),
        }
        std::thread::sleep(POLL);
    }
}

/// Where a program is, also in the directories that only root's PATH has.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// The skep binary under test: `SKEP_BIN`, or the one that was built beside this test.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn skep_binary() -> PathBuf {
    if let Some(given) = std::env::var_os("SKEP_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("find this test's own binary: {e}"));
    // Tests are in target/PROFILE/deps, the binary is one above.
    let beside = test.ancestors().skip(1).map(|dir| dir.join("skep")).find(|p| p.is_file());
    beside.unwrap_or_else(|| panic!("no skep binary near {}: build it, or set SKEP_BIN", test.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_condition() {
        let mut looks = 0;
        wait_until(Duration::from_secs(5), "three looks", || {
            looks += 1;
            looks == 3
        });
        assert_eq!(wait_for(Duration::from_secs(5), "a value", || Ok::<_, String>(7)), 7);
    }

    #[test]
    #[should_panic(expected = "the moon: not within 30ms: it is day")]
    fn waiting_in_vain_says_for_what() {
        wait_for(Duration::from_millis(30), "the moon", || Err::<(), _>("it is day".to_owned()));
    }
}

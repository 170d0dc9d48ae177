//! Health checks of containers: how they are asked for, and what came of them (`swarm-semantics` 2.4 and 7.1).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Time;

/// A health check as an image or a user gives it. Zero and empty mean "as the image has it", else Docker's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct HealthConfig {
    /// `NONE`, or `CMD` and a program with its arguments, or `CMD-SHELL` and a line for the shell.
    #[serde(default)]
    pub test: Vec<String>,
    /// Between the end of one probe and the next. Default 30 s.
    #[serde(default)]
    pub interval: Duration,
    /// A probe that takes longer has failed. Default 30 s.
    #[serde(default)]
    pub timeout: Duration,
    /// Failures before this after the start do not count. Default none.
    #[serde(default)]
    pub start_period: Duration,
    /// Between probes during the start period. Default 5 s.
    #[serde(default)]
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy. Default 3.
    #[serde(default)]
    pub retries: u32,
}

impl HealthConfig {
    /// This one, and what it leaves open from another.
    #[must_use]
    pub fn over(mut self, image: &Self) -> Self {
        if self.test.is_empty() {
            self.test.clone_from(&image.test);
        }
        let pairs = [
            (&mut self.interval, image.interval),
            (&mut self.timeout, image.timeout),
            (&mut self.start_period, image.start_period),
            (&mut self.start_interval, image.start_interval),
        ];
        for (own, other) in pairs {
            if own.is_zero() {
                *own = other;
            }
        }
        if self.retries == 0 {
            self.retries = image.retries;
        }
        self
    }

    /// The program and arguments of a probe; `None` if there is nothing to run.
    #[must_use]
    pub fn command(&self) -> Option<Vec<String>> {
        let (kind, rest) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" if !rest.is_empty() => Some(rest.to_vec()),
            "CMD-SHELL" if !rest.is_empty() => {
                Some(["/bin/sh", "-c"].into_iter().map(str::to_owned).chain([rest.join(" ")]).collect())
            }
            _ => None,
        }
    }

    /// Time between probes, by whether the start period still lasts.
    #[must_use]
    pub fn pause(&self, starting: bool) -> Duration {
        let or = |own: Duration, default| if own.is_zero() { Duration::from_secs(default) } else { own };
        if starting { or(self.start_interval, 5) } else { or(self.interval, 30) }
    }

    /// How long a probe may take.
    #[must_use]
    pub fn limit(&self) -> Duration {
        if self.timeout.is_zero() { Duration::from_secs(30) } else { self.timeout }
    }

    /// Failures in a row that make it unhealthy.
    #[must_use]
    pub fn tolerance(&self) -> u32 {
        if self.retries == 0 { 3 } else { self.retries }
    }
}

/// How a container with a health check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum HealthStatus {
    /// No probe has succeeded since the start.
    #[default]
    Starting,
    /// The last probes succeeded.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// The API's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Probe {
    /// Began.
    pub start: Time,
    /// Ended.
    pub end: Time,
    /// Exit code; -1 if it took too long or could not be run.
    pub exit_code: i32,
    /// What it printed, cut short.
    pub output: String,
}

/// Health of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Health {
    /// Status.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last [`Health::KEPT`] probes, oldest first.
    #[serde(default)]
    pub log: Vec<Probe>,
}

impl Health {
    /// Probes remembered, as many as Docker does.
    pub const KEPT: usize = 5;

    /// Takes the outcome of a probe; `early` while the start period lasts. Returns whether the status changed.
    pub fn note(&mut self, config: &HealthConfig, probe: Probe, early: bool) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if self.status != HealthStatus::Starting || !early {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= config.tolerance() {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() >= Self::KEPT {
            self.log.drain(..=self.log.len() - Self::KEPT);
        }
        self.log.push(probe);
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe { exit_code, ..Probe::default() }
    }

    #[test]
    fn failures_count_in_a_row_and_not_during_the_start() {
        let config = HealthConfig { retries: 2, ..HealthConfig::default() };
        let mut h = Health::default();
        for _ in 0..4 {
            assert!(!h.note(&config, probe(1), true));
        }
        assert_eq!((h.status, h.failing_streak), (HealthStatus::Starting, 0));
        assert!(h.note(&config, probe(0), true));
        // Once it was healthy, the start is over.
        assert!(!h.note(&config, probe(1), true));
        assert!(!h.note(&config, probe(0), false));
        assert!(!h.note(&config, probe(1), false));
        assert!(h.note(&config, probe(-1), false));
        assert_eq!((h.status, h.failing_streak), (HealthStatus::Unhealthy, 2));
        assert!(h.note(&config, probe(0), false));
        assert_eq!(h.log.len(), Health::KEPT);
        assert_eq!(h.log.iter().map(|p| p.exit_code).collect::<Vec<_>>(), [1, 0, 1, -1, 0]);
    }

    #[test]
    fn a_user_overrides_parts_of_the_images_check() {
        let image = HealthConfig {
            test: vec!["CMD-SHELL".into(), "curl".into()],
            interval: Duration::from_secs(7),
            retries: 9,
            ..HealthConfig::default()
        };
        let own = HealthConfig { interval: Duration::from_secs(1), ..HealthConfig::default() }.over(&image);
        assert_eq!(own.command().as_deref(), Some(&["/bin/sh".to_owned(), "-c".to_owned(), "curl".to_owned()][..]));
        assert_eq!((own.pause(false), own.pause(true), own.tolerance()), (Duration::from_secs(1), Duration::from_secs(5), 9));
        let none = HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() }.over(&image);
        assert_eq!(none.command(), None);
    }
}

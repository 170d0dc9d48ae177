//! Random and damaged files: whatever they are, loading ends, does not panic, and names places.

mod common;

use common::{faults, stack};
use proptest::prelude::*;

const SEEDS: &[&str] = &[
    include_str!("data/wordpress.yml"),
    include_str!("data/wordpress-secret.yml"),
    include_str!("data/calculator.yml"),
    "x-a: &a {image: i}\nservices:\n  web:\n    <<: *a\n    extends: {service: b}\n    ports: ['80-81:${P:-80}-81/udp', {target: 5}]\n  b: *a\n",
];

fn places(told: &str) -> bool {
    told.is_empty() || told.lines().all(|l| l.starts_with('(') || l.split(':').nth(2).is_some_and(|c| c.parse::<u32>().is_ok()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in "[-a-z0-9 \\n\\t:{}\\[\\],&*!|>'\"%@`?#$<~.=]{0,80}") {
        let told = faults(&text);
        prop_assert!(places(&told), "{}", told);
    }

    #[test]
    fn random_unicode(text in "\\PC{0,60}") {
        prop_assert!(places(&faults(&text)));
    }

    #[test]
    fn random_values_of_keys(key in "[a-z_]{2,12}", value in "[-a-z0-9 :{}\\[\\],/.$']{0,40}") {
        let text = format!("services:\n  web:\n    image: i\n    {key}: {value}\n");
        prop_assert!(places(&faults(&text)));
    }

    #[test]
    fn random_specs(ports in "[0-9:/a-z-]{0,16}", mount in "[a-z:/.,~]{0,16}", line in "[a-z'\"\\\\ #]{0,16}") {
        let quoted = |t: &str| t.replace('\'', "''");
        let text = format!(
            "services: {{web: {{image: i, ports: ['{}'], volumes: ['{}'], command: '{}'}}}}",
            quoted(&ports), quoted(&mount), quoted(&line)
        );
        prop_assert!(places(&faults(&text)));
    }

    #[test]
    fn damaged_files(
        seed in 0..SEEDS.len(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[-a-z0-9 \\n:{}\\[\\],&*!'\"$]{0,6}"), 1..5),
    ) {
        let mut chars: Vec<char> = SEEDS[seed].chars().collect();
        for (at, length, put) in cuts {
            let at = at.index(chars.len() + 1);
            let end = (at + length).min(chars.len());
            chars.splice(at..end, put.chars());
        }
        let text: String = chars.into_iter().collect();
        prop_assert!(places(&faults(&text)), "{}", text);
        // The same text gives the same stack, and its printed form the same again.
        if let Ok(first) = stack(&text) {
            let bodies = |s: &skep_compose::Stack| s.services.iter().map(|s| s.body.clone()).collect::<Vec<_>>();
            let printed = common::project(&[("a.yml", &text)], &["a.yml"]).unwrap().yaml();
            match stack(&printed) {
                Ok(again) => prop_assert_eq!(bodies(&first), bodies(&again), "{}", printed),
                Err(told) => prop_assert!(false, "{}\n{}\n{}", text, printed, told),
            }
        }
    }
}

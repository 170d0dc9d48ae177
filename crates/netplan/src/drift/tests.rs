//! Whatever is changed in what was found is told, and made good by the steps that follow from it.

use super::*;
use crate::diff::tests::{Gen, facts, states};
use crate::diff::{absorb, diff};
use crate::nft::{Datum, Verdict};

/// What a faithful kernel would show of a state.
fn seen(state: &NetnsState) -> Seen {
    let link = |link: &Link| SeenLink {
        kind: link.kind.clone(),
        mtu: link.mtu.unwrap_or(1500),
        mac: link.mac,
        master: link.master.clone(),
        mode: link.master.as_ref().map(|_| link.mode),
        up: true,
    };
    Seen {
        links: state.links.iter().map(|(name, l)| (name.clone(), link(l))).collect(),
        addresses: state.addresses.clone(),
        routes: state.routes.clone(),
        rules: state.rules.clone(),
        neighbours: state.neighbours.clone(),
        wireguard: state.wireguard.clone(),
        fdb: state.fdb.clone(),
        sysctls: state.sysctls.clone(),
        tables: state.tables.clone(),
    }
}

fn told(ns: &Ns, wanted: &NetnsState, seen: &Seen) -> Vec<Difference> {
    differences(ns, wanted, seen, |name| name == "left")
}

/// Takes, adds or changes one thing of what was found; `None` where there is nothing of that kind.
fn harm(g: &mut Gen, seen: &mut Seen) -> Option<()> {
    fn pick<K: Clone + Ord, V>(g: &mut Gen, map: &BTreeMap<K, V>) -> Option<K> {
        let n = u64::try_from(map.len()).ok().filter(|n| *n > 0)?;
        map.keys().nth(usize::try_from(g.below(n)).ok()?).cloned()
    }
    match g.below(10) {
        0 => {
            let name = pick(g, &seen.links)?;
            seen.links.remove(&name);
        }
        1 => {
            let name = pick(g, &seen.links)?;
            let link = seen.links.get_mut(&name)?;
            match g.below(4) {
                0 => link.up = false,
                1 => link.mtu += 1,
                2 => link.master = Some("other".to_owned()),
                _ => link.mode = None,
            }
        }
        2 => {
            let key = pick(g, &seen.fdb)?;
            match g.below(2) {
                0 => _ = seen.fdb.remove(&key),
                _ => seen.fdb.get_mut(&key)?.dst = Ipv4Addr::new(9, 9, 9, 9),
            }
        }
        3 => {
            let key = pick(g, &seen.fdb)?;
            let entry = FdbEntry { dst: Ipv4Addr::new(9, 9, 9, 9), bridged: false };
            seen.fdb.insert((key.0, Mac([1; 6])), entry);
        }
        4 => {
            let key = pick(g, &seen.neighbours)?;
            seen.neighbours.remove(&key);
        }
        5 => {
            let key = pick(g, &seen.tables).filter(|k| k.1 == "skep")?;
            let table = seen.tables.get_mut(&key)?;
            let chain = pick(g, &table.chains)?;
            let rules = &mut table.chains.get_mut(&chain)?.rules;
            match (g.below(3), rules.is_empty()) {
                (0, false) => _ = rules.pop(),
                (1, false) => rules[0] = Vec::new(),
                _ => rules.push(Vec::new()),
            }
        }
        6 => {
            let key = pick(g, &seen.tables).filter(|k| k.1 == "skep")?;
            let table = seen.tables.get_mut(&key)?;
            let name = pick(g, &table.sets)?;
            let set = table.sets.get_mut(&name)?;
            let element = pick(g, &set.elements)?;
            match g.below(2) {
                0 => _ = set.elements.remove(&element),
                _ => _ = set.elements.insert(element, Datum::Verdict(Verdict::Drop)),
            }
        }
        7 => {
            let key = pick(g, &seen.tables)?;
            seen.tables.remove(&key);
        }
        8 => _ = seen.rules.pop_first()?,
        _ => {
            let kind = LinkKind::Bridge;
            let link = SeenLink { kind, mtu: 1500, mac: None, master: None, mode: None, up: true };
            seen.links.insert("left".to_owned(), link);
        }
    }
    Some(())
}

#[test]
fn what_is_as_it_should_be_is_not_told() {
    let mut g = Gen(7);
    for _ in 0..500 {
        for (ns, state) in
            [Ns::Host, Ns::Overlay("o".to_owned()), Ns::Sandbox("s".to_owned())].iter().zip(states(&facts(&mut g)))
        {
            assert_eq!(told(ns, &state, &seen(&state)), []);
        }
    }
}

#[test]
fn each_harm_is_told_and_made_good() {
    let mut g = Gen(3);
    let mut harmed = 0;
    for _ in 0..3_000 {
        let [host, overlay, _] = &states(&facts(&mut g))[..] else { panic!("three") };
        let (ns, wanted) = match g.below(2) {
            0 => (Ns::Host, host),
            _ => (Ns::Overlay("o".to_owned()), overlay),
        };
        let mut there = seen(wanted);
        if harm(&mut g, &mut there).is_none() || there == seen(wanted) {
            continue;
        }
        // What is not wanted of a link is nobody's to change.
        let before = seen(wanted);
        let unheeded = |(name, now): (&String, &SeenLink)| {
            let (Some(link), Some(was)) = (wanted.links.get(name), before.links.get(name)) else { return false };
            let size = now.mtu == was.mtu || link.mtu.is_none();
            let port = link.master.is_none() || (&now.master, now.mode) == (&was.master, was.mode);
            now != was && now.up == was.up && size && port
        };
        if there.links.iter().any(unheeded) {
            continue;
        }
        harmed += 1;
        let found = told(&ns, wanted, &there);
        assert!(!found.is_empty(), "{there:#?}");
        assert!(found.iter().all(|d| !d.to_string().is_empty()));
        let mut applied = wanted.clone();
        unlearn(&mut applied, &found);
        let steps = diff(&applied, wanted);
        assert!(!steps.is_empty(), "nothing follows from {found:?}");
        steps.iter().for_each(|step| absorb(&mut applied, step));
        assert_eq!(diff(&applied, wanted), [], "{found:?}");
    }
    assert!(harmed > 1_000, "{harmed} cases");
}

#[test]
fn a_containers_own_changes_are_its_own() {
    let mut g = Gen(5);
    let shares = |s: &NetnsState| s.links.values().any(|l| l.mac.is_some());
    let mut all = std::iter::repeat_with(|| states(&facts(&mut g)).remove(2));
    let state = all.find(|s| !s.tables.is_empty() && shares(s)).expect("some");
    let ns = Ns::Sandbox("s".to_owned());
    let mut there = seen(&state);
    let share = there.links.remove("eth0").expect("the overlay network's");
    there.links.insert("wan".to_owned(), share);
    there.addresses.clear();
    there.routes.clear();
    there.sysctls.clear();
    there.links.values_mut().for_each(|l| l.up = false);
    assert_eq!(told(&ns, &state, &there), []);
    there.tables.clear();
    assert_eq!(told(&ns, &state, &there).len(), 1);
    there.links.clear();
    assert_eq!(told(&ns, &state, &there).len(), 1 + state.links.len());
}

#[test]
fn a_replaced_element_is_named() {
    let mut wanted = Table::default();
    let mut set = crate::nft::Set::new(&[crate::nft::Field::Ipv4], crate::nft::SetData::Value(vec![crate::nft::Field::Ipv4]));
    set.elements.insert(vec![10, 0, 0, 1], Datum::Value(vec![10, 0, 0, 2]));
    wanted.sets.insert("be".to_owned(), set);
    let mut found = wanted.clone();
    let there = found.sets.get_mut("be").expect("made");
    there.elements.insert(vec![10, 0, 0, 1], Datum::Value(vec![10, 0, 0, 3]));
    assert_eq!(table::differences(&wanted, Some(&found)), ["be: 10.0.0.1 leads to 10.0.0.3 instead of 10.0.0.2"]);
    assert_eq!(table::differences(&wanted, None), ["it is missing"]);
    let shared = Table { shared: true, ..Table::default() };
    assert_eq!(table::differences(&shared, Some(&found)), Vec::<String>::new());
}

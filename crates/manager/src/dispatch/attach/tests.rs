//! Lists of nodes against tables that tests make.

#![allow(clippy::unwrap_used)]
use skep_types::NetworkId;
use skep_types::net::V6Range;
use skep_types::object::Meta;
use skep_types::spec::{Availability, NetworkSpec, Role};

use super::*;

const NODE: NodeId = NodeId(1);

/// Two nodes, and a network for containers and one for tasks alone, each with room for five.
fn tables() -> Store {
    let mut store = Store::default();
    let network = |id: u8, name: &str, attachable| {
        let subnet = Ipv4Net::new(Ipv4Addr::new(10, 0, id, 0), 29);
        let spec = NetworkSpec { name: name.into(), attachable, ..NetworkSpec::default() };
        let v6 = attachable.then(|| V6Range { subnet: "fd00:5::/64".parse().unwrap(), gateway: "fd00:5::1".parse().unwrap() });
        let (meta, gateway, id) = (Meta::default(), subnet.nth(1).unwrap(), u128::from(id));
        Op::PutNetwork(Box::new(Network { id: NetworkId(id), meta, spec, subnet, gateway, vni: 4096 + id as u32, v6 }))
    };
    let node = |n: u128| Op::PutNode(Box::new(Node::new(NodeId(n), Role::Worker, Availability::Active)));
    write(&mut store, vec![network(1, "open", true), network(2, "closed", false), node(1), node(2)]);
    store
}

fn write(store: &mut Store, ops: Vec<Op>) {
    store.apply(store.applied() + 1, &Transaction::new(Time(0), vec![], ops)).unwrap();
}

fn wanted(container: char, network: &str) -> Wanted {
    let container = container.to_string().repeat(64);
    Wanted { names: vec![container[..4].to_owned()], container, network: network.into(), addr: None, addr6: None }
}

/// What a node is told, which is written.
fn ask(store: &mut Store, node: NodeId, number: u64, wanted: Vec<Wanted>) -> Vec<Result<String, String>> {
    let (_, ops, answer) = decide(store, &store.node(node).unwrap().clone(), &WantedList { number, wanted }, Time(0));
    write(store, ops);
    match answer {
        Answer::Given { given, .. } => {
            given.into_iter().map(|g| g.map(|h| h.addr.to_string()).map_err(|e| e.message)).collect()
        }
        Answer::Late { noted } => vec![Err(format!("late: {noted}"))],
    }
}

#[test]
fn what_a_list_names_is_kept_and_the_rest_released() {
    let mut s = tables();
    let first = ask(&mut s, NODE, 1, vec![wanted('a', "open"), wanted('b', "open")]);
    assert_eq!(first, [Ok("10.0.1.2/29".into()), Ok("10.0.1.3/29".into())]);
    assert_eq!(ask(&mut s, NodeId(2), 1, vec![wanted('c', "open")]), [Ok("10.0.1.4/29".into())]);
    // The one that stays keeps its address though another one comes first, which gets the one that is released.
    let next = ask(&mut s, NODE, 2, vec![wanted('d', "open"), wanted('b', &NetworkId(1).to_string())]);
    assert_eq!(next, [Ok("10.0.1.2/29".into()), Ok("10.0.1.3/29".into())]);
    assert_eq!(s.attached(NetworkId(1)).count(), 3);
    // Asked for by name and by id, it is the same one.
    let twice = ask(&mut s, NODE, 3, vec![wanted('d', &NetworkId(1).to_string()), wanted('d', "open"), wanted('b', "open")]);
    assert_eq!(twice, [Ok("10.0.1.2/29".into()), Ok("10.0.1.2/29".into()), Ok("10.0.1.3/29".into())]);
    assert_eq!(s.attached(NetworkId(1)).count(), 3);
    write(&mut s, vec![Op::DeleteNode(NODE)]);
    assert_eq!(s.attached(NetworkId(1)).count(), 1);
}

#[test]
fn a_list_that_comes_late_changes_nothing() {
    let mut s = tables();
    let _ = ask(&mut s, NODE, 5, vec![wanted('a', "open")]);
    let before = s.node(NODE).unwrap().attached.clone();
    for number in [4, 5] {
        assert_eq!(ask(&mut s, NODE, number, vec![]), [Err("late: 5".into())]);
    }
    assert_eq!(s.node(NODE).unwrap().attached, before);
}

#[test]
fn each_refusal_is_its_own() {
    let mut s = tables();
    let at = |c, last| Wanted { addr: Some(Ipv4Addr::new(10, 0, 1, last)), ..wanted(c, "open") };
    let bad = Wanted { container: "short".into(), ..wanted('x', "open") };
    let all =
        vec![at('a', 5), wanted('b', "closed"), wanted('c', "nosuch"), at('d', 5), at('e', 200), at('f', 7), bad, at('a', 5)];
    let given = ask(&mut s, NODE, 1, all);
    let failed = "attaching to network failed, make sure your network options are correct and check manager logs: ";
    let texts: Vec<String> = given.into_iter().map(|g| g.unwrap_or_else(|e| e.replace(failed, "… "))).collect();
    let closed = "rpc error: code = PermissionDenied desc = network closed not manually attachable";
    assert_eq!(
        texts,
        [
            "10.0.1.5/29".to_owned(),
            format!("Could not attach to network closed: {closed}"),
            "network nosuch not found".into(),
            "… Address already in use: 10.0.1.5 on network open".into(),
            "… no configured subnet or ip-range contain the IP address 10.0.1.200".into(),
            "… no configured subnet or ip-range contain the IP address 10.0.1.7".into(),
            "… a container needs an id, and up to 32 names of up to 253 bytes".into(),
            "10.0.1.5/29".into(),
        ]
    );
    assert_eq!(s.attached(NetworkId(1)).count(), 1);
}

#[test]
fn an_address_of_ipv6_is_asked_for_by_the_one_that_it_is_beside() {
    let mut s = tables();
    let at = |c, six: &str| Wanted { addr6: Some(six.parse().unwrap()), ..wanted(c, "open") };
    let both = |c, last, six: &str| Wanted { addr: Some(Ipv4Addr::new(10, 0, 1, last)), ..at(c, six) };
    let all = vec![
        at('a', "fd00:5::5"),
        at('b', "fd00:5::5"),
        at('c', "fd00:5::8"),
        both('d', 3, "fd00:5::4"),
        both('e', 4, "fd00:5::4"),
    ];
    let texts: Vec<String> = ask(&mut s, NODE, 1, all.clone()).into_iter().map(|g| g.unwrap_or_else(|e| e)).collect();
    assert_eq!((texts[0].as_str(), texts[4].as_str()), ("10.0.1.5/29", "10.0.1.4/29"));
    assert!(texts[1].ends_with("Address already in use: 10.0.1.5 on network open"), "{}", texts[1]);
    assert!(texts[2].ends_with("fd00:5::8 belongs to no address of 10.0.1.0/29: those below fd00:5::7 do"), "{}", texts[2]);
    assert!(texts[3].ends_with("fd00:5::4 belongs to 10.0.1.4 on this network, not to 10.0.1.3"), "{}", texts[3]);
    // Asked again, it is what is there already.
    assert_eq!(ask(&mut s, NODE, 2, all)[0].as_deref(), Ok("10.0.1.5/29"));
}

#[test]
fn a_full_network_gives_again_what_comes_back() {
    let mut s = tables();
    let all = ['a', 'b', 'c', 'd', 'e', 'f'];
    let given = ask(&mut s, NODE, 1, all.iter().map(|c| wanted(*c, "open")).collect());
    assert_eq!(given.iter().filter(|g| g.is_ok()).count(), 5);
    assert!(given[5].as_ref().is_err_and(|e| e.contains("could not find an available IP")), "{given:?}");
    let rest = all[1..].iter().map(|c| wanted(*c, "open")).collect();
    assert!(ask(&mut s, NODE, 2, rest).iter().all(Result::is_ok));
    // Nor does a network go away from under them.
    let e = s.apply(99, &Transaction::new(Time(0), vec![], vec![Op::DeleteNetwork(NetworkId(1))])).unwrap_err();
    assert!(e.to_string().starts_with("in use by container ffffffffffff on node "), "{e}");
}

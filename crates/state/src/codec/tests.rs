//! A version that knows less carries what it does not know, for a version that knows it.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::{Dump, Refused};
use skep_types::net::V6Range;
use skep_types::object::{Meta, Network, Node, Service};
use skep_types::spec::{
    Availability, EndpointSpec, Labels, NetworkSpec, PortConfig, Protocol, PublishMode, Role, ServiceMode, ServiceSpec,
    TaskSpec,
};
use skep_types::{NetworkId, NodeId, ServiceId, Time};

fn node() -> Node {
    Node::new(NodeId(1), Role::Worker, Availability::Active)
}

fn service() -> Service {
    let port = |target| PortConfig {
        name: String::new(),
        protocol: Protocol::Tcp,
        target,
        published: target,
        mode: PublishMode::Ingress,
        host_ip: None,
    };
    let spec = ServiceSpec {
        name: "web".into(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas: 1 },
        task: TaskSpec::default(),
        update: None,
        rollback: None,
        endpoint: EndpointSpec { ports: vec![port(80), port(81)], ..EndpointSpec::default() },
    };
    Service { revision: 3, ..Service::new(ServiceId(2), spec, Time(0)) }
}

fn at<'a>(tree: &'a mut Value, path: &[&str]) -> &'a mut Value {
    path.iter().fold(tree, |tree, name| match tree {
        Value::Array(list) => &mut list[name.parse::<usize>().unwrap()],
        Value::Map(map) => {
            let i = map.iter().position(|(k, _)| k.as_str() == Some(name)).unwrap_or_else(|| panic!("no {name}"));
            &mut map[i].1
        }
        other => panic!("{name} in {other}"),
    })
}

/// Adds a field that no version knows.
fn grow(tree: &mut Value, path: &[&str], value: i64) {
    let Value::Map(map) = at(tree, path) else { panic!("{path:?} is no map") };
    map.push((Value::from("of_the_future"), Value::Map(vec![(Value::from("x"), Value::from(value))])));
}

/// The bytes of a network's creation as the version before IPv6 wrote them.
#[test]
fn a_network_of_the_version_before_has_one_family() {
    let spec = NetworkSpec { name: "old".into(), ipv6: true, ..NetworkSpec::default() };
    let subnet = "10.0.1.0/24".parse().unwrap();
    let (id, meta, gateway) = (NetworkId(3), Meta::default(), "10.0.1.1".parse().unwrap());
    let v6 = Some(V6Range { subnet: "fd00::/64".parse().unwrap(), gateway: "fd00::1".parse().unwrap() });
    let op = Op::PutNetwork(Box::new(Network { id, meta, spec, subnet, gateway, vni: 4097, v6 }));
    let mut t = tree(&encode(&Transaction::new(Time(5), vec![], vec![op])).unwrap()).unwrap();
    let drop = |t: &mut Value, path: &[&str], names: &[&str]| {
        let Value::Map(map) = at(t, path) else { panic!("{path:?} is no map") };
        map.retain(|(k, _)| !names.contains(&k.as_str().unwrap()));
    };
    drop(&mut t, &["ops", "0", "PutNetwork"], &["v6"]);
    drop(&mut t, &["ops", "0", "PutNetwork", "spec"], &["ipv6", "subnet6", "gateway6"]);
    let (old, _) = decode::<Transaction>(&bytes(&t).unwrap()).unwrap();
    let mut store = Store::default();
    store.apply(1, &old).unwrap();
    let network = store.network(NetworkId(3)).unwrap();
    assert_eq!((network.v6, network.spec.ipv6, network.spec.subnet6), (None, false, None));
    assert_eq!(network.both("10.0.1.2/24".parse().unwrap()).len(), 1);
}

/// What a newer version would write: a node, and a service with news at its root, in its task and in one of its ports.
fn newer() -> Vec<u8> {
    let spec = Arc::new(TaskSpec::default());
    let revision = Op::PutRevision { service: ServiceId(2), revision: 3, spec };
    let ops = vec![Op::PutNode(Box::new(node())), Op::PutService(Box::new(service())), revision];
    let mut t = tree(&encode(&Transaction::new(Time(5), vec![], ops)).unwrap()).unwrap();
    grow(&mut t, &["ops", "0", "PutNode"], 1);
    grow(&mut t, &["ops", "1", "PutService"], 2);
    grow(&mut t, &["ops", "1", "PutService", "spec", "task"], 3);
    grow(&mut t, &["ops", "1", "PutService", "spec", "endpoint", "ports", "1"], 4);
    grow(&mut t, &["ops", "2", "PutRevision", "spec"], 5);
    bytes(&t).unwrap()
}

fn stored() -> Store {
    let mut store = Store::default();
    store.apply(7, &Transaction::decode(&newer()).unwrap()).unwrap();
    store
}

/// How a version that knows the fields sees an object: complete, with nothing left over.
fn seen<T: Serialize>(object: &T, fields: Option<&Arc<Unknown>>) -> Value {
    let mut all = tree(&encode(object).unwrap()).unwrap();
    fields.unwrap().add_to(&mut all);
    all
}

#[test]
fn a_new_value_of_an_object_carries_what_is_not_known_of_it() {
    let store = stored();
    assert_eq!(store.unknown.len(), 3);
    let mut service = (**store.service(ServiceId(2)).unwrap()).clone();
    service.spec.mode = ServiceMode::Replicated { replicas: 9 };
    let edit = Transaction::new(Time(6), vec![], vec![Op::PutService(Box::new(service.clone()))]);
    let decoded = Transaction::decode(&store.encode(&edit).unwrap()).unwrap();
    assert_eq!(decoded.ops, edit.ops);
    // the next version's reading of the same bytes: its fields are back where they were, with the edit
    let carried: BTreeMap<Key, Arc<Unknown>> = decoded.unknown.iter().map(|(k, u)| (*k, Arc::new(u.clone()))).collect();
    let mut whole = seen(&service, carried.get(&Key::Service(ServiceId(2))));
    for (path, value) in [(&[][..], 2), (&["spec", "task"], 3), (&["spec", "endpoint", "ports", "1"], 4)] {
        assert_eq!(at(at(&mut whole, path), &["of_the_future", "x"]).as_i64(), Some(value), "{path:?}");
    }
    assert_eq!(at(&mut whole, &["spec", "mode", "Replicated", "replicas"]).as_i64(), Some(9));
    // what it is applied to keeps it as well
    let mut after = store.clone();
    after.apply(8, &decoded).unwrap();
    assert_eq!(after.unknown, store.unknown);
}

#[test]
fn an_object_without_them_has_lost_them_and_one_that_is_gone_too() {
    let mut store = stored();
    // by a proposer that knows the fields and left them out
    let plain = encode(&Transaction::new(Time(6), vec![], vec![Op::PutNode(Box::new(node()))])).unwrap();
    store.apply(8, &Transaction::decode(&plain).unwrap()).unwrap();
    assert!(!store.unknown.contains_key(&Key::Node(NodeId(1))));
    let gone = vec![Op::DeleteService(ServiceId(2)), Op::DeleteRevision { service: ServiceId(2), revision: 3 }];
    store.apply(9, &Transaction::new(Time(7), vec![], gone)).unwrap();
    assert!(store.unknown.is_empty());
}

#[test]
fn a_refused_transaction_keeps_nothing() {
    let mut store = Store::default();
    let mut t = Transaction::decode(&newer()).unwrap();
    t.reads.push((Key::Node(NodeId(1)), skep_types::object::Version(4)));
    assert!(matches!(store.apply(7, &t), Err(Refused::Stale { .. })));
    assert!(store.unknown.is_empty());
}

#[test]
fn snapshots_carry_them_between_versions() {
    let store = stored();
    let written = encode(&store.dump()).unwrap();
    let again = Store::restore(rmp_serde::from_slice::<Dump>(&written).unwrap()).unwrap();
    assert_eq!((again.unknown.clone(), encode(&again.dump()).unwrap()), (store.unknown.clone(), written));
    // the newer version writes them inside its objects: they are found there too
    let inside = seen(&node(), store.unknown.get(&Key::Node(NodeId(1))));
    let record = Value::Binary(bytes(&inside).unwrap());
    let mut dump = tree(&encode(&stored().dump()).unwrap()).unwrap();
    *at(&mut dump, &["nodes", "0"]) = record;
    let Value::Map(fields) = &mut dump else { panic!("no map") };
    fields.retain(|(k, _)| k.as_str() != Some("unknown"));
    let read = Store::restore(rmp_serde::from_slice::<Dump>(&bytes(&dump).unwrap()).unwrap()).unwrap();
    assert_eq!(read.unknown.get(&Key::Node(NodeId(1))), store.unknown.get(&Key::Node(NodeId(1))));
}

#[test]
fn what_an_older_version_kept_is_known_again() {
    // an older version had never heard of `renew`
    let mut whole = tree(&encode(&Node { renew: true, ..node() }).unwrap()).unwrap();
    let Value::Map(fields) = &mut whole else { panic!("no map") };
    let renew = fields.iter().position(|(k, _)| k.as_str() == Some("renew")).unwrap();
    let renew = Unknown(Value::Map(vec![fields.remove(renew)]));
    let kept = tree(&encode(&vec![(Key::Node(NodeId(1)), renew)]).unwrap()).unwrap();
    let keep = |tree: &mut Value| {
        let Value::Map(fields) = tree else { panic!("no map") };
        fields.push((Value::from("unknown"), kept.clone()));
        bytes(tree).unwrap()
    };
    let plain = Transaction::new(Time(5), vec![], vec![Op::PutNode(Box::new(node()))]);
    let mut written = tree(&encode(&plain).unwrap()).unwrap();
    *at(&mut written, &["ops", "0", "PutNode"]) = whole.clone();
    let read = Transaction::decode(&keep(&mut written)).unwrap();
    assert_eq!(read.ops, [Op::PutNode(Box::new(Node { renew: true, ..node() }))]);
    assert!(read.unknown.is_empty());
    // and so in a snapshot of the older version
    let mut store = Store::default();
    store.apply(7, &plain).unwrap();
    let mut written = tree(&encode(&store.dump()).unwrap()).unwrap();
    *at(&mut written, &["nodes", "0"]) = Value::Binary(bytes(&whole).unwrap());
    let read = Store::restore(rmp_serde::from_slice::<Dump>(&keep(&mut written)).unwrap()).unwrap();
    assert!(read.node(NodeId(1)).unwrap().renew);
    assert!(read.unknown.is_empty());
}

#[test]
fn a_list_of_another_length_takes_nothing() {
    let store = stored();
    let mut service = (**store.service(ServiceId(2)).unwrap()).clone();
    service.spec.endpoint.ports.remove(0);
    let mut whole = seen(&service, store.unknown.get(&Key::Service(ServiceId(2))));
    assert!(!at(&mut whole, &["spec", "endpoint", "ports", "0"]).to_string().contains("of_the_future"));
}

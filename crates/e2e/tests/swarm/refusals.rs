//! What must be refused, with Docker's texts, and changes nothing.

use std::net::TcpListener;

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};

use crate::needs;

const NOT_WORKERS: &str = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

#[test]
fn joins_that_cannot_be() {
    needs!();
    let bed = Bed::bare(23, 2, &[]);
    let own = bed.address("manager");
    let _ = bed.docker("manager", &["swarm", "init", "--advertise-addr", &own]).ok();
    let token = bed.docker("manager", &["swarm", "join-token", "-q", "worker"]).ok();
    let join = |token: &str, addr: &str| bed.docker("worker1", &["swarm", "join", "--token", token, addr]);
    let at = format!("{own}:2377");
    join("nonsense", &at).fails("invalid join token");
    join(&token[..token.len() - 5], &at).fails("invalid join token");
    // The same root, another secret.
    let (head, _) = token.rsplit_once('-').unwrap_or_default();
    join(&format!("{head}-{}", "a".repeat(25)), &at)
        .fails("rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster");
    // Another root: never trusted.
    let secret = token.rsplit('-').next().unwrap_or_default();
    join(&format!("SWMTKN-1-{}-{secret}", "1".repeat(50)), &at).fails("remote CA does not match fingerprint");
    let nobody = format!("{own}:2999");
    join(&token, &nobody).fails(&nobody);
    // Something that is no manager: it takes the connection and says nothing, or says something else.
    let machine = bed.playground.place.machine();
    let mute = TcpListener::bind((machine, 0)).unwrap_or_else(|e| panic!("listen: {e}"));
    let address = mute.local_addr().map(|a| a.to_string()).unwrap_or_default();
    std::thread::spawn(move || {
        use std::io::Write;
        while let Ok((mut stream, _)) = mute.accept() {
            let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n");
        }
    });
    join(&token, &address).fails(&address);
    assert!(bed.docker("worker1", &["info"]).ok().contains("\n Swarm: inactive\n"));
    bed.d("manager", "swarm init")
        .fails("This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.");
    bed.docker("manager", &["swarm", "join", "--token", &token, &at]).fails("This node is already part of a swarm.");
    bed.d("worker1", "service ls").fails(NO_SWARM);
    bed.d("worker1", "node ls").fails(NO_SWARM);
    bed.d("worker1", "swarm leave").fails("This node is not part of a swarm");
    // And after all that it can still join.
    assert_eq!(join(&token, &at).ok(), "This node joined a swarm as a worker.");
    for call in ["service ls", "node ls", "service create -d busybox", "swarm join-token worker"] {
        bed.d("worker1", call).fails(NOT_WORKERS);
    }
    assert_eq!(bed.d("manager", "service ls -q").ok(), "");
}

#[test]
fn services_that_cannot_be() {
    needs!();
    let bed = Bed::swarm(24, 2, 1);
    bed.load_demo("ws:1.0", "1.0");
    let m = |args: &str| bed.d("manager", args);
    let _ = m("service create -d --name ws -p 80:8000 ws:1.0").ok();
    bed.await_running("manager", "ws", 1, LONG);
    let id = m("service inspect --format {{.ID}} ws").ok();
    let before = m("service inspect ws").ok();
    m("service create -d --name ws ws:1.0")
        .fails("rpc error: code = AlreadyExists desc = name conflicts with an existing object: service ws already exists");
    m("service create -d --name b -p 80:8000 ws:1.0").fails(&format!(
        "rpc error: code = InvalidArgument desc = port '80' is already in use by service 'ws' ({id}) as an ingress port"
    ));
    m("service create -d --name b -p published=80,target=8000,mode=host ws:1.0")
        .fails("port '80' is already in use by service 'ws'");
    let _ = m("service create -d --name udp -p 80:8000/udp ws:1.0").ok();
    let _ = m("service rm udp").ok();
    m("service create -d --name b --constraint node.role ws:1.0").fails("constraint expected one operator from ==, !=");
    m("service create -d --name b --constraint -x==y ws:1.0").fails("key '-x' is invalid");
    m("service create -d --name b --constraint node.hostname==!x ws:1.0").fails("value '!x' is invalid");
    m("service create -d --name b --endpoint-mode dnsrr -p 81:8000 ws:1.0")
        .fails("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    m("service create -d --name not_-good_ ws:1.0").fails("name must be valid as a DNS name component");
    m("service create -d --name b --network nowhere ws:1.0").fails("network nowhere not found");
    m("service create -d --name b --network none ws:1.0").fails("network none not found");
    m("service create -d --name b --network host -p 80:8000 ws:1.0")
        .fails("has no ports in the mesh: publish them with mode=host");
    m("service update -d nothing").fails("service nothing not found");
    m("service rm nothing").fails("nothing");
    m("service scale ws=-1").fails("invalid");
    m("service update -d --rollback ws").fails("does not have a previous spec");
    m("network create -d overlay ingress").fails("already exists");
    // The CLI asks before it removes this one.
    let refused = bed.api("manager", "DELETE", "/networks/ingress", None);
    let text = format!("ingress network cannot be removed because service {id} depends on it");
    assert!(refused.as_ref().is_err_and(|e| e.contains(&text)), "{refused:?}");
    let _ = m("network create -d overlay demo").ok();
    m("network create -d overlay demo").fails("network with name demo already exists");
    assert_eq!(m("service inspect ws").ok(), before, "a refused call changed the service");
    assert_eq!(m("service ls -q").ok().lines().count(), 1);

    let worker = bed.node_id("worker1");
    let manager = bed.node_id("manager");
    m(&format!("node rm {worker}"))
        .fails(&format!("rpc error: code = FailedPrecondition desc = node {worker} is not down and can't be removed"));
    m(&format!("node demote {manager}")).fails("attempting to demote the last manager of the swarm");
    m(&format!("node rm -f {manager}"))
        .fails("is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal");
    m("node rm nothing").fails("node nothing not found");
    m("swarm join-token foo").fails("unknown role foo");

    // An image that does not exist: accepted, and `service ps` says why nothing runs.
    let _ = m("service create -d --name lost --restart-delay 1s no/such:1.0").ok();
    wait("the reason why the image is missing", LONG, || {
        let ps =
            bed.docker("manager", &["service", "ps", "--no-trunc", "--format", "{{.CurrentState}}|{{.Error}}", "lost"]).ok();
        that(ps.contains("No such image: no/such:1.0"), ps)
    });
    let ps = m("service ps lost").ok();
    assert!(ps.contains("Rejected"), "{ps}");
    let _ = m("service rm lost").ok();
    // So is a signal that there is not: its tasks could never be stopped.
    let _ = m("service create -d --name odd --restart-condition none --stop-signal FOO ws:1.0").ok();
    wait("the reason why it does not run", LONG, || {
        let ps = m("service ps --no-trunc odd").ok();
        that(ps.contains("\"invalid signal: FOO\"") && ps.contains("Rejected"), ps)
    });
    let _ = m("service rm odd").ok();
    // A constraint that no node fulfils.
    let _ = m("service create -d --name nowhere --constraint colour==red ws:1.0").ok();
    let _ = m("service create -d --name far --constraint node.labels.zone==b ws:1.0").ok();
    wait("the reason why no node suits", LONG, || {
        let ps = m("service ps --no-trunc far").ok();
        that(ps.contains("no suitable node (scheduling constraints not satisfied on 2 nodes)") && ps.contains("Pending"), ps)
    });
    let _ = m(&format!("node update --label-add zone=b {worker}")).ok();
    bed.await_running("manager", "far", 1, LONG);
    assert!(bed.running("manager", "nowhere").is_empty(), "a key that is unknown fits no node");
}

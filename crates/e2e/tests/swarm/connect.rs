//! Networks that plain containers join and leave while they run.

use std::time::Duration;

use skep_e2e::bed::Bed;
use skep_e2e::{Run, that, wait};
use skep_testkit::images;

use crate::needs;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_running_container_joins_and_leaves_networks() {
    needs!();
    let bed = Bed::bare(63, 1, &[]);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:1.28"));
    let d = |args: &str| bed.d("manager", args);
    for net in ["a", "b"] {
        let _ = d(&format!("network create {net}")).ok();
    }
    let _ = d("network create --internal --subnet 10.77.0.0/24 inside").ok();
    let _ = d("run -d --name one busybox:1.28 sleep 1000").ok();
    let _ = d("run -d --name two --network a busybox:1.28 sleep 1000").ok();
    let reaches = |from: &str, name: &str, wanted: bool| {
        wait(&format!("{from} to reach {name}: {wanted}"), SOON, || {
            let ping: Run = d(&format!("exec {from} ping -c 1 -W 1 {name}"));
            that((ping.code == 0) == wanted, format!("{}{}", ping.out, ping.err))
        });
    };
    reaches("two", "one", false);
    let _ = d("network connect --alias box a one").ok();
    for name in ["one", "box"] {
        reaches("two", name, true);
    }
    // The one that was on the default bridge alone finds names now, too.
    reaches("one", "two", true);
    let _ = d("network connect --ip 10.77.0.9 inside one").ok();
    let template = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}},{{end}}";
    let shown = || bed.docker("manager", &["inspect", "--format", template, "one"]).ok();
    let networks = shown();
    assert!(
        networks.contains("a=172.") && networks.contains("bridge=172.") && networks.contains("inside=10.77.0.9,"),
        "{networks}"
    );
    assert!(d("exec one cat /etc/hosts").ok().contains("10.77.0.9\t"));
    assert!(d("exec one ip route").ok().contains("default via 172.17.0.1"));
    d("network connect a one").fails("endpoint with name one already exists in network a");
    d("network disconnect b one").fails("is not connected to network b");
    d("network connect host one").fails("container cannot be disconnected from host network or connected to host network");
    d("network connect nosuch one").fails("network nosuch not found");
    d("network rm a").fails("has active endpoints");

    // A restart of the daemon and of the container keep what was joined.
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    let _ = d("restart -t 0 one").ok();
    reaches("two", "box", true);
    assert_eq!(shown().split(',').filter(|n| !n.is_empty()).count(), 3);
    // The way out moves to another bridge when its own is left.
    let _ = d("network disconnect bridge one").ok();
    let route = d("exec one ip route").ok();
    assert!(route.contains("default via 172.") && !route.contains("172.17.0.1"), "{route}");
    let _ = d("network disconnect a one").ok();
    reaches("two", "box", false);
    assert_eq!(shown(), "inside=10.77.0.9,");
    assert!(!d("exec one ip route").ok().contains("default"));
    // One that does not run joins for its next start.
    let _ = d("stop -t 0 one").ok();
    let _ = d("network connect b one").ok();
    let _ = d("start one").ok();
    let networks = shown();
    assert!(networks.starts_with("b=172.") && networks.ends_with("inside=10.77.0.9,"), "{networks}");
    let _ = d("rm -f one two").ok();
    for net in ["a", "b", "inside"] {
        assert_eq!(d(&format!("network rm {net}")).ok(), net);
    }
}

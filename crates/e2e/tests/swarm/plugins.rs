//! Plugins of the host: volumes that they mount for containers and tasks, and secrets that they keep.

use skep_e2e::bed::{Bed, LONG};
use skep_e2e::plugin::Plugin;
use skep_e2e::{that, wait};
use skep_testkit::images;

use crate::needs;

/// What must be found in no file of a host.
const CANARY: &str = "canary-9c41e7a0d5";

fn busybox(bed: &Bed) {
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:latest"));
}

fn await_mounts(plugin: &Plugin, volume: &str, count: usize) {
    wait(&format!("{count} mounts of {volume}"), LONG, || {
        let now = plugin.mounts(volume);
        that(now == count, format!("{now}: {:?}", plugin.state().calls))
    });
}

#[test]
fn a_plugin_mounts_its_volumes_for_those_that_run() {
    needs!();
    let bed = Bed::bare(124, 1, &[]);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    let sh = |name: &str, script: &str| bed.docker("manager", &["exec", name, "sh", "-c", script]);
    let (name, dir) = ("skep-e2e-124", bed.playground.place.data.join("plugin"));
    d("volume create -d skep-e2e-124 vol").fails(
        "create vol: error looking up volume plugin skep-e2e-124: plugin \"skep-e2e-124\" not found: start it, so that there is \
         /run/docker/plugins/skep-e2e-124.sock",
    );
    let plugin = Plugin::start(name, &dir);
    assert_eq!(d("volume create -d skep-e2e-124 --label a=b -o size=1 vol").ok(), "vol");
    assert_eq!(plugin.asked("VolumeDriver.Create")[0]["Opts"]["size"], "1");
    d("volume create -d skep-e2e-124 -o fail=yes w")
        .fails("create w: volume plugin skep-e2e-124: VolumeDriver.Create: the disk is full");
    let odd = bed.docker("manager", &["run", "-v", "v:/etc", "busybox"]);
    assert!(odd.code == 125 && odd.err.contains("invalid mount path: 'v:/etc' mount path must be absolute"), "{odd:?}");
    d("volume create -d local vol").fails("create vol: conflict: volume name must be unique");
    assert_eq!(d("volume ls --format {{.Driver}}/{{.Name}} -f driver=skep-e2e-124").ok(), "skep-e2e-124/vol");
    let shown = d("volume inspect --format {{.Driver}}/{{.Scope}}/{{.Labels.a}}/{{.Options.size}}/{{.Status.kind}} vol").ok();
    assert_eq!(shown, "skep-e2e-124/global/b/1/directory");
    assert!(d("info --format {{.Plugins.Volume}}").ok().contains("local skep-e2e-124"));

    // Mounted while a container runs, for each by itself; the image's content goes into it first.
    let _ = d("run -d --name box-a -v vol:/etc busybox sleep 100000").ok();
    let _ = sh("box-a", "echo one > /etc/one").ok();
    assert_eq!(std::fs::read_to_string(dir.join("vol/one")).expect("in the plugin's directory"), "one\n");
    assert!(dir.join("vol/passwd").exists(), "copied up");
    let _ = d("run -d --name box-b --mount type=volume,src=vol,dst=/w,volume-driver=skep-e2e-124 busybox sleep 100000").ok();
    assert_eq!((sh("box-b", "cat /w/one").ok().as_str(), plugin.mounts("vol")), ("one", 2));
    let mount = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Driver}} {{.Source}}{{end}}";
    let shown = bed.docker("manager", &["inspect", "--format", mount, "box-b"]).ok();
    assert_eq!(shown, format!("volume vol skep-e2e-124 {}", dir.join("vol").display()));
    let _ = d("rm -f box-b").ok();
    await_mounts(&plugin, "vol", 1);
    d("volume rm vol").fails("remove vol: volume is in use");
    let refused = bed.docker("manager", &["run", "--name", "box-c", "-v", "new:/x", "--volume-driver", "nobody", "busybox"]);
    assert!(refused.code == 125 && refused.err.contains("create new: error looking up volume plugin nobody"), "{refused:?}");

    // What ended while there was no daemon is given back by the next one, and what runs keeps its mount.
    let _ = d("run -d --name box-d -v vol:/d busybox sleep 100000").ok();
    let pid = d("inspect --format {{.State.Pid}} box-d").ok();
    bed.kill_daemon("manager");
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill");
    assert!(killed.success());
    bed.start_daemon("manager");
    await_mounts(&plugin, "vol", 1);
    assert_eq!(sh("box-a", "cat /etc/one").ok(), "one");

    // The plugin dies: nothing hangs, errors name it, and what it did not hear it hears when it is back.
    let kept = plugin.kept();
    drop(plugin);
    let _ = d("stop -t 0 box-a").ok();
    let refused = d("start box-a");
    assert!(refused.code == 1 && refused.err.contains("plugin \"skep-e2e-124\" not found: start it"), "{refused:?}");
    d("volume inspect vol").fails("skep-e2e-124");
    d("volume rm vol").fails("volume is in use");
    let plugin = Plugin::revived(name, &dir, kept);
    await_mounts(&plugin, "vol", 0);
    // One that hangs holds up no list for longer than its limit, and no other volume.
    let _ = d("volume create plain").ok();
    wait("the plugin to be seen again", LONG, || {
        let info = d("info --format {{.Plugins.Volume}}").ok();
        that(info.contains(name), info)
    });
    plugin.state().hangs = Some("VolumeDriver.List".to_owned());
    let listed = d("volume ls -q");
    assert!(listed.out.lines().any(|l| l == "plain") && listed.out.lines().any(|l| l == "vol"), "{listed:?}");
    plugin.state().hangs = None;
    let _ = d("start box-a").ok();
    assert_eq!((sh("box-a", "cat /etc/one").ok().as_str(), plugin.mounts("vol")), ("one", 1));
    let _ = d("rm -f box-a box-d").ok();
    assert_eq!(d("volume rm vol").ok(), "vol");
    assert!(plugin.state().volumes.is_empty(), "{:?}", plugin.state());
}

#[test]
fn tasks_have_volumes_and_secrets_of_plugins() {
    needs!();
    let bed = Bed::swarm(125, 2, 1);
    busybox(&bed);
    let d = |args: &str| bed.d("manager", args);
    let (name, dir) = ("skep-e2e-125", bed.playground.place.data.join("plugin"));
    // It waits for a node that has the driver.
    let mount = "--mount type=volume,src=data,dst=/d,volume-driver=skep-e2e-125,volume-opt=size=2";
    let _ = d(&format!("service create -d --name keeper {mount} busybox sleep 100000")).ok();
    wait("the reason to be told", LONG, || {
        let ps = d("service ps --no-trunc keeper").out;
        that(ps.contains("missing plugin on 2 nodes"), ps)
    });
    let plugin = Plugin::start(name, &dir);
    bed.await_running("manager", "keeper", 1, LONG);
    assert_eq!(plugin.asked("VolumeDriver.Create")[0]["Opts"]["size"], "2");
    assert_eq!(plugin.mounts("data"), 1);
    let all = bed.docker("manager", &["node", "inspect", "--format", "{{json .Description.Engine.Plugins}}", "worker1"]).ok();
    assert!(all.contains(name), "{all}");
    let _ = d("service rm keeper").ok();
    await_mounts(&plugin, "data", 0);

    // A secret is asked for when a task needs it, and kept nowhere.
    plugin.state().secrets.insert("pw".to_owned(), CANARY.to_owned());
    assert_eq!(d("secret create -d skep-e2e-125 --label a=b pw").ok().len(), 25);
    let shown = bed.docker("manager", &["secret", "inspect", "--format", "{{.Spec.Driver.Name}}", "pw"]).ok();
    assert_eq!(shown, name);
    let service =
        "service create -d --name web --replicas 2 --hostname h -l tier=front --secret pw -p 8080:80 busybox sleep 100000";
    let _ = d(service).ok();
    let read = |service: &str, count: usize| -> Vec<String> {
        let tasks = bed.await_running("manager", service, count, LONG);
        let at = |node: &str, id: &str| {
            let host = bed.docker("manager", &["node", "inspect", "--format", "{{.Description.Hostname}}", node]).ok();
            bed.docker(&host, &["exec", id, "cat", "/run/secrets/pw"]).ok()
        };
        tasks.iter().map(|t| at(&t.node, &t.container)).collect()
    };
    assert_eq!(read("web", 2), [CANARY, CANARY]);
    let asked = plugin.asked("SecretProvider.GetSecret");
    let ask = &asked[0];
    assert_eq!((&ask["ServiceName"], &ask["ServiceHostname"]), (&"web".into(), &"h".into()));
    assert_eq!((&ask["ServiceLabels"]["tier"], &ask["SecretLabels"]["a"]), (&"front".into(), &"b".into()));
    assert_eq!(ask["ServiceEndpointSpec"]["Ports"][0]["PublishedPort"], 8080);
    assert!(ask["TaskName"].as_str().is_some_and(|n| n.starts_with("web.")) && ask["TaskID"].is_string(), "{ask}");
    let place = &bed.playground.place;
    for dir in [place.data.clone(), place.run.clone()] {
        let grep = std::process::Command::new("grep").args(["-rlaF", CANARY]).arg(&dir).output().expect("grep");
        assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    }
    // One for each task.
    let _ = d("service rm web").ok();
    plugin.state().once = true;
    plugin.state().secrets.insert("own".to_owned(), CANARY.to_owned());
    let _ = d("secret create -d skep-e2e-125 own").ok();
    let _ = d("service create -d --name each --replicas 2 --secret source=own,target=pw busybox sleep 100000").ok();
    let mut each = read("each", 2);
    each.sort();
    each.dedup();
    assert!(each.len() == 2 && each.iter().all(|v| v.starts_with(CANARY)), "{each:?}");
    // A driver that says no, or is gone: the task fails and says why; when it gives it again, the next one runs.
    let _ = d("service rm each").ok();
    plugin.state().secrets.clear();
    let _ = d("service create -d --name none --restart-delay 1s --secret source=own,target=pw busybox sleep 100000").ok();
    wait("the reason to be told", LONG, || {
        let ps = d("service ps --no-trunc none").out;
        that(ps.contains("secret own: secret plugin skep-e2e-125: SecretProvider.GetSecret: the vault has no own"), ps)
    });
    plugin.state().secrets.insert("own".to_owned(), CANARY.to_owned());
    assert_eq!(read("none", 1).len(), 1);
}

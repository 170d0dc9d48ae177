//! Devices of the host in containers, and options that mean nothing on this host.

use skep_e2e::bed::Bed;
use skep_testkit::images;

use crate::needs;

#[test]
fn a_container_has_the_devices_that_it_was_given() {
    needs!();
    let bed = Bed::bare(143, 1, &[]);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:latest"));
    let run = |flags: &str, script: &str| {
        let args: Vec<&str> =
            ["run", "--rm"].into_iter().chain(flags.split_whitespace()).chain(["busybox", "sh", "-c", script]).collect();
        bed.docker("manager", &args)
    };
    // /dev/loop-control is on every host where this project's tests run, and no container's: (10, 237).
    let of = |name: &str| format!(": < {name} && echo opened");
    assert_eq!(run("--device /dev/loop-control:/dev/made:rwm", &of("/dev/made")).ok(), "opened");
    assert_eq!(run("--device /dev/loop-control", "stat -c %t:%T /dev/loop-control").ok(), "a:ed");
    assert_eq!(run("--device /dev/loop-control:/srv/made", &of("/srv/made")).ok(), "opened");
    assert_eq!(run("--privileged", &of("/dev/loop-control")).ok(), "opened");
    if std::path::Path::new("/sys/fs/cgroup/devices").exists() {
        let denied = run("--device /dev/loop-control:/dev/made:w", &of("/dev/made"));
        assert!(denied.code != 0 && denied.err.contains("Operation not permitted"), "{denied:?}");
        let node = "mknod /tmp-made c 10 237 && ";
        let denied = run("", &format!("{node}{}", of("/tmp-made")));
        assert!(denied.code != 0 && denied.err.contains("Operation not permitted"), "{denied:?}");
        let script = format!("{node}{}", of("/tmp-made"));
        let args = ["run", "--rm", "--device-cgroup-rule", "c 10:237 r", "busybox", "sh", "-c", &script];
        assert_eq!(bed.docker("manager", &args).ok(), "opened");
    }
    let shown = bed.d("manager", "create --name shown --device /dev/loop-control:/dev/made:r busybox true");
    let _ = shown.ok();
    assert_eq!(
        bed.docker("manager", &["inspect", "--format", "{{json .HostConfig.Devices}}", "shown"]).ok(),
        r#"[{"PathOnHost":"/dev/loop-control","PathInContainer":"/dev/made","CgroupPermissions":"r"}]"#
    );
    for (flags, text) in [
        (
            "--device /dev/no-such-device",
            "error gathering device information while adding custom device \"/dev/no-such-device\": no such file",
        ),
        ("--device /etc/passwd:/dev/x", "not a device node"),
        ("--security-opt credentialspec=file://x.json", "credential specs are for containers of Windows"),
        ("--security-opt label=colour:red", "bad label option"),
        ("--security-opt apparmor=mine", "is not built yet in Skep"),
    ] {
        let refused = run(flags, "true");
        assert!(refused.code != 0 && refused.err.contains(text), "{refused:?}");
    }
    // SELinux is not in force where tests run; its labels are taken and nothing else.
    let labelled = run("--security-opt label=type:svirt_t", "echo ran");
    assert!(labelled.err.contains("--security-opt label= has no effect"), "{labelled:?}");
    assert_eq!(labelled.ok(), "ran");
}

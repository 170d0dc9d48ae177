//! Log drivers, with servers that come and go, of containers and of services.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use skep_e2e::bed::{Bed, LONG};
use skep_e2e::{that, wait};
use skep_testkit::images;

use crate::needs;

/// A syslog of our own.
struct Syslog(UnixDatagram, Vec<String>);

impl Syslog {
    fn at(path: &Path) -> Self {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        Self(socket, Vec::new())
    }

    /// Waits for a message that ends so.
    fn expect(&mut self, end: &str) -> String {
        wait(&format!("a message {end:?}"), LONG, || {
            let mut bytes = [0; 65536];
            loop {
                match self.0.recv(&mut bytes) {
                    Ok(n) => self.1.push(String::from_utf8_lossy(&bytes[..n]).trim_end().to_owned()),
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    Err(e) => return Err(e.to_string()),
                }
            }
            let found = self.1.iter().find(|m| m.ends_with(end)).cloned();
            found.ok_or_else(|| format!("{:?}", self.1))
        })
    }
}

#[test]
fn records_go_where_the_driver_says_and_are_read_here_too() {
    needs!();
    let bed = Bed::swarm(144, 1, 1);
    let image = images::busybox().unwrap_or_else(|| panic!("no busybox on this machine"));
    bed.load(images::archive(&image, "busybox:latest"));
    let m = |args: &[&str]| bed.docker("manager", args);
    let path = bed.scratch().join("syslog.sock");
    let mut syslog = Syslog::at(&path);
    let address = format!("syslog-address=unixgram://{}", path.display());

    // A service's tasks, with its options; its log is read as any other.
    let script = "echo from task; echo oops >&2; sleep 100000";
    let options =
        ["--log-driver", "syslog", "--log-opt", &address, "--log-opt", "tag={{.Name}}", "--log-opt", "syslog-format=rfc5424"];
    let args = [&["service", "create", "-d", "--name", "web"][..], &options, &["busybox", "sh", "-c", script]].concat();
    let _ = m(&args).ok();
    let task = bed.await_running("manager", "web", 1, LONG).remove(0);
    let said = syslog.expect(" - from task");
    assert!(said.starts_with("<30>1 ") && said.contains(" web.1."), "{said}");
    assert!(syslog.expect(" - oops").starts_with("<27>1 "));
    wait("the log to be read", LONG, || {
        let logs = m(&["service", "logs", "--raw", "web"]).out;
        that(logs.contains("from task"), logs)
    });
    assert_eq!(m(&["inspect", "--format", "{{.HostConfig.LogConfig.Type}}", &task.container]).ok(), "syslog");
    let info = bed.api("manager", "GET", "/info", None).expect("info");
    assert_eq!(
        info["Plugins"]["Log"],
        json!(["awslogs", "fluentd", "gelf", "journald", "json-file", "local", "splunk", "syslog"])
    );

    // What was written while the daemon was down comes when it is back.
    let fifo = "mkfifo /f; while true; do cat /f; done";
    let args =
        [&["run", "-d", "--name", "box", "--log-driver", "syslog", "--log-opt"][..], &[&address, "busybox", "sh", "-c", fifo]]
            .concat();
    let _ = m(&args).ok();
    let pid = m(&["inspect", "--format", "{{.State.Pid}}", "box"]).ok();
    wait("the pipe to be there", LONG, || {
        let kind = std::fs::metadata(format!("/proc/{pid}/root/f")).map(|m| m.file_type());
        that(kind.as_ref().is_ok_and(std::os::unix::fs::FileTypeExt::is_fifo), format!("{kind:?}"))
    });
    let write = |text: &str| std::fs::write(format!("/proc/{pid}/root/f"), format!("{text}\n")).expect("written");
    write("first");
    let _ = syslog.expect("]: first");
    bed.kill_daemon("manager");
    write("meanwhile");
    bed.start_daemon("manager");
    let _ = syslog.expect("]: meanwhile");
    // So does what was written while the server was.
    drop(syslog);
    std::fs::remove_file(&path).expect("removed");
    write("unheard");
    wait("the log to have it", LONG, || {
        let logs = m(&["logs", "box"]).out;
        that(logs.contains("unheard"), logs)
    });
    let mut syslog = Syslog::at(&path);
    let _ = syslog.expect("]: unheard");
    // The last words of a container that goes at once.
    let args =
        [&["run", "--rm", "--log-driver", "syslog", "--log-opt"][..], &[&address, "busybox", "echo", "last words"]].concat();
    assert_eq!(m(&args).ok(), "last words");
    let _ = syslog.expect("]: last words");
    let _ = m(&["rm", "-f", "box"]).ok();

    // A server that is down refuses a start, and in a service's tasks that is to be read.
    let down = ["--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:9"];
    let refused = m(&[&["run", "--rm"][..], &down, &["busybox", "true"]].concat());
    let text = "failed to initialize logging driver: syslog: dial tcp 127.0.0.1:9: Connection refused";
    assert!(refused.code != 0 && refused.err.contains(text), "{refused:?}");
    let _ = m(&[&["service", "create", "-d", "--name", "down"][..], &down, &["busybox", "sleep", "1000"]].concat()).ok();
    wait("the reason to be told", LONG, || {
        let ps = m(&["service", "ps", "--no-trunc", "down"]).out;
        that(ps.contains(text), ps)
    });
    // Drivers that keep it here; what is added is shown.
    let local = ["run", "--name", "here", "--log-driver", "local", "busybox", "echo", "kept"];
    assert_eq!(m(&local).ok(), "kept");
    assert_eq!(m(&["logs", "here"]).ok(), "kept");
    let file =
        ["run", "--name", "file", "-l", "a=b", "--log-opt", "labels=a", "--log-opt", "tag={{.Name}}", "busybox", "echo", "x"];
    let _ = m(&file).ok();
    assert_eq!(m(&["logs", "--details", "file"]).ok(), "a=b,tag=file x");
    let args = [
        &["run", "--name", "shut", "--log-driver", "syslog", "--log-opt"][..],
        &[&address, "--log-opt", "cache-disabled=true", "busybox", "true"],
    ];
    let _ = m(&args.concat()).ok();
    m(&["logs", "shut"]).fails("configured logging driver does not support reading");
    for (options, text) in [
        (&["--log-driver", "gcplogs"][..], "the log driver gcplogs is not built yet in Skep"),
        (&["--log-driver", "awslogs", "--log-opt", "awslogs-region=x"], "must specify a value for log opt 'awslogs-group'"),
        (&["--log-driver", "splunk"], "splunk-url is expected"),
        (&["--log-opt", "labels-regex=("], "invalid value for log option labels-regex"),
        (&["--log-driver", "loki"], "logger: no log driver named 'loki' is registered"),
        (&["--log-driver", "gelf"], "gelf-address is a required parameter"),
        (&["--log-opt", "colour=red"], "unknown log opt 'colour' for json-file log driver"),
        (&["--log-opt", "tag={{.Nope}}"], "invalid log tag"),
    ] {
        let refused = m(&[&["run", "--name", "bad"][..], options, &["busybox", "true"]].concat());
        assert!(refused.code == 125 && refused.err.contains(text), "{refused:?}");
    }
    m(&["inspect", "bad"]).fails("No such object: bad");
    m(&["service", "create", "--name", "bad", "--log-driver", "gcplogs", "busybox"])
        .fails("the log driver gcplogs is not built yet");

    // What was rotated is packed, and read through; also after a kill of whoever packs.
    let script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; sleep 100000";
    let options = ["--log-opt", "max-size=40k", "--log-opt", "max-file=20", "--log-opt", "compress=true"];
    let args = [
        &["run", "-d", "--name", "packed", "-e", "ZONE=a", "--log-opt", "env-regex=^Z"][..],
        &options,
        &["busybox", "sh", "-c", script],
    ];
    let id = m(&args.concat()).ok();
    bed.kill_daemon("manager");
    bed.start_daemon("manager");
    let dir = bed.host("manager").data_root(&bed.playground.place).join("containers").join(&id);
    let names = || -> Vec<String> {
        let all = std::fs::read_dir(&dir).expect("listed").flatten();
        all.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.contains("-json.log.")).collect()
    };
    wait("the files to be packed", LONG, || {
        let all = names();
        let rotated = all.iter().filter(|n| !n.ends_with(".lock"));
        let last = m(&["logs", "--tail", "1", "packed"]).out;
        let packed = rotated.clone().count() > 0 && rotated.clone().all(|n| n.ends_with(".gz"));
        that(last == "line 3999\n" && packed, format!("{last} {all:?}"))
    });
    let logs = m(&["logs", "packed"]).ok();
    assert!(
        logs.lines().enumerate().all(|(n, l)| l == format!("line {n}")) && logs.lines().count() == 4000,
        "whole and in order"
    );
    assert_eq!(m(&["logs", "--details", "--tail", "1", "packed"]).ok(), "ZONE=a line 3999");
}

//! The targets, with their seeds and words.

use std::path::{Path, PathBuf};

use serde_json::json;
use skep_cli::options::{mount, port, refs, words};
use skep_cli::template::{Template, no_methods};
use skep_compose::{Files, Options, load};
use skep_types::host::LogOptions;
use skep_types::logs::LogMessage;
use skep_types::reference::Reference;
use skep_types::session::{AgentMessage, ManagerMessage};
use skep_types::tunnel::TunnelMessage;

use crate::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "compose",
        run: compose,
        seeds: &[
            include_bytes!("../../compose/tests/data/wordpress.yml"),
            include_bytes!("../../compose/tests/data/wordpress-secret.yml"),
            include_bytes!("../../compose/tests/data/calculator.yml"),
            b"x-a: &a {image: i}\nservices:\n  web:\n    <<: *a\n    extends: {service: b}\n    ports: ['80-81:${P:-80}-81/udp', {target: 5}]\n  b: *a\n",
            b"include: [a.yml]\nservices: {a: {image: i, profiles: [x], deploy: {mode: global-job, resources: {limits: {cpus: '0.5', memory: 1g}}}}}\n",
            b"services:\n  a:\n    image: i\n    healthcheck: {test: [CMD, x], interval: 1m30s}\n    configs: [{source: c, target: /c, mode: 0440}]\n    env_file: .env\nconfigs: {c: {file: ./c, template_driver: golang}}\n",
        ],
        words: &[
            "services:", "image: ", "deploy:", "\n  ", "\n    ", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "${A:-b}", "$$",
            "extends:", "include:", "networks:", "volumes:", "!!str ", "!reset ", "|\n", ">-\n", "? ", "---\n", "...\n", "null", "~", "'", "\"",
        ],
    },
    Target {
        name: "interpolation",
        run: interpolation,
        seeds: &[b"$A ${B} ${C:-d} ${E-f} ${G:?h} ${I?j} ${K:+l} ${M+n}", b"${A:-${B:-${C:-d}}}", b"$$ $$$A ${TAG:-1}-${EMPTY:+x}"],
        words: &["$", "${", "}", ":-", ":?", ":+", "-", "?", "+", "$$", "TAG", "EMPTY", "_a1"],
    },
    Target {
        name: "dotenv",
        run: dotenv,
        seeds: &[b"A=1\nB='two' # c\nexport C=\"a\\n$A ${B:-x}\"\n# c\nD: e\nF\n", b"A=\"line\nline\"\nB=$(x)\n"],
        words: &["=", "\n", "export ", "'", "\"", "\\", "#", "${", "}", "$", ":-", "\r\n"],
    },
    Target {
        name: "template",
        run: template,
        seeds: &[
            b"{{.Name}}\t{{json .Labels}} {{range $i, $p := .Ports}}{{if $i}}, {{end}}{{$p.PublishedPort}}{{else}}none{{end}}",
            b"{{with .Spec}}{{printf \"%-10s|%5d\" .Name .Replicas | upper}}{{end}}{{/* c */}}{{- \"x\" -}}",
            b"{{if and (eq .A 1) (or .B (not .C)) }}{{index .Labels \"a\"}}{{else if lt 1 2}}{{len .Ports}}{{end}}{{slice .Name 0 2}}",
            b"{{$x := .A}}{{$x = 2}}{{range .Ports}}{{break}}{{continue}}{{end}}{{join (split .Name \"e\") \",\"}}{{truncate .Name 2}}",
        ],
        words: &[
            "{{", "}}", "{{-", "-}}", "|", ".", "$", ":=", "range ", "end", "if ", "else", "with ", "index ", "printf ", "json ", "\"%v\"",
            "\"", "`", "(", ")", "len ", "slice ", "eq ", "'a'", "0x1p-2", "1_0", "nil", "true", "break", "define \"x\"",
        ],
    },
    Target {
        name: "payload",
        run: payload,
        seeds: &[b"{{.Service.Name}}-{{ .Task.Slot }} {{.Node.Hostname}}", b"{{env \"A\"}} {{secret \"b\"}} {{ config \"c\" }} {{index .Service.Labels \"x\"}}"],
        words: &["{{", "}}", ".", "secret ", "config ", "env ", "\"", "index ", ".Service.Labels", ".Task.Name", "`"],
    },
    Target {
        name: "reference",
        run: reference,
        seeds: &[
            b"docker.io/library/nginx:1.27@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            b"localhost:5000/a/b_c.d-e:v1",
            b"[::1]:5000/x",
        ],
        words: &["/", ":", "@", "sha256:", ".", "-", "__", "docker.io", "localhost", "[::1]", "latest"],
    },
    Target {
        name: "options",
        run: options,
        seeds: &[
            b"type=volume,src=a,dst=/b,readonly,volume-opt=o=x,\"volume-label=a,b\"",
            b"published=80-81,target=80,protocol=udp,mode=host",
            b"127.0.0.1:80-81:90-91/tcp",
            b"source=a,target=/b,uid=0,gid=0,mode=0440",
            b"name=net,alias=a,driver-opt=k=v",
            b"sh -c 'a b' \"c\\\"d\"",
        ],
        words: &["=", ",", ":", "-", "/", "\"", "'", "\\", "src", "target=", "type=bind", "65535", "nofile=1:2", "spread=node.labels.x", "gpu=2"],
    },
    Target {
        name: "filters",
        run: filters,
        seeds: &[br#"{"name":["web"],"label":{"a=b":true,"c":false}}"#, br#"{"label!":["a"],"dangling":["1"],"until":["24h"]}"#],
        words: &["{", "}", "[", "]", ":", ",", "\"name\"", "\"label\"", "\"label!\"", "true", "false", "null", "\"a=b\""],
    },
    Target {
        name: "service",
        run: skep_api::fuzz::service,
        seeds: &[
            br#"{"Name":"web","Labels":{"a":"b"},"TaskTemplate":{"ContainerSpec":{"Image":"i","Args":["x"],"Env":["A=1"],"Mounts":[{"Type":"volume","Source":"a","Target":"/a"}],"Healthcheck":{"Test":["CMD","x"],"Interval":1000000},"Secrets":[{"SecretID":"x","SecretName":"y","File":{"Name":"z","UID":"0","GID":"0","Mode":292}}]},"Resources":{"Limits":{"NanoCPUs":1}},"RestartPolicy":{"Condition":"any","Delay":1},"Placement":{"Constraints":["node.role==manager"],"Preferences":[{"Spread":{"SpreadDescriptor":"node.labels.a"}}]},"Networks":[{"Target":"n","Aliases":["a"]}]},"Mode":{"Replicated":{"Replicas":3}},"UpdateConfig":{"Parallelism":1,"FailureAction":"rollback","MaxFailureRatio":0.1,"Order":"start-first"},"EndpointSpec":{"Mode":"vip","Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":80,"PublishMode":"ingress"}]}}"#,
        ],
        words: &["{", "}", "[", "]", ":", ",", "null", "-1", "0", "\"Mode\"", "\"Global\":{}", "\"Privileges\":{}", "true", "1e300", "\"\""],
    },
    Target {
        name: "log",
        run: log,
        seeds: &[b"{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.000000000Z\"}\n{\"log\":\"b\",\"stream\":\"stderr\",\"time\":\"x\"}\n{\"torn"],
        words: &["{", "}", "\n", "\"log\":", "\"stream\":\"stderr\"", "\"time\":\"\"", "\\n", "\\ud800", ","],
    },
    Target {
        name: "frames",
        run: frames,
        seeds: &[b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01x", b"\x01\0\0\0\x7f\xff\xff\xffx"],
        words: &["\u{1}\0\0\0\0\0\0\u{2}", "\u{2}\0\0\0", "\0\0\0\u{1}", "\u{3}"],
    },
    Target {
        name: "message",
        run: message,
        seeds: &[
            b"\x81\xa4Data\xc4\x03abc",
            b"\x81\xa5Begin\x81\xa3ask\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x81\xa7Records\x91\x92\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x83\xa6stderr\xc2\xa4time\xa1x\xa4line\xa1y",
            b"\xa9Heartbeat",
            b"\x81\xa8Followed\x81\xa5index\x07",
        ],
        words: &["\u{0}", "Begin", "Data", "Records", "Hello", "Statuses", "Complete", "DataPlane", "File", "Done", "End"],
    },
];

/// Files in memory: one by any name, and the directory's `a.yml` and `c`.
struct Memory<'a>(&'a [u8]);

impl Files for Memory<'_> {
    fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let bytes = match path.file_name().and_then(|n| n.to_str()) {
            Some("fuzz.yml") => self.0,
            Some("a.yml") => b"services: {b: {image: i}}\n",
            Some("c" | ".env") => b"A=1\n",
            _ => return Ok(None),
        };
        Ok(Some(bytes[..bytes.len().min(limit + 1)].to_vec()))
    }
}

fn read(file: &[u8], dotenv: Option<&[u8]>) {
    let environment = [("HOME", "/home/me"), ("TAG", "1.2"), ("EMPTY", "")];
    let options = |file: &str| Options {
        files: vec![file.to_owned()],
        directory: PathBuf::from("/app"),
        environment: environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        dotenv: dotenv.map(|d| (".env".to_owned(), d.to_vec())),
        interpolate: true,
    };
    let stack = |bytes: &[u8]| {
        let project = load(&options("fuzz.yml"), &Memory(bytes))?;
        let stack = project.stack("app", &Memory(bytes))?;
        Ok::<_, skep_compose::Faults>((project.yaml(), stack.services.iter().map(|s| s.body.clone()).collect::<Vec<_>>()))
    };
    // What is printed means what was read.
    if let Ok((printed, services)) = stack(file)
        && dotenv.is_none()
    {
        match stack(printed.as_bytes()) {
            Ok((_, again)) => assert_eq!(services, again, "{printed}"),
            Err(faults) => panic!("what was printed is not read: {faults}\n{printed}"),
        }
    }
}

fn compose(bytes: &[u8]) {
    read(bytes, None);
}

fn interpolation(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    read(format!("services:\n  web:\n    image: i\n    labels:\n      a: {}\n", json!(text)).as_bytes(), None);
}

fn dotenv(bytes: &[u8]) {
    read(b"services: {web: {image: i, environment: {A: '$A $B $C'}}}", Some(bytes));
}

fn template(bytes: &[u8]) {
    let value = json!({
        "Name": "web", "A": 1, "B": false, "C": null, "Labels": {"a": "b"}, "Spec": {"Name": "x", "Replicas": 3},
        "Ports": [{"PublishedPort": 80}, {"PublishedPort": 81}],
    });
    if let Ok(template) = Template::parse(&String::from_utf8_lossy(bytes)) {
        let first = template.run(&value, &no_methods);
        assert_eq!(first, template.run(&value, &no_methods));
        let _ = template.run_heading(&value, &no_methods);
    }
}

fn payload(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = skep_types::template::check_payload(&text);
    let _ = skep_types::template::expand(&text, &skep_types::template::Context::default());
}

fn reference(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(name) = Reference::parse(&text) {
        let shown = name.to_string();
        assert_eq!(Reference::parse(&shown).as_ref().map(ToString::to_string), Ok(shown.clone()), "{text:?}");
        let whole = name.with_default_tag();
        let _ = (whole.name(), whole.familiar_name(), whole.identifier().to_owned());
    }
}

fn options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (mount::parse(&text), port::short(&text), port::service(&text));
    let _ = (refs::file("secret", &text), refs::network(&text), refs::network_of_container(&text), refs::preference(&text));
    let _ = (refs::ulimit(&text), refs::generic(&text), refs::host(&text), refs::credential_spec(&text));
    let _ = (words::split(&text), words::fields(&text), skep_cli::grammar::values::duration(&text));
    let _ = (skep_cli::grammar::values::bytes(&text), skep_cli::grammar::values::nano_cpus(&text));
    let _ = (skep_cli::output::time::parse_local(&text), skep_cli::options::filters(&[text.into_owned()]));
}

fn filters(bytes: &[u8]) {
    skep_api::fuzz::filters(&String::from_utf8_lossy(bytes));
    let _ = skep_api::decode_auth(&String::from_utf8_lossy(bytes));
}

fn log(bytes: &[u8]) {
    let all = LogOptions { stdout: true, stderr: true, ..LogOptions::default() };
    let records = skep_engine::logs::records(bytes, &all);
    assert!(records.len() <= bytes.iter().filter(|b| **b == b'\n').count());
}

fn frames(bytes: &[u8]) {
    if let Some(count) = skep_cli::fuzz::frames(bytes) {
        assert!(count * 8 <= bytes.len());
    }
}

fn message(bytes: &[u8]) {
    let _ = rmp_serde::from_slice::<LogMessage>(bytes);
    let _ = rmp_serde::from_slice::<TunnelMessage>(bytes);
    let _ = rmp_serde::from_slice::<AgentMessage>(bytes);
    let _ = rmp_serde::from_slice::<ManagerMessage>(bytes);
}

//! Networks, volumes, secrets and configs: their names, their bodies, and how services refer to them.

mod common;

use common::{stack, stack_of};
use serde_json::json;

#[test]
fn networks_and_names() {
    let text = "
services:
  web:
    image: i
    networks: {front: {aliases: [www, web]}, back: null, shared: null}
  db: {image: i, networks: [back]}
  alone: {image: i}
  raw: {image: i, networks: [hostnet]}
networks:
  front: {driver_opts: {mtu: 1400}, attachable: true, labels: [a=b], ipam: {config: [{subnet: 10.9.0.0/24}]}}
  back: {name: the-back, internal: true, driver: overlay}
  shared: {external: true, name: corp}
  hostnet: {external: {name: host}}
  unused: {}
";
    let stack = stack(text).unwrap();
    let names: Vec<&str> = stack.networks.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["app_default", "app_front", "the-back"]);
    let labels = json!({"a": "b", "com.docker.stack.namespace": "app"});
    assert_eq!(
        stack.networks[1].body,
        json!({"Name": "app_front", "Driver": "overlay", "Options": {"mtu": "1400"}, "Attachable": true, "Labels": labels,
               "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}]}})
    );
    assert_eq!(stack.networks[2].body["Internal"], json!(true));
    let external: Vec<&str> = stack.external_networks.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(external, ["corp", "host"]);
    let of = |key: &str| stack.services.iter().find(|s| s.key == key).unwrap().body["TaskTemplate"]["Networks"].clone();
    assert_eq!(
        of("web"),
        json!([{"Target": "app_front", "Aliases": ["www", "web"]}, {"Target": "corp", "Aliases": ["web"]},
               {"Target": "the-back", "Aliases": ["web"]}])
    );
    assert_eq!(of("alone"), json!([{"Target": "app_default", "Aliases": ["alone"]}]));
    assert_eq!(of("raw"), json!([{"Target": "host"}]));
    let names: Vec<&str> = stack.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["app_alone", "app_db", "app_raw", "app_web"]);
}

#[test]
fn named_volumes() {
    let text = "
services:
  web:
    image: i
    volumes:
      - data:/data:nocopy
      - {type: volume, source: nfs, target: /nfs, read_only: true}
      - ext:/ext
volumes:
  data:
  nfs: {driver: local, driver_opts: {type: nfs, o: 'addr=1.2.3.4'}, labels: {a: b}}
  ext: {external: true, name: other}
";
    let stack = stack(text).unwrap();
    let mounts = &stack.services[0].body["TaskTemplate"]["ContainerSpec"]["Mounts"];
    let own = json!({"com.docker.stack.namespace": "app"});
    let labelled = json!({"a": "b", "com.docker.stack.namespace": "app"});
    let driver = json!({"Name": "local", "Options": {"type": "nfs", "o": "addr=1.2.3.4"}});
    assert_eq!(
        *mounts,
        json!([
            {"Type": "volume", "Source": "app_data", "Target": "/data", "VolumeOptions": {"NoCopy": true, "Labels": own}},
            {"Type": "volume", "Source": "other", "Target": "/ext"},
            {"Type": "volume", "Source": "app_nfs", "Target": "/nfs", "ReadOnly": true,
             "VolumeOptions": {"Labels": labelled, "DriverConfig": driver}},
        ])
    );
}

#[test]
fn secrets_and_configs() {
    let text = "
services:
  web:
    image: i
    secrets: [pw, {source: ext, target: /x/y, uid: '5', mode: 0400}]
    configs: [{source: site, target: /etc/site.conf}, inline]
secrets:
  pw: {file: ./pw.txt, labels: {a: b}}
  ext: {external: true}
  driven: {driver: vault, driver_opts: {path: p}, template_driver: golang}
configs:
  site: {file: site.conf, name: site-conf}
  inline: {content: 'tag ${TAG}'}
  env: {environment: TAG}
";
    let files = [("a.yml", text), ("pw.txt", "hunter2"), ("site.conf", "server {}")];
    let stack = stack_of(&files, &["a.yml"]).unwrap();
    let container = &stack.services[0].body["TaskTemplate"]["ContainerSpec"];
    let file = |name: &str| json!({"Name": name, "UID": "0", "GID": "0", "Mode": 0o444});
    assert_eq!(
        container["Secrets"],
        json!([{"File": file("pw"), "SecretName": "app_pw"},
               {"File": {"Name": "/x/y", "UID": "5", "GID": "0", "Mode": 0o400}, "SecretName": "ext"}])
    );
    assert_eq!(
        container["Configs"],
        json!([{"File": file("inline"), "ConfigName": "app_inline"},
               {"File": file("/etc/site.conf"), "ConfigName": "site-conf"}])
    );
    let secrets: Vec<&str> = stack.secrets.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(secrets, ["app_driven", "app_pw"]);
    let labels = json!({"com.docker.stack.namespace": "app"});
    assert_eq!(
        stack.secrets[0].create_body("app_driven"),
        json!({"Name": "app_driven", "Labels": labels, "Driver": {"Name": "vault", "Options": {"path": "p"}}, "Templating": {"Name": "golang"}})
    );
    assert_eq!(stack.secrets[1].create_body("n")["Data"], json!("aHVudGVyMg=="));
    let configs: Vec<(&str, &[u8])> =
        stack.configs.iter().map(|c| (c.name.as_str(), c.data.as_ref().unwrap().bytes.as_slice())).collect();
    assert_eq!(configs, [("app_env", b"1.2".as_slice()), ("app_inline", b"tag 1.2"), ("site-conf", b"server {}")]);
    assert!(!format!("{stack:?}").contains("hunter2"));
}

/// Another content has another version's name; the same one the same, and other names other digests.
#[test]
fn versions_of_a_secret_follow_its_content() {
    let of = |content: &str| {
        let text = "services: {web: {image: i, secrets: [pw]}}\nsecrets: {pw: {file: pw}, same: {file: pw}}";
        stack_of(&[("a.yml", text), ("pw", content)], &["a.yml"]).unwrap().secrets
    };
    let (one, again, other) = (of("1"), of("1"), of("2"));
    assert_eq!(one[0].version(), again[0].version());
    assert_ne!(one[0].version(), other[0].version());
    assert!(one[0].version().starts_with("app_pw_") && one[0].version().len() == "app_pw_".len() + 8);
    let digest = |o: &skep_compose::Object| o.data.as_ref().unwrap().digest.clone();
    assert_ne!(digest(&one[0]), digest(&one[1]));
    assert_eq!(skep_compose::version_name(&"n".repeat(64), &digest(&one[0])).len(), 64);
}

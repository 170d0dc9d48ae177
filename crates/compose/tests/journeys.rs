//! The files of journey J6 (`journeys.md`), whole: what is sent for each.

mod common;

use common::stack;
use serde_json::json;

#[test]
fn wordpress() {
    let stack = stack(include_str!("data/wordpress.yml")).unwrap();
    assert!(stack.warnings.is_empty(), "{:?}", stack.warnings);
    let own = json!({"com.docker.stack.namespace": "app"});
    assert_eq!(stack.networks[0].body, json!({"Name": "app_overlay", "Driver": "overlay", "Labels": own}));
    assert_eq!(stack.networks.len(), 1);
    assert_eq!(
        stack.services[0].body,
        json!({
            "Name": "app_mysql",
            "Labels": {"com.docker.stack.namespace": "app", "com.docker.stack.image": "mysql:5.7"},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "mysql:5.7", "Labels": own,
                    "Env": ["MYSQL_DATABASE=wordpress", "MYSQL_ROOT_PASSWORD=root"],
                    "Mounts": [{"Type": "volume", "Source": "app_mysql-data", "Target": "/var/lib/mysql", "VolumeOptions": {"Labels": own}}],
                },
                "Networks": [{"Target": "app_overlay", "Aliases": ["mysql"]}],
                "Placement": {"Constraints": ["node.role == manager"]},
            },
            "Mode": {"Global": {}},
            "EndpointSpec": {},
        })
    );
    assert_eq!(
        stack.services[1].body,
        json!({
            "Name": "app_web",
            "Labels": {"com.docker.stack.namespace": "app", "com.docker.stack.image": "wordpress:latest"},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "wordpress:latest", "Labels": own,
                    "Env": ["WORDPRESS_DB_HOST=mysql", "WORDPRESS_DB_PASSWORD=root"],
                },
                "Networks": [{"Target": "app_overlay", "Aliases": ["web"]}],
                "RestartPolicy": {"Condition": "on-failure", "Delay": 5_000_000_000_i64, "MaxAttempts": 3},
                "Placement": {},
            },
            "Mode": {"Replicated": {"Replicas": 3}},
            "UpdateConfig": {"Parallelism": 1, "Delay": 10_000_000_000_i64},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"}]},
        })
    );
}

#[test]
fn wordpress_with_a_secret() {
    let stack = stack(include_str!("data/wordpress-secret.yml")).unwrap();
    assert!(stack.secrets.is_empty());
    for service in &stack.services {
        let file = json!({"Name": "my-pw", "UID": "0", "GID": "0", "Mode": 0o444});
        let wanted = json!([{"File": file, "SecretName": "my-pw"}]);
        assert_eq!(service.body["TaskTemplate"]["ContainerSpec"]["Secrets"], wanted);
        assert_eq!(service.body["TaskTemplate"]["Networks"][0]["Target"], json!("app_default"));
    }
}

#[test]
fn calculator() {
    let stack = stack(include_str!("data/calculator.yml")).unwrap();
    let names: Vec<&str> = stack.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["app_calculator", "app_redis"]);
    assert_eq!(stack.networks[0].name, "app_default");
    assert_eq!(stack.services[0].body["EndpointSpec"]["Ports"][0]["PublishedPort"], json!(8881));
}

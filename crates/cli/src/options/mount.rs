//! `--mount`: `type=bind,source=/a,target=/b,readonly` and its many keys (`swarm-semantics` 10.1).

use serde_json::{Value, json};

use super::{map, put, words::fields};
use crate::grammar::values;

/// Reads one mount into the API's form.
///
/// # Errors
/// With Docker's texts.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut out = json!({"Type": "volume"});
    let mut labels = Vec::new();
    let mut options = Vec::new();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
        let key = key.trim().to_ascii_lowercase();
        let flag = |value: Option<&str>| match value {
            None => Ok(true),
            Some(v) => values::truth(v).map_err(|_| format!("invalid value for {key}: {v}")),
        };
        match key.as_str() {
            "readonly" | "ro" => out["ReadOnly"] = flag(value)?.into(),
            "volume-nocopy" => put(&mut out, &["VolumeOptions", "NoCopy"], flag(value)?),
            "bind-nonrecursive" => put(&mut out, &["BindOptions", "NonRecursive"], flag(value)?),
            "bind-create-src" => put(&mut out, &["BindOptions", "CreateMountpoint"], flag(value)?),
            _ => {
                let value = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
                match key.as_str() {
                    "type" => out["Type"] = value.to_ascii_lowercase().into(),
                    "source" | "src" => {
                        // A path that begins with a dot is the client's: the daemon knows no working directory.
                        let absolute = value.starts_with('.').then(|| std::path::absolute(value).ok()).flatten();
                        out["Source"] = absolute.map_or_else(|| value.into(), |p| p.display().to_string().into());
                    }
                    "target" | "dst" | "destination" => out["Target"] = value.into(),
                    "consistency" => out["Consistency"] = value.to_ascii_lowercase().into(),
                    "bind-propagation" => put(&mut out, &["BindOptions", "Propagation"], value.to_ascii_lowercase()),
                    "bind-recursive" => match value {
                        "enabled" => {}
                        "disabled" => put(&mut out, &["BindOptions", "NonRecursive"], true),
                        "writable" => put(&mut out, &["BindOptions", "ReadOnlyNonRecursive"], true),
                        "readonly" => put(&mut out, &["BindOptions", "ReadOnlyForceRecursive"], true),
                        other => {
                            return Err(format!(
                                "invalid value for {key}: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                            ));
                        }
                    },
                    "volume-subpath" => put(&mut out, &["VolumeOptions", "Subpath"], value),
                    "volume-driver" => put(&mut out, &["VolumeOptions", "DriverConfig", "Name"], value),
                    "volume-opt" => options.push(value.to_owned()),
                    "volume-label" => labels.push(value.to_owned()),
                    "image-subpath" => put(&mut out, &["ImageOptions", "Subpath"], value),
                    "tmpfs-size" => {
                        let size = values::bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                        put(&mut out, &["TmpfsOptions", "SizeBytes"], size);
                    }
                    "tmpfs-mode" => {
                        let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
                        put(&mut out, &["TmpfsOptions", "Mode"], mode);
                    }
                    other => return Err(format!("unknown option '{other}' in '{field}'")),
                }
            }
        }
    }
    if !labels.is_empty() {
        put(&mut out, &["VolumeOptions", "Labels"], map(&labels));
    }
    if !options.is_empty() {
        put(&mut out, &["VolumeOptions", "DriverConfig", "Options"], map(&options));
    }
    check(out)
}

fn check(out: Value) -> Result<Value, String> {
    let kind = out["Type"].as_str().unwrap_or_default().to_owned();
    if kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if out["Target"].as_str().unwrap_or_default().is_empty() {
        return Err("target is required".to_owned());
    }
    for (part, prefix, fits) in [
        ("VolumeOptions", "volume", "volume"),
        ("BindOptions", "bind", "bind"),
        ("TmpfsOptions", "tmpfs", "tmpfs"),
        ("ImageOptions", "image", "image"),
    ] {
        if kind != fits && !out[part].is_null() {
            return Err(format!("cannot mix '{prefix}-*' options with mount type '{kind}'"));
        }
    }
    let bind = &out["BindOptions"];
    let read_only = out["ReadOnly"] == true;
    for (key, word) in [("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")] {
        if bind[key] == true && !read_only {
            return Err(format!("option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction"));
        }
    }
    if bind["ReadOnlyForceRecursive"] == true && bind["Propagation"] != "rprivate" {
        return Err(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".to_owned()
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        assert_eq!(parse("src=v,dst=/v").unwrap(), json!({"Type": "volume", "Source": "v", "Target": "/v"}));
        assert_eq!(
            parse("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave").unwrap(),
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {"Propagation": "rslave"}})
        );
        assert_eq!(
            parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap()["TmpfsOptions"],
            json!({"SizeBytes": 1 << 20, "Mode": 448})
        );
        assert_eq!(
            parse("src=v,dst=/v,volume-driver=local,volume-opt=o=addr,volume-opt=b=c,volume-label=x=y,volume-nocopy").unwrap()
                ["VolumeOptions"],
            json!({"DriverConfig": {"Name": "local", "Options": {"o": "addr", "b": "c"}}, "Labels": {"x": "y"}, "NoCopy": true})
        );
        for (bad, why) in [
            ("target", "invalid field 'target' must be a key=value pair"),
            ("type=bind,source=/a", "target is required"),
            ("a=b,target=/x", "unknown option 'a' in 'a=b'"),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=tmpfs,dst=/b,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), why, "{bad}");
        }
    }
}

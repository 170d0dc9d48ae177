//! Signature Version 4 of AWS (its "Authenticating Requests" reference): who asks, and that nothing was changed on the way. Pure.

use ring::{digest, hmac};

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: skep_types::Secret,
    /// Of keys that are lent for a time.
    pub(super) token: Option<skep_types::Secret>,
}

/// What is signed.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// In the canonical form.
    pub(super) query: &'a str,
    /// Names in lower case, sorted, with their values.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// `20150830T123600Z`.
    pub(super) time: &'a str,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// The value of the header `Authorization`.
pub(super) fn authorization(keys: &Keys, s: &Signed<'_>) -> String {
    let names = s.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let headers: String = s.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let request = format!("{}\n{}\n{}\n{headers}\n{names}\n{}", s.method, s.path, s.query, sha256(s.body));
    let day = s.time.get(..8).unwrap_or(s.time);
    let scope = format!("{day}/{}/{}/aws4_request", s.region, s.service);
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", s.time, sha256(request.as_bytes()));
    let mut key = mac(format!("AWS4{}", &*keys.secret).as_bytes(), day);
    for part in [s.region, s.service, "aws4_request"] {
        key = mac(key.as_ref(), part);
    }
    let signature = hex(mac(key.as_ref(), &text).as_ref());
    format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_awss_documentation_is_signed_as_there() {
        let keys = Keys {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
            token: None,
        };
        let headers = [
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("host", "iam.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let request = Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            body: b"",
            region: "us-east-1",
            service: "iam",
            time: "20150830T123600Z",
        };
        assert_eq!(
            authorization(&keys, &request),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn a_call_with_lent_keys_is_signed_as_another_program_signs_it() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into();
        let keys = Keys { id: "AKIDEXAMPLE".into(), secret, token: Some("TOKEN".to_owned().into()) };
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("host", "logs.eu-west-1.amazonaws.com"),
            ("x-amz-date", "20260101T000000Z"),
            ("x-amz-security-token", "TOKEN"),
            ("x-amz-target", "Logs_20140328.PutLogEvents"),
        ];
        let body = br#"{"logEvents":[]}"#;
        let (region, service, time) = ("eu-west-1", "logs", "20260101T000000Z");
        let call = Signed { method: "POST", path: "/", query: "", headers: &headers, body, region, service, time };
        // By the hmac and hashlib of Python.
        let expected = "5660f5d60b2a6609db8df3174432d35f0bfdc6613962eccd9fb5fdcaab20173a";
        assert!(authorization(&keys, &call).ends_with(&format!("Signature={expected}")));
    }
}

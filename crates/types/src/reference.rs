//! Image names, as Docker's command line reads them.
//!
//! Grammar and defaults are those of the distribution reference package: `docker.io` and `library/` are implied, names are lower-case.

use std::fmt;

/// Docker's limit for registry and path together.
const MAX_NAME: usize = 255;
const HUB: &str = "docker.io";

/// A text that is no image name; prints as Docker does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidReference(String);

/// A parsed image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/nginx`.
    pub repository: String,
    /// Tag, if named.
    pub tag: Option<String>,
    /// `sha256:…`, if named.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses a name.
    ///
    /// # Errors
    /// Docker's text for what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let bad = || InvalidReference("invalid reference format".to_owned());
        if is_id(text) {
            let why = format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings");
            return Err(InvalidReference(why));
        }
        let (registry, rest) = match text.split_once('/') {
            Some((first, rest)) if names_registry(first) => (if first == "index.docker.io" { HUB } else { first }, rest),
            _ => (HUB, text),
        };
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path != path.to_lowercase() {
            let why = format!("invalid reference format: repository name ({path}) must be lowercase");
            return Err(InvalidReference(why));
        }
        let repository = if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let valid = valid_registry(registry)
            && repository.split('/').all(valid_component)
            && tag.is_none_or(valid_tag)
            && digest.is_none_or(valid_digest);
        if !valid {
            return Err(bad());
        }
        if registry.len() + repository.len() + 1 > MAX_NAME {
            return Err(InvalidReference("repository name must not be more than 255 characters".to_owned()));
        }
        let (registry, tag, digest) = (registry.to_owned(), tag.map(str::to_owned), digest.map(str::to_owned));
        Ok(Self { registry, repository, tag, digest })
    }

    /// With `latest`, if neither tag nor digest is named.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// `registry/repository`, in full.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as users write it: without `docker.io/library/`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        familiar(&self.name()).to_owned()
    }

    /// Tag or digest as registries take it in a path.
    #[must_use]
    pub fn identifier(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

impl fmt::Display for Reference {
    /// The familiar form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar_name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// A full name as users write it, as short as it can be without meaning another.
#[must_use]
pub fn familiar(name: &str) -> &str {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    // `library/x/y` is someone's path, not an official image
    let short = short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short);
    let other = is_id(short) || short.split_once('/').is_some_and(|(first, _)| names_registry(first));
    if other { name } else { short }
}

/// Whether what stands before the first slash of a name is a registry.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first != first.to_lowercase()
}

/// What is taken for an image's id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn valid_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let number = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let label = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    let host = v6.map_or_else(|| host.split('.').all(label), |h| h.parse::<std::net::Ipv6Addr>().is_ok());
    host && port.is_none_or(number)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn valid_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edge = |b: Option<&u8>| b.copied().is_some_and(word);
    let bytes = text.as_bytes();
    let separators = text.split(|c: char| c.is_ascii() && word(c as u8));
    let fine = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-');
    edge(bytes.first()) && edge(bytes.last()) && separators.into_iter().all(fine)
}

fn valid_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next().is_some_and(word);
    first && text.len() <= 128 && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Only SHA-256: nothing else is in use.
#[must_use]
pub fn valid_digest(text: &str) -> bool {
    let hex = |t: &str| t.len() == 64 && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    text.strip_prefix("sha256:").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_filled_in_and_left_out_again() {
        let cases = [
            ("nginx", "docker.io/library/nginx", "nginx"),
            ("nginx:1.25", "docker.io/library/nginx", "nginx:1.25"),
            ("me/app", "docker.io/me/app", "me/app"),
            ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
            // Found by the fuzzer: shorter, it would name a registry.
            ("docker.io/a.b/c:1", "docker.io/a.b/c", "docker.io/a.b/c:1"),
            ("docker.io/localhost/x", "docker.io/localhost/x", "docker.io/localhost/x"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("127.0.0.1:5000/a/b-c__d.e:v_1.0", "127.0.0.1:5000/a/b-c__d.e", "127.0.0.1:5000/a/b-c__d.e:v_1.0"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ];
        for (text, name, familiar) in cases {
            let parsed = Reference::parse(text).expect(text);
            assert_eq!((parsed.name().as_str(), parsed.to_string().as_str()), (name, familiar));
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        let parsed = Reference::parse(&format!("x:y@{digest}")).expect("valid");
        assert_eq!(parsed.identifier(), digest);
        assert_eq!(Reference::parse("x").expect("valid").with_default_tag().to_string(), "x:latest");
    }

    #[test]
    fn texts_of_refusals_are_dockers() {
        let text = |t: &str| Reference::parse(t).expect_err(t).to_string();
        assert_eq!(text("Nginx"), "invalid reference format: repository name (Nginx) must be lowercase");
        assert_eq!(text("me/App:x"), "invalid reference format: repository name (me/App) must be lowercase");
        for bad in ["", ":x", "a//b", "-a", "a-", "a..b", "a___b", "x:", "x:é", "x@sha256:12", "../x", "x y", "a/../b", "é"] {
            assert_eq!(text(bad), "invalid reference format", "{bad}");
        }
        assert!(text(&"a".repeat(64)).contains("64-byte hexadecimal"));
    }
}

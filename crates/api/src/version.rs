//! Versions of the API: `/v1.NN/…` in front of every path.

use skep_types::control::{Code, ControlError};

/// Newest version spoken.
pub const API_VERSION: (u32, u32) = (1, 50);
/// Oldest version spoken.
pub const MIN_API_VERSION: (u32, u32) = (1, 24);

/// The version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

/// Splits `/v1.43/containers/json` into version and path; without a version the newest is meant.
///
/// # Errors
/// 400 with Docker's texts for versions that are not spoken.
pub(crate) fn split(path: &str) -> Result<(Version, &str), ControlError> {
    let newest = Version(API_VERSION.0, API_VERSION.1);
    let Some(rest) = path.strip_prefix("/v") else { return Ok((newest, path)) };
    let (text, tail) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let Some(version) = parse(text) else { return Ok((newest, path)) };
    let refuse = |message: String| Err(ControlError::new(Code::InvalidArgument, message));
    if version < Version(MIN_API_VERSION.0, MIN_API_VERSION.1) {
        return refuse(format!(
            "client version {text} is too old. Minimum supported API version is {}.{}, please upgrade your client to a newer \
             version",
            MIN_API_VERSION.0, MIN_API_VERSION.1
        ));
    }
    if version > newest {
        return refuse(format!(
            "client version {text} is too new. Maximum supported API version is {}.{}",
            API_VERSION.0, API_VERSION.1
        ));
    }
    Ok((version, tail))
}

fn parse(text: &str) -> Option<Version> {
    let (major, minor) = text.split_once('.')?;
    Some(Version(major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_split_off_or_refused() {
        assert_eq!(split("/v1.43/info"), Ok((Version(1, 43), "/info")));
        assert_eq!(split("/info"), Ok((Version(1, 50), "/info")));
        assert_eq!(split("/volumes"), Ok((Version(1, 50), "/volumes")));
        assert!(split("/v1.23/info").expect_err("old").message.contains("too old"));
        assert!(split("/v1.99/info").expect_err("new").message.contains("too new"));
    }
}

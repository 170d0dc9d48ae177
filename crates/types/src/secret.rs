//! Text that must not be printed. Must never be formatted with its content.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A key or password as text. Encoded as the text itself; `Debug` shows only whether there is one, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(none)" } else { "Secret(hidden)" })
    }
}

impl Deref for Secret {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let s = Secret("SWMKEY-1-abc".into());
        assert!(!format!("{s:?} {:?}", Some(&s)).contains("abc"));
        assert_eq!(&*s, "SWMKEY-1-abc");
    }
}

//! What can go wrong with an image; the texts of what a user can cause are Docker's.

use std::io;

use skep_types::reference::InvalidReference;

/// An error of the image store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// 400.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// 404.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// 404: the registry has the repository, but not this.
    #[error("manifest for {0} not found: manifest unknown: manifest unknown")]
    ManifestUnknown(String),
    /// 404: the registry has no such repository, or not for this user.
    #[error("pull access denied for {0}, repository does not exist or may require 'docker login'")]
    PullDenied(String),
    /// 401: the registry does not take these credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// 403.
    #[error("push access denied for {0}: requested access to the resource is denied")]
    PushDenied(String),
    /// 404.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// 409.
    #[error("conflict: unable to {what} {id} ({must}) - {why}")]
    Conflict {
        /// `delete` or `remove`.
        what: &'static str,
        /// Short id of the image or its name.
        id: String,
        /// Whether force would help, in Docker's words.
        must: &'static str,
        /// Docker's reason.
        why: String,
    },
    /// 400: what was given is not what it should be.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry cannot be used.
    #[error("{operation} {object}")]
    Registry {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file system refused something.
    #[error("{operation} {object}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
}

impl ImageError {
    pub(crate) fn io(operation: &'static str, object: impl ToString, cause: impl Into<io::Error>) -> Self {
        Self::Io { operation, object: object.to_string(), cause: cause.into() }
    }

    pub(crate) fn invalid(what: impl ToString, why: impl ToString) -> Self {
        Self::Invalid { what: what.to_string(), why: why.to_string() }
    }

    /// The HTTP status that Docker answers with.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Reference(_) | Self::Invalid { .. } => 400,
            Self::Unauthorized(_) => 401,
            Self::PushDenied(_) => 403,
            Self::NoSuchImage(_) | Self::ManifestUnknown(_) | Self::PullDenied(_) | Self::NoPlatform(_) => 404,
            Self::Conflict { .. } => 409,
            Self::Registry { .. } | Self::Io { .. } => 500,
        }
    }

    /// The error with its causes, as one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Result of the image store.
pub(crate) type Result<T> = std::result::Result<T, ImageError>;

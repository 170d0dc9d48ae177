//! Refusals as HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use skep_types::control::{Code, ControlError};

/// A [`ControlError`] on its way to a client.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) ControlError);

/// What a handler answers.
pub(crate) type Handled<T = Response> = Result<T, Failure>;

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(ControlError::new(code, message))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn unbuilt(what: impl std::fmt::Display) -> Self {
        Self::new(Code::Unimplemented, format!("{what} is not built yet in Skep"))
    }
}

/// Status of a class (`swarm-semantics` 2.2).
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Conflict => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Code::NotModified => StatusCode::NOT_MODIFIED,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = status(self.0.code);
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response();
        }
        if status.is_server_error() {
            tracing::warn!(message = %self.0.message, code = ?self.0.code, "request failed");
        }
        (status, Json(json!({"message": self.0.message}))).into_response()
    }
}

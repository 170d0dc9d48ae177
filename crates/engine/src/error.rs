//! Refusals with Docker's texts and classes.

pub use skep_types::control::Code;

/// An error of the engine: its class and the text that clients see.
pub type EngineError = skep_types::control::ControlError;

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// 404.
pub fn not_found(message: impl Into<String>) -> EngineError {
    EngineError::new(Code::NotFound, message)
}

/// 409.
pub fn conflict(message: impl Into<String>) -> EngineError {
    EngineError::new(Code::Conflict, message)
}

/// 400.
pub fn invalid(message: impl Into<String>) -> EngineError {
    EngineError::new(Code::InvalidArgument, message)
}

/// 500: what was done, to what, and why it failed.
pub fn internal(operation: &str, cause: impl std::fmt::Display) -> EngineError {
    EngineError::new(Code::Internal, format!("{operation}: {cause}"))
}

//! Giving memory back to the kernel.

/// Returns free memory of the allocator to the kernel; does nothing where the allocator cannot.
#[allow(unsafe_code)]
pub fn trim() {
    // SAFETY: malloc_trim takes no pointers and is safe to call at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

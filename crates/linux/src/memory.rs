//! Giving memory back to the kernel: from time to time, and not at each turn.

/// Free memory at the end of the heap that the allocator keeps until [`trim`] is called, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 512 << 20;
/// How much more than asked for it takes from the kernel at a time, in bytes; untouched, it costs nothing.
#[cfg(target_env = "gnu")]
const AHEAD: libc::c_int = 16 << 20;
/// What is larger has pages of its own, taken and given back, cleared, each time, in bytes. The buffers of a transaction (1.5 MiB at
/// most) stay below; with the values above the allocator would not learn that by itself, and begin at 128 KiB.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 4 << 20;

/// Lets the allocator keep what is freed until [`trim`] is called. Else a manager that plans much gives pages back and takes
/// them again, cleared, all the time: a fifth of the time that a million tasks need.
#[allow(unsafe_code)]
pub fn keep_until_trimmed() {
    // SAFETY: mallopt takes no pointers; it is called before there are other threads.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TOP_PAD, AHEAD);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Returns free memory of the allocator to the kernel; does nothing where the allocator cannot.
#[allow(unsafe_code)]
pub fn trim() {
    // SAFETY: malloc_trim takes no pointers and is safe to call at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

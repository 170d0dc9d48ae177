//! Each binary of this crate feeds the target of its name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(target) = skep_fuzz::find(env!("CARGO_BIN_NAME")) {
        (target.run)(data);
    }
});

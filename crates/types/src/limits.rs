//! The least CPU and memory that can be asked for, with Docker's texts (swarmkit's `validateResources`).

/// Least share of a CPU: 0.001 of a core, in nano-CPUs.
const MIN_CPU: i64 = 1_000_000;
/// Least memory in bytes.
const MIN_MEMORY: i64 = 4 << 20;

/// A number as Go's `%g` prints it: with an exponent of two digits below 0.0001.
fn general(x: f64) -> String {
    let text = format!("{x:e}");
    match text.split_once("e-") {
        Some((digits, exponent)) if exponent.parse::<u32>().is_ok_and(|e| e > 4) => format!("{digits}e-{exponent:0>2}"),
        _ => x.to_string(),
    }
}

/// Nano-CPUs as a client sent them; 0 is no limit.
///
/// # Errors
/// Docker's text for less than 0.001 of a core.
pub fn nano_cpus(given: i64) -> Result<u64, String> {
    if given != 0 && given < MIN_CPU {
        return Err(format!("invalid cpu value {}: Must be at least 0.001", general(given as f64 / 1e9)));
    }
    Ok(given.unsigned_abs())
}

/// Bytes of memory as a client sent them; 0 is no limit.
///
/// # Errors
/// Docker's text for less than 4 MiB.
pub fn memory(given: i64) -> Result<u64, String> {
    if given != 0 && given < MIN_MEMORY {
        return Err(format!("invalid memory value {given}: Must be at least 4MiB"));
    }
    Ok(given.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_docker_s() {
        for (given, shown) in [(-1, "-1e-09"), (500_000, "0.0005"), (99_999, "9.9999e-05"), (-2_000_000_000, "-2")] {
            assert_eq!(nano_cpus(given), Err(format!("invalid cpu value {shown}: Must be at least 0.001")));
        }
        assert_eq!((nano_cpus(0), nano_cpus(1_000_000)), (Ok(0), Ok(1_000_000)));
        assert_eq!(memory(4_194_303), Err("invalid memory value 4194303: Must be at least 4MiB".to_owned()));
        assert_eq!((memory(0), memory(4 << 20)), (Ok(0), Ok(4 << 20)));
    }
}

//! What the fuzzer feeds, of what is nobody else's to call.

use futures_util::FutureExt;

/// Frames of a container's output as the client reads them; how many there were, if they were whole.
#[must_use]
pub fn frames(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    let read = crate::commands::container::output::frames(&mut bytes, |_, _| {
        count += 1;
        Ok(())
    });
    // Memory never has to be waited for.
    read.now_or_never()?.ok().map(|()| count)
}

//! Numbers in base 36 with a fixed number of digits, as join tokens carry them. Must never allocate by the input's length.

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The big-endian number `bytes` with `width` digits; higher digits are lost, so `width` must be enough.
pub(crate) fn encode(bytes: &[u8], width: usize) -> String {
    let mut rest = bytes.to_vec();
    let mut out = vec!['0'; width];
    for slot in out.iter_mut().rev() {
        let mut carry = 0u32;
        for b in &mut rest {
            let v = carry * 256 + u32::from(*b);
            // v / 36 < 256 because carry < 36.
            *b = (v / 36) as u8;
            carry = v % 36;
        }
        *slot = char::from(DIGITS[carry as usize]);
    }
    out.into_iter().collect()
}

/// The number as `N` big-endian bytes, or `None` if a character is no digit or the number is too large.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0u8; N];
    for c in text.bytes() {
        let digit = DIGITS.iter().position(|d| *d == c)?;
        let mut carry = digit as u32;
        for b in out.iter_mut().rev() {
            let v = u32::from(*b) * 36 + carry;
            *b = (v & 0xff) as u8;
            carry = v >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(out)
}

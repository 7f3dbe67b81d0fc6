//! Passing over the plain bytes of a string.

/// How many bytes come before the first quote, backslash or control character, or the end.
///
/// Eight bytes at a time: subtracting 1 from each byte of a word borrows into a byte's highest bit where the byte was
/// zero, which finds equal bytes by exclusive or, and subtracting 0x20 finds the control characters. A borrow can also
/// reach the byte above one that was found, never one below, so the lowest mark is always right.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quotes | backslashes | controls) & HIGHS;
        if found != 0 {
            return 8 * index + found.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().take_while(|&&byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
    8 * words.len() + tail
}

#[cfg(test)]
mod tests {
    use super::plain_len;

    #[test]
    fn plain_len_agrees_with_a_loop() {
        for special in 0..=255_u8 {
            for at in 0..20 {
                for filler in [b'a', 0x80, 0xff, b' ', b'!', b'#', b']', 0x7f] {
                    let mut bytes = vec![filler; 20];
                    bytes[at] = special;
                    let expected = if matches!(special, b'"' | b'\\' | 0..=0x1f) { at } else { 20 };
                    assert_eq!(plain_len(&bytes), expected, "{special:#x} at {at} among {filler:#x}");
                    bytes[19 - at] = b'"';
                    let expected = expected.min(19 - at);
                    assert_eq!(plain_len(&bytes), expected, "{special:#x} at {at} among {filler:#x}");
                }
            }
        }
    }
}

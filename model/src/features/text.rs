//! Texts to hashed rows: letter trigrams as in DSSM (Huang et al., CIKM 2013) and whole words.

/// The bytes that mark a word's ends, as in DSSM's `#good#`.
const BOUNDARY: char = '#';
const NGRAM_LETTERS: usize = 3;
/// Keeps a word apart from the n-gram of the same letters.
const WORD_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The rows (below `buckets`) of a text's letter trigrams and words, with repetition, in the text's order.
pub(super) fn hashed_rows(text: &str, buckets: usize) -> Vec<u32> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    let mut rows = Vec::new();
    for word in words {
        rows.push(row(word.as_bytes(), WORD_SEED, buckets));
        rows.extend(trigrams(word).iter().map(|gram| row(gram.as_bytes(), 0, buckets)));
    }
    rows
}

fn trigrams(word: &str) -> Vec<String> {
    let letters: Vec<char> = std::iter::once(BOUNDARY).chain(word.chars()).chain([BOUNDARY]).collect();
    letters.windows(NGRAM_LETTERS).map(|w| w.iter().collect()).collect()
}

/// FNV-1a, finished with a mixer so that its low bits are good; stable across machines and releases.
pub(super) fn row(bytes: &[u8], seed: u64, buckets: usize) -> u32 {
    let fnv =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325 ^ seed, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((mixed ^ (mixed >> 32)) % buckets as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigrams_are_those_of_dssm() {
        assert_eq!(trigrams("good"), ["#go", "goo", "ood", "od#"]);
        assert_eq!(trigrams("é"), ["#é#"]);
    }

    #[test]
    fn case_and_punctuation_do_not_matter_but_words_do() {
        assert_eq!(hashed_rows("Toy Story!", 1 << 14), hashed_rows("toy, story", 1 << 14));
        assert_ne!(hashed_rows("toy", 1 << 14), hashed_rows("boy", 1 << 14));
        assert!(hashed_rows("  ?? ", 8).is_empty());
    }

    #[test]
    fn rows_are_spread_and_within_the_table() {
        let rows: std::collections::BTreeSet<u32> = (0..1000).flat_map(|n| hashed_rows(&format!("w{n}"), 64)).collect();
        assert_eq!(rows.len(), 64);
        assert!(rows.iter().all(|&r| r < 64));
    }
}

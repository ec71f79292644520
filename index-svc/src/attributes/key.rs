//! [`Key`]: an integer or a number as an `i64` of the same order, so that both are one kind of column.

/// The place of a value in the order of its kind. Keys of different kinds have nothing to do with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub i64);

impl Key {
    /// The key of an integer: itself.
    pub fn of_integer(integer: i64) -> Self {
        Self(integer)
    }

    /// The key of a finite number; -0 and 0 have the same.
    pub fn of_number(number: f64) -> Self {
        // Adding 0 turns -0 into 0 and leaves everything else.
        let bits = (number + 0.0).to_bits() as i64;
        Self(flip_if_negative(bits))
    }

    /// The integer whose key this is.
    pub fn to_integer(self) -> i64 {
        self.0
    }

    /// The number whose key this is.
    pub fn to_number(self) -> f64 {
        f64::from_bits(flip_if_negative(self.0) as u64)
    }

    /// The next greater key, if there is one.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The next lesser key, if there is one.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

/// IEEE 754 orders numbers by sign and magnitude; this makes the order that of two's complement, and is its own inverse.
fn flip_if_negative(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_their_numbers(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(Key::of_number(a).cmp(&Key::of_number(b)), a.partial_cmp(&b).unwrap());
            prop_assert_eq!(Key::of_number(a).to_number(), a);
        }
    }

    #[test]
    fn zero_has_one_key() {
        assert_eq!(Key::of_number(-0.0), Key::of_number(0.0));
        assert_eq!(Key::of_number(0.0).next().map(Key::to_number), Some(f64::from_bits(1)));
    }
}

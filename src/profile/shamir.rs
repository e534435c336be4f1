//! Shamir's secret sharing over GF(2^8), byte by byte.
//!
//! The field is GF(2)\[x\] modulo 0x11b, that of AES. A share is `x` (1 byte, public, never zero)
//! and `y` (32 bytes); the secret is the polynomial's value at zero; a threshold of `t` is a
//! polynomial of degree `t − 1`, so a threshold of 1 gives every share the secret itself.
//!
//! All arithmetic runs in constant time: no table is indexed by, and no branch taken on, a value.

use zeroize::Zeroizing;

/// One share of a 32-byte secret.
pub struct Share {
    /// Where the polynomial was taken; never zero.
    pub x: u8,
    /// The polynomial's values there, one per byte of the secret. They are where they are: a share that
    /// moves leaves no copy behind.
    pub y: Box<Zeroizing<[u8; 32]>>,
}

impl Share {
    /// A share whose values are still to come.
    pub fn empty(x: u8) -> Self {
        Self { x, y: Box::new(Zeroizing::new([0; 32])) }
    }
}

/// Splits `secret` into one share for each of `indexes`, of which any `coefficients.len() + 1`
/// give it back. The coefficients are fresh random bytes, one row per power of x from the first.
///
/// The indexes must be distinct and not zero; [`combine`] finds shares of which that isn't true.
pub fn split(
    secret: &[u8; 32],
    coefficients: &[Zeroizing<[u8; 32]>],
    indexes: &[u8],
) -> Vec<Share> {
    indexes
        .iter()
        .map(|&x| {
            let mut share = Share::empty(x);
            // Horner's rule, from the highest power down to the secret.
            for row in coefficients.iter().rev().map(|row| &**row).chain([secret]) {
                for (value, coefficient) in share.y.iter_mut().zip(row) {
                    *value = multiply(*value, x) ^ coefficient;
                }
            }
            share
        })
        .collect()
}

/// The secret that the shares give, or none where there are no shares, or two have the same `x`,
/// or one has an `x` of zero.
///
/// Too few shares, or wrong ones, give a wrong secret: the caller checks what comes out.
pub fn combine(shares: &[Share]) -> Option<Zeroizing<[u8; 32]>> {
    let usable = !shares.is_empty()
        && shares.iter().enumerate().all(|(i, share)| {
            share.x != 0 && shares[..i].iter().all(|earlier| earlier.x != share.x)
        });
    usable.then(|| {
        let mut secret = Zeroizing::new([0; 32]);
        interpolate(shares, 0, &mut secret);
        secret
    })
}

/// The share at the index `x`, from shares that are enough to give the secret.
pub fn share_at(shares: &[Share], x: u8) -> Share {
    let mut share = Share::empty(x);
    interpolate(shares, x, &mut share.y);
    share
}

/// Adds the polynomial's values at `at` to `out`, by Lagrange's formula.
fn interpolate(shares: &[Share], at: u8, out: &mut [u8; 32]) {
    for (i, share) in shares.iter().enumerate() {
        let mut numerator = 1;
        let mut denominator = 1;
        for (_, other) in shares.iter().enumerate().filter(|&(j, _)| j != i) {
            numerator = multiply(numerator, at ^ other.x);
            denominator = multiply(denominator, share.x ^ other.x);
        }
        let weight = multiply(numerator, invert(denominator));
        for (sum, value) in out.iter_mut().zip(share.y.iter()) {
            *sum ^= multiply(weight, *value);
        }
    }
}

/// The product in GF(2^8).
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        let carry = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (carry & 0x1b);
        b >>= 1;
    }
    product
}

/// The inverse in GF(2^8), as the 254th power; zero for zero.
fn invert(a: u8) -> u8 {
    // 254 = 2 + 4 + 8 + 16 + 32 + 64 + 128.
    let mut square = a;
    let mut power = 1;
    for _ in 0..7 {
        square = multiply(square, square);
        power = multiply(power, square);
    }
    power
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chance::cases;

    /// The field by its logarithms to the base 3, as textbooks have it.
    struct Tables {
        exp: [u8; 255],
        log: [usize; 256],
    }

    impl Tables {
        fn new() -> Self {
            let (mut exp, mut log) = ([0; 255], [0; 256]);
            let mut value: u16 = 1;
            for (power, slot) in exp.iter_mut().enumerate() {
                *slot = u8::try_from(value).unwrap();
                log[usize::from(value)] = power;
                value ^= value << 1;
                if value > 255 {
                    value ^= 0x11b;
                }
            }
            Self { exp, log }
        }

        fn multiply(&self, a: u8, b: u8) -> u8 {
            if a == 0 || b == 0 {
                return 0;
            }
            self.exp[(self.log[usize::from(a)] + self.log[usize::from(b)]) % 255]
        }

        fn power(&self, a: u8, exponent: usize) -> u8 {
            (0..exponent).fold(1, |product, _| self.multiply(product, a))
        }
    }

    #[test]
    fn the_field_is_that_of_the_tables() {
        let tables = Tables::new();
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), tables.multiply(a, b), "{a} * {b}");
            }
            assert_eq!(multiply(a, invert(a)), u8::from(a != 0), "1 / {a}");
        }
    }

    fn rows(coefficients: &[[u8; 32]]) -> Vec<Zeroizing<[u8; 32]>> {
        coefficients.iter().copied().map(Zeroizing::new).collect()
    }

    /// A secret, coefficients, and at least as many distinct indexes as open it.
    fn sharings() -> impl Strategy<Value = ([u8; 32], Vec<[u8; 32]>, Vec<u8>)> {
        (1usize..6).prop_flat_map(|threshold| {
            (
                any::<[u8; 32]>(),
                proptest::collection::vec(any::<[u8; 32]>(), threshold - 1),
                proptest::sample::subsequence((1..=255).collect::<Vec<u8>>(), threshold..9)
                    .prop_shuffle(),
            )
        })
    }

    proptest! {
        #![proptest_config(cases!(256))]

        #[test]
        fn shares_are_the_polynomial((secret, coefficients, indexes) in sharings()) {
            let tables = Tables::new();
            for share in split(&secret, &rows(&coefficients), &indexes) {
                for byte in 0..32 {
                    let expected = coefficients.iter().enumerate().fold(secret[byte], |sum, (i, row)| {
                        sum ^ tables.multiply(row[byte], tables.power(share.x, i + 1))
                    });
                    prop_assert_eq!(share.y[byte], expected);
                }
            }
        }

        #[test]
        fn any_threshold_of_the_shares_opens((secret, coefficients, indexes) in sharings()) {
            let threshold = coefficients.len() + 1;
            let shares = split(&secret, &rows(&coefficients), &indexes);
            prop_assert_eq!(*combine(&shares).unwrap(), secret);
            for window in shares.windows(threshold) {
                prop_assert_eq!(*combine(window).unwrap(), secret);
            }
        }

        #[test]
        fn one_share_less_does_not((secret, mut coefficients, indexes) in sharings()) {
            prop_assume!(!coefficients.is_empty());
            // A leading coefficient of zero would make it a sharing of a lower threshold.
            coefficients.last_mut().unwrap().iter_mut().for_each(|byte| *byte |= 1);
            let shares = split(&secret, &rows(&coefficients), &indexes);
            for window in shares.windows(coefficients.len()) {
                prop_assert_ne!(*combine(window).unwrap(), secret);
            }
        }

        /// One share less leaves every secret possible: there is a polynomial through it.
        #[test]
        fn one_share_less_says_nothing((secret, coefficients, indexes) in sharings(), other: [u8; 32]) {
            prop_assume!(!coefficients.is_empty());
            let mut shares = split(&secret, &rows(&coefficients), &indexes);
            shares.truncate(coefficients.len());
            let known: Vec<u8> = shares.iter().map(|share| share.x).collect();
            let free = (1..=255).find(|x| !known.contains(x)).unwrap();
            shares.push(Share { x: 0, y: Box::new(Zeroizing::new(other)) });
            let fits = share_at(&shares, free);
            shares.pop();
            shares.push(fits);
            prop_assert_eq!(*combine(&shares).unwrap(), other);
        }

        #[test]
        fn a_share_at_an_unused_index_fits((secret, coefficients, indexes) in sharings(), at in 1u8..) {
            let shares = split(&secret, &rows(&coefficients), &indexes);
            let expected = split(&secret, &rows(&coefficients), &[at]);
            prop_assert_eq!(**share_at(&shares, at).y, **expected[0].y);
        }
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        let share = |x| Share { x, y: Box::new(Zeroizing::new([9; 32])) };
        assert!(combine(&[]).is_none());
        assert!(combine(&[share(0)]).is_none());
        assert!(combine(&[share(3), share(3)]).is_none());
        assert!(combine(&[share(3), share(0)]).is_none());
        assert!(combine(&[share(3), share(4)]).is_some());
    }
}

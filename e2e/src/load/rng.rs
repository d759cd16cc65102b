//! A small seeded generator. The sequence for a seed must never change between versions of a library, because runs are
//! compared by their seeds; that is why it is spelled out here (`SplitMix64`).

/// A stream of pseudo-random numbers, the same for the same seed everywhere.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A stream of its own for item `index` of `seed`, so that an item's numbers do not depend on how many were drawn before.
    pub fn for_item(seed: u64, index: u64) -> Self {
        let mut rng = Self::new(seed ^ index.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next_u64();
        rng
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit a double exactly
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponentially distributed with the given mean, as the gaps of a Poisson process.
    pub fn next_exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next_f64()).ln()
    }

    /// A whole number whose mean is `value`: rounded up with the probability of the fraction. At most `u32::MAX`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, which is what is said
    pub fn round(&mut self, value: f64) -> u32 {
        let whole = value.max(0.0).floor();
        (whole as u32).saturating_add(u32::from(self.next_f64() < value - whole))
    }
}

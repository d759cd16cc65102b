//! Seeded numbers without state that outlives its use: what is drawn for a request or a start-up depends on the seed and
//! on which one it is, not on what was drawn before. So every policy meets the same requests and the same start-ups.

/// A small, fast, seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each pair.
    pub fn of(seed: u64, item: u64) -> Self {
        let mut random = Self(seed ^ item.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let _mixed = random.draw();
        random
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number that is `value` on average: rounded up as often as its fraction says.
    pub fn round(&mut self, value: f64) -> u32 {
        let whole = value.floor();
        whole as u32 + u32::from(self.unit() < value - whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_item_draw_the_same_and_others_differ() {
        let draw = |seed, item| Random::of(seed, item).draw();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn rounding_keeps_the_mean() {
        let total: u32 = (0..10_000).map(|item| Random::of(7, item).round(2.5)).sum();
        assert!((24_700..25_300).contains(&total), "{total}");
    }
}

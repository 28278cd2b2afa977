//! A deterministic generator of random numbers.

/// A generator of xorshift64, whose seed is not zero.
pub struct Dice(pub u64);

impl Dice {
    /// Returns a random number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

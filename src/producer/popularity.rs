//! Which video the next play is of.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::model::config::Popularity;

/// Draws videos, by their index.
pub(super) struct Picker {
    videos: usize,
    zipf: Option<Zipf<f64>>,
    rng: StdRng,
}

impl Picker {
    /// Draws from `0..videos`, at least one video.
    pub(super) fn new(popularity: Popularity, videos: usize) -> Self {
        let videos = videos.max(1);
        let zipf = match popularity {
            Popularity::Uniform => None,
            // Checked at the command line: an exponent above 0.
            Popularity::Zipf(exponent) => Zipf::new(videos as f64, exponent).ok(),
        };
        Self { videos, zipf, rng: StdRng::from_rng(&mut rand::rng()) }
    }

    /// The next video's index.
    pub(super) fn pick(&mut self) -> usize {
        match self.zipf {
            None => self.rng.random_range(0..self.videos),
            Some(zipf) => (zipf.sample(&mut self.rng) as usize).clamp(1, self.videos) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(popularity: Popularity) -> Vec<u32> {
        let mut picker = Picker::new(popularity, 100);
        let mut counts = vec![0; 100];
        (0..100_000).for_each(|_| counts[picker.pick()] += 1);
        counts
    }

    #[test]
    fn uniform_is_even() {
        // A thousand each, with a standard deviation of 32.
        assert!(draw(Popularity::Uniform).iter().all(|count| (800..1_200).contains(count)));
    }

    #[test]
    fn zipf_favours_few() {
        let counts = draw(Popularity::Zipf(1.0));
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!(
            (1.8..2.2).contains(&ratio),
            "the first is played {ratio} times as often as the second"
        );
        assert!(counts[0] > 50 * counts[99]);
    }
}

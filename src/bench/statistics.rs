//! Medians, spreads and means of times and of their ratios to native.

use serde::{Deserialize, Serialize};

/// What one run of a program took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// From the start of the process to its end.
    pub wall: f64,
    /// Processor time of the guest's process (user and system), the translator service's not included.
    pub cpu: f64,
}

/// One program in one way, over all rounds. The ratios are to the native run of the same round, so that a drift of
/// the machine's speed cancels out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Seconds by the wall clock.
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// Median of the processor seconds.
    pub cpu: f64,
    /// Median of the wall clock ratios.
    pub ratio: f64,
    pub ratio_min: f64,
    pub ratio_max: f64,
    /// Median of the ratios of processor time.
    pub cpu_ratio: f64,
}

impl Times {
    /// `native` holds the same rounds in the same order.
    pub fn of(samples: &[Sample], native: &[Sample]) -> Self {
        let wall: Vec<f64> = samples.iter().map(|s| s.wall).collect();
        let cpu: Vec<f64> = samples.iter().map(|s| s.cpu).collect();
        let ratios = |of: fn(&Sample) -> f64| -> Vec<f64> {
            samples.iter().zip(native).map(|(s, n)| of(s) / of(n).max(TICK)).collect()
        };
        let (wall_ratios, cpu_ratios) = (ratios(|s| s.wall), ratios(|s| s.cpu));
        Self {
            median: median(&wall),
            min: least(&wall),
            max: greatest(&wall),
            cpu: median(&cpu),
            ratio: median(&wall_ratios),
            ratio_min: least(&wall_ratios),
            ratio_max: greatest(&wall_ratios),
            cpu_ratio: median(&cpu_ratios),
        }
    }
}

/// The kernel counts processor time in microseconds at best: a process can seem to have used none.
const TICK: f64 = 1e-6;

/// The middle value; of an even count, the mean of the two in the middle. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The right mean for ratios; `None` of none.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|v| v.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
}

fn greatest(values: &[f64]) -> f64 {
    values.iter().copied().reduce(f64::max).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let samples = |walls: [f64; 3]| walls.map(|wall| Sample { wall, cpu: wall / 2.0 });
        let t = Times::of(&samples([2.0, 40.0, 6.0]), &samples([1.0, 20.0, 2.0]));
        assert_eq!((t.median, t.min, t.max), (6.0, 2.0, 40.0));
        assert_eq!((t.ratio, t.ratio_min, t.ratio_max), (2.0, 2.0, 3.0));
        assert_eq!((t.cpu, t.cpu_ratio), (3.0, 2.0));
    }

    #[test]
    fn no_processor_time_is_no_division_by_zero() {
        let t = Times::of(&[Sample { wall: 1.0, cpu: 0.0 }], &[Sample { wall: 1.0, cpu: 0.0 }]);
        assert_eq!(t.cpu_ratio, 0.0);
    }

    #[test]
    fn geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        assert_eq!(geometric_mean(&[4.0, 0.25]), Some(1.0));
        assert_eq!(geometric_mean(&[]), None);
    }
}

//! Several measurements of one thing, and how one of them is told from all.

use std::fmt;
use std::time::Duration;

/// Measurements of one thing. The median is what counts: it takes no notice of the odd one that something else
/// disturbed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        let place = self.0.partition_point(|other| *other < value);
        self.0.insert(place, value);
    }

    /// Adds a time, in milliseconds.
    pub(crate) fn push_time(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1000.0);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// What so large a part of the measurements does not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let place = (self.0.len() as f64 * part) as usize;
        *self.0.get(place).or(self.0.last()).expect("something was measured")
    }

    /// The median, and from where to where the measurements go.
    pub(crate) fn show(&self, unit: &str) -> String {
        let (Some(least), Some(most)) = (self.0.first(), self.0.last()) else { return "not measured".to_owned() };
        if self.0.len() == 1 {
            return format!("{}{unit}", Figure(*least));
        }
        format!("{}{unit} ({} to {})", Figure(self.median()), Figure(*least), Figure(*most))
    }
}

/// A number with as many digits as mean something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure(pub(crate) f64);

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        write!(formatter, "{:.digits$}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let mut sample = Sample::default();
        for value in [3.0, 1000.0, 1.0] {
            sample.push(value);
        }
        assert_eq!(sample.show(" ms"), "3.00 ms (1.00 to 1000)");
    }
}

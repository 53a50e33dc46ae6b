//! Means over seeds, and what can be said about them.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Mean, standard deviation and 95 % interval of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (n - 1), of at least two values.
    pub deviation: Option<f64>,
    /// Half the width of the 95 % interval of the mean, by Student's t.
    pub interval: Option<f64>,
}

impl Summary {
    /// `None` of nothing.
    pub fn from_values(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        let interval = deviation.and_then(|deviation| {
            let t = student(count)?.inverse_cdf(0.975);
            Some(t * deviation / (count as f64).sqrt())
        });
        Some(Self {
            count,
            mean,
            deviation,
            interval,
        })
    }
}

/// A paired t test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// The differences.
    pub difference: Summary,
    /// The two-sided p value of no difference; `None` with fewer than two pairs, or where all differ by the same.
    pub p: Option<f64>,
}

impl Paired {
    /// Of `b - a`; `None` without pairs.
    pub fn new(a: &[f64], b: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
        let difference = Summary::from_values(&differences)?;
        let p = difference
            .deviation
            .filter(|&d| d > 0.0)
            .and_then(|deviation| {
                let t = difference.mean / (deviation / (difference.count as f64).sqrt());
                Some(2.0 * student(difference.count)?.cdf(-t.abs()))
            });
        Some(Self { difference, p })
    }
}

fn student(count: usize) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, (count - 1) as f64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
    }

    /// The textbook's: t(0.975) is 4.302653 with 2 and 2.776445 with 4 degrees of freedom.
    #[test]
    fn intervals_are_those_of_the_table() {
        let three = Summary::from_values(&[1.0, 2.0, 3.0]).unwrap();
        close(three.deviation.unwrap(), 1.0);
        close(three.interval.unwrap(), 4.302653 / 3f64.sqrt());
        let five = Summary::from_values(&[2.0, 4.0, 4.0, 5.0, 10.0]).unwrap();
        close(five.mean, 5.0);
        close(five.deviation.unwrap(), 3.0);
        close(five.interval.unwrap(), 2.776445 * 3.0 / 5f64.sqrt());
        let one = Summary::from_values(&[7.0]).unwrap();
        assert_eq!((one.mean, one.deviation, one.interval), (7.0, None, None));
        assert_eq!(Summary::from_values(&[]), None);
    }

    /// Student's own sleep data (1908): t = 4.0621 with 9 degrees of freedom, p = 0.002833.
    #[test]
    fn the_paired_test_gives_students_own_result() {
        let a = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let b = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let test = Paired::new(&a, &b).unwrap();
        close(test.difference.mean, 1.58);
        assert!((test.p.unwrap() - 0.002833).abs() < 1e-6);
        assert_eq!(Paired::new(&[1.0], &[2.0]).unwrap().p, None);
        assert_eq!(Paired::new(&[1.0, 2.0], &[2.0, 3.0]).unwrap().p, None);
    }
}
